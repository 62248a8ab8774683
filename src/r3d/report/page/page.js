"use strict";
// Draws the page from the numbers in #contents. Texts are set as texts, never as markup.

const contents = JSON.parse(document.getElementById("contents").textContent);
const main = document.querySelector("main");
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#7f7f7f"];
const MOST_ROWS = 200;
const MOST_NUMBERED = 40;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function drawn(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function unpack(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Kind(bytes.buffer);
}

const percent = (share, digits = 1) => share === null || share === undefined ? "" : `${(100 * share).toFixed(digits)} %`;
const bounds = (interval) => interval ? `${(100 * interval[0]).toFixed(1)} to ${(100 * interval[1]).toFixed(1)}` : "";
const signed = (share) => `${share > 0 ? "+" : ""}${(100 * share).toFixed(1)}`;
const probability = (p) => p < 0.001 ? "< 0.001" : p.toFixed(3);
const runName = (run) => `${run.experiment}, ${run.split}`;

// Numbers of a run for each video, unpacked when they are first needed.
function numbers(run) {
  if (!run.unpacked) {
    const set = contents.sets[run.set];
    const Kind = set.labels.length > 2 ** 15 ? Int32Array : Int16Array;
    set.unpackedTruth ??= unpack(set.truth, Kind);
    run.unpacked = {
      truth: set.unpackedTruth,
      predicted: unpack(run.predicted, Kind),
      score: Array.from(unpack(run.score, Uint16Array), (score) => score / 65535),
      rank: unpack(run.rank, Uint8Array),
    };
  }
  return run.unpacked;
}

function section(id, title, text) {
  const made = element("section", { id, "aria-labelledby": `${id}-title` },
    element("h2", { id: `${id}-title` }, title), text ? element("p", { class: "quiet" }, text) : null);
  main.append(made);
  document.querySelector("nav div").append(element("a", { href: `#${id}` }, title));
  return made;
}

// columns: [{name, value: row => number or text, show?: row => text or node, kind?, share?, title?}]
function table(columns, rows, options = {}) {
  const body = element("tbody");
  const heads = columns.map((column, place) => element("th", { scope: "col", class: isNumber(column) ? "number" : null, title: column.title },
    options.fixed ? column.name : element("button", { type: "button", onclick: () => sortBy(place) }, column.name)));
  const made = element("table", { "aria-label": options.label }, element("thead", {}, element("tr", {}, ...heads)), body);
  let shown = rows, limit = options.limit ?? MOST_ROWS;
  function isNumber(column) { return (column.kind ?? "number") === "number"; }
  function cell(column, row) {
    const share = column.share?.(row);
    const names = [isNumber(column) ? "number" : column.kind, column.mark?.(row), share === undefined ? "" : "bar"];
    return element("td", { class: names.filter(Boolean).join(" ") || null, style: share === undefined ? null : `--share: ${100 * share}` },
      column.show ? column.show(row) : String(column.value(row) ?? ""));
  }
  function fill() {
    body.replaceChildren(...shown.slice(0, limit).map((row) => element("tr", {}, ...columns.map((column) => cell(column, row)))));
    more.hidden = shown.length <= limit;
    more.textContent = `Show all ${shown.length}`;
  }
  function sortBy(place, given) {
    const head = heads[place];
    const down = given ?? (head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "ascending" : isNumber(columns[place]));
    heads.forEach((each) => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const { value } = columns[place];
    const order = (one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === null || a === undefined || b === null || b === undefined) return (b !== null && b !== undefined) - (a !== null && a !== undefined);
      return (typeof a === "string" ? a.localeCompare(b) : a - b) * (down ? -1 : 1);
    };
    shown = [...shown].sort(order);
    fill();
  }
  const more = element("button", { type: "button", class: "plain", onclick: () => { limit = Infinity; fill(); } });
  fill();
  if (options.sort !== undefined) sortBy(options.sort, options.down);
  return element("div", {}, element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": options.label }, made), more);
}

function choice(name, options, chosen, changed) {
  const list = element("select", { onchange: (event) => changed(Number(event.target.value)) },
    ...options.map((text, value) => element("option", { value, selected: value === chosen }, text)));
  return element("label", {}, name, list);
}

// A chart of lines: [{name, colour, dashed, x, y}]
function chart(title, curves, { width = 430, height = 230, from, to, log = false, xName = "epoch", diagonal = false } = {}) {
  const points = curves.flatMap((curve) => curve.y.map((y, i) => [curve.x[i], y])).filter(([, y]) => Number.isFinite(y) && (!log || y > 0));
  const [left, top, right, bottom] = [46, 8, width - 8, height - 30];
  const scale = log ? Math.log10 : (y) => y;
  const ys = points.map(([, y]) => scale(y)), xs = points.map(([x]) => x);
  const reduce = (values, pick, fallback) => values.length ? values.reduce((a, b) => pick(a, b)) : fallback;
  const x0 = from?.[0] ?? reduce(xs, Math.min, 0), x1 = to?.[0] ?? reduce(xs, Math.max, 1);
  const y0 = from?.[1] ?? reduce(ys, Math.min, 0), y1 = to?.[1] ?? reduce(ys, Math.max, 1);
  const placeX = (x) => left + (right - left) * (x - x0) / (x1 - x0 || 1);
  const placeY = (y) => bottom - (bottom - top) * (scale(y) - y0) / (y1 - y0 || 1);
  const picture = drawn("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": title });
  const short = (value) => Number(value.toPrecision(3)).toString();
  for (let i = 0; i <= 4; i += 1) {
    const level = y0 + (y1 - y0) * i / 4, y = bottom - (bottom - top) * i / 4;
    picture.append(drawn("line", { x1: left, x2: right, y1: y, y2: y, class: "grid" }),
      drawn("text", { x: left - 5, y: y + 4, "text-anchor": "end" }, short(log ? 10 ** level : level)));
  }
  picture.append(drawn("text", { x: left, y: height - 14 }, short(x0)), drawn("text", { x: right, y: height - 14, "text-anchor": "end" }, short(x1)),
    drawn("text", { x: (left + right) / 2, y: height - 14, "text-anchor": "middle" }, xName));
  if (diagonal) picture.append(drawn("line", { x1: placeX(0), y1: placeY(0), x2: placeX(1), y2: placeY(1), class: "grid", "stroke-dasharray": "4 4" }));
  for (const curve of curves) {
    const path = curve.y.map((y, i) => [curve.x[i], y]).filter(([, y]) => Number.isFinite(y) && (!log || y > 0)).map(([x, y]) => `${placeX(x).toFixed(1)},${placeY(y).toFixed(1)}`);
    picture.append(drawn("polyline", { points: path.join(" "), class: "curve", stroke: curve.colour, ...(curve.dashed ? { "stroke-dasharray": "5 3" } : {}) }, drawn("title", {}, curve.name)));
    if (path.length <= 25) picture.append(...path.map((point) => drawn("circle", { cx: point.split(",")[0], cy: point.split(",")[1], r: 2.5, fill: curve.colour })));
  }
  return element("figure", {}, element("figcaption", {}, title), picture);
}

function bars(title, edges, counts, unit) {
  const [width, height, left, bottom] = [430, 190, 46, 160];
  const most = Math.max(...counts, 1);
  const picture = drawn("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": title });
  picture.append(drawn("text", { x: left - 5, y: 14, "text-anchor": "end" }, String(most)), drawn("line", { x1: left, x2: width - 8, y1: bottom, y2: bottom, class: "grid" }));
  const step = (width - 8 - left) / counts.length;
  counts.forEach((count, i) => picture.append(drawn("rect", { x: left + i * step + 0.5, width: step - 1, y: bottom - 150 * count / most, height: 150 * count / most, class: "filled" },
    drawn("title", {}, `${edges[i]} to ${edges[i + 1]} ${unit}: ${count}`))));
  picture.append(drawn("text", { x: left, y: height - 12 }, String(edges[0])), drawn("text", { x: width - 8, y: height - 12, "text-anchor": "end" }, `${edges.at(-1)} ${unit}`));
  return element("figure", {}, element("figcaption", {}, title), picture);
}

function overview() {
  const { runs, sets, means, pairs } = contents;
  const place = section("overview", "Overview", "Accuracy over the listed videos: one without a result is wrong. Intervals hold the true value in 95 of 100 such cases: Wilson's, or where videos were cut from common recordings a bootstrap over those. "
    + "Bold is best among runs on the same videos, and only where its difference to each other one is more than chance (paired bootstrap, 95 %).");
  // The best of a set by top 1, if nothing else on the same videos may be as good.
  const best = new Set(runs.map((_, i) => i).filter((i) => {
    const rivals = pairs.filter((pair) => pair.runs.includes(i));
    return rivals.length && rivals.every((pair) => pair.runs[0] === i ? pair.interval[0] > 0 : pair.interval[1] < 0);
  }));
  const ks = [...new Set(runs.flatMap((run) => Object.keys(run.top)))].map(Number).sort((a, b) => a - b);
  const rows = runs.map((run, i) => ({ run, i }));
  const columns = [
    { name: "experiment", kind: "name", value: ({ run }) => run.experiment },
    { name: "split", kind: "name", value: ({ run }) => run.split },
    { name: "videos", value: ({ run }) => run.listed, show: ({ run }) => String(run.listed) },
    { name: "found", value: ({ run }) => run.found },
    ...ks.flatMap((k) => [
      { name: `top ${k}`, value: ({ run }) => run.top[k]?.value, show: ({ run }) => percent(run.top[k]?.value), share: ({ run }) => run.top[k]?.value ?? 0, mark: ({ i }) => k === 1 && best.has(i) ? "best" : "" },
      { name: "95 % interval", value: ({ run }) => run.top[k]?.interval[0], show: ({ run }) => bounds(run.top[k]?.interval) },
    ]),
    { name: "mean over classes", value: ({ run }) => run.mean_class.value, show: ({ run }) => percent(run.mean_class.value) },
    { name: "95 % interval", value: ({ run }) => run.mean_class.interval[0], show: ({ run }) => bounds(run.mean_class.interval) },
    { name: "single clips", title: "top 1 of the clips that the training validates on, after its last epoch", value: ({ run }) => run.clip_accuracy, show: ({ run }) => percent(run.clip_accuracy) },
    { name: "top 1 of found", value: ({ run }) => run.top[1]?.found, show: ({ run }) => percent(run.top[1]?.found) },
    { name: "calibration error", value: ({ run }) => run.calibration?.error, show: ({ run }) => percent(run.calibration?.error) },
    { name: "groups", title: "recordings that the videos were cut from, where names tell", value: ({ run }) => sets[run.set].groups || null },
  ];
  place.append(table(columns, rows, { label: "Accuracy of all runs" }));
  if (means.length) {
    const meanKs = [...new Set(means.flatMap((mean) => Object.keys(mean.top)))];
    const meanColumns = (name, pick) => [
      { name, value: (mean) => pick(mean)?.value, show: (mean) => percent(pick(mean)?.value) },
      { name: "deviation", value: (mean) => pick(mean)?.deviation, show: (mean) => pick(mean) ? `± ${(100 * pick(mean).deviation).toFixed(1)}` : "" },
      { name: "95 % interval", value: (mean) => pick(mean)?.interval?.[0], show: (mean) => bounds(pick(mean)?.interval) },
    ];
    place.append(element("h3", {}, "Means over splits"), table([
      { name: "experiment", kind: "name", value: (mean) => mean.experiment }, { name: "runs", value: (mean) => mean.n },
      ...meanKs.flatMap((k) => meanColumns(`top ${k}`, (mean) => mean.top[k])), ...meanColumns("mean over classes", (mean) => mean.mean_class),
    ], means, { label: "Means over splits" }));
  }
}

function videoName(set, video) { return set.ids[video]; }

function compare() {
  const { runs, sets, pairs } = contents;
  if (!pairs.length) return;
  const place = section("compare", "Compare", "Two runs on the same videos. The p-value is that of McNemar's exact test; the interval of the difference is a paired bootstrap over recordings.");
  const result = element("div");
  let chosen = 0;
  const names = pairs.map((pair) => pair.runs.map((i) => runName(runs[i])).join(" and "));
  place.append(element("div", { class: "controls" }, choice("Two runs", names, 0, (pair) => { chosen = pair; show(); })), result);
  function show() {
    const pair = pairs[chosen], [one, other] = pair.runs.map((i) => runs[i]), set = sets[one.set];
    const [a, b] = [numbers(one), numbers(other)];
    const perClass = set.labels.map((label) => ({ label, n: 0, one: 0, other: 0 }));
    const alone = [];
    a.truth.forEach((truth, video) => {
      const [right, otherRight] = [a.rank[video] === 1, b.rank[video] === 1];
      if (truth >= 0) { perClass[truth].n += 1; perClass[truth].one += right; perClass[truth].other += otherRight; }
      if (right !== otherRight) alone.push({ video, right: right ? one : other, wrong: right ? b : a });
    });
    const holds = pair.interval[0] > 0 || pair.interval[1] < 0;
    const better = pair.difference > 0 ? one : other;
    result.replaceChildren(
      element("p", {}, element("strong", {}, holds ? `${runName(better)} is better by ${percent(Math.abs(pair.difference))}.` : "No difference that could not be chance."),
        ` Difference of top 1 (first less second): ${signed(pair.difference)} points, 95 % interval ${pair.interval.map(signed).join(" to ")}; p ${pair.p < 0.001 ? "" : "= "}${probability(pair.p)}. `
        + `Right in one alone: ${pair.alone[0]} videos in ${runName(one)}, ${pair.alone[1]} in ${runName(other)}.`),
      element("h3", {}, "By class"),
      table([
        { name: "class", kind: "name", value: (row) => row.label }, { name: "videos", value: (row) => row.n },
        { name: runName(one), value: (row) => row.one / row.n, show: (row) => percent(row.one / row.n) },
        { name: runName(other), value: (row) => row.other / row.n, show: (row) => percent(row.other / row.n) },
        { name: "difference", value: (row) => (row.one - row.other) / row.n, show: (row) => signed((row.one - row.other) / row.n), mark: (row) => row.one > row.other ? "better" : row.one < row.other ? "worse" : "" },
      ], perClass.filter((row) => row.n), { label: "Difference by class", sort: 4 }),
      element("h3", {}, "Videos that only one gets right"),
      table([
        { name: "video", kind: "text", value: (row) => videoName(set, row.video) }, { name: "class", kind: "name", value: (row) => set.labels[a.truth[row.video]] ?? "" },
        { name: "right in", kind: "name", value: (row) => runName(row.right) },
        { name: "the other says", kind: "name", value: (row) => set.labels[row.wrong.predicted[row.video]] ?? "nothing" },
      ], alone, { label: "Videos that only one gets right" }));
  }
  show();
}

function training() {
  const runs = contents.runs.filter((run) => run.curves);
  if (!runs.length) return;
  const place = section("training", "Training", "Dashed lines are of the training clips, full ones of the validation.");
  const charts = element("div", { class: "charts" });
  const colour = (run) => COLOURS[runs.indexOf(run) % COLOURS.length];
  const shown = new Set(runs.slice(0, 8));
  const boxes = runs.map((run) => element("label", { style: "flex-direction: row; gap: 5px; align-items: center" },
    element("input", { type: "checkbox", checked: shown.has(run), onchange: (event) => { event.target.checked ? shown.add(run) : shown.delete(run); show(); } }),
    element("span", { style: `--colour: ${colour(run)}` }, runName(run))));
  place.append(element("div", { class: "legend controls" }, ...boxes), charts);
  function show() {
    const drawnRuns = runs.filter((run) => shown.has(run));
    const curves = (name) => drawnRuns.flatMap((run) => [["train", true], ["val", false]].flatMap(([part, dashed]) => {
      const y = run.curves[`${part}_${name}`];
      return y?.length ? [{ name: `${runName(run)}, ${part}`, colour: colour(run), dashed, x: run.curves[`${part}_epoch`], y }] : [];
    }));
    charts.replaceChildren(
      chart("Loss", curves("loss"), { from: [undefined, 0] }), chart("Top-1 accuracy of clips", curves("acc"), { from: [undefined, 0], to: [undefined, 1] }),
      chart("Learning rate", drawnRuns.map((run) => ({ name: runName(run), colour: colour(run), x: run.curves.train_epoch, y: run.curves.train_lr })), { log: true }));
  }
  show();
  const timed = runs.filter((run) => run.speed);
  if (timed.length) {
    place.append(element("h3", {}, "Speed"), table([
      { name: "experiment", kind: "name", value: (run) => run.experiment }, { name: "split", kind: "name", value: (run) => run.split },
      { name: "clips/s", value: (run) => run.speed.clips_per_second, show: (run) => run.speed.clips_per_second.toFixed(1) },
      { name: "waiting for data", value: (run) => run.speed.waiting, show: (run) => percent(run.speed.waiting), share: (run) => run.speed.waiting },
      { name: "hours", value: (run) => run.speed.seconds, show: (run) => (run.speed.seconds / 3600).toFixed(2) },
    ], timed, { label: "Speed of trainings" }));
  }
}

function classes() {
  const { runs, sets } = contents;
  const place = section("classes", "Classes", "How well each class is told, and what it is taken for. Videos without a result are a column of their own.");
  const result = element("div");
  place.append(element("div", { class: "controls" }, choice("Run", runs.map(runName), 0, show)), result);
  function show(number) {
    const run = runs[number], set = sets[run.set], { truth, predicted, rank } = numbers(run), n = set.labels.length;
    const rows = set.labels.map((label, place) => ({ label, place, n: 0, missing: 0, first: 0, among: 0, others: new Map() }));
    const counts = new Map(); // true * (n + 1) + predicted; n for none
    truth.forEach((label, video) => {
      if (label < 0) return;
      const row = rows[label], says = predicted[video] < 0 ? n : predicted[video];
      row.n += 1; row.missing += says === n; row.first += rank[video] === 1; row.among += rank[video] > 0;
      const key = label * (n + 1) + says;
      counts.set(key, (counts.get(key) ?? 0) + 1);
      if (rank[video] !== 1 && says !== n) row.others.set(says, (row.others.get(says) ?? 0) + 1);
    });
    for (const row of rows) row.most = [...row.others].sort((a, b) => b[1] - a[1])[0];
    const most = Math.max(...Object.keys(run.top).map(Number));
    const wrong = [...counts].map(([key, count]) => ({ truth: Math.floor(key / (n + 1)), says: key % (n + 1), count })).filter((row) => row.truth !== row.says && row.says !== n);
    result.replaceChildren(
      table([
        { name: "class", kind: "name", value: (row) => row.label }, { name: "videos", value: (row) => row.n }, { name: "no result", value: (row) => row.missing },
        { name: "top 1", value: (row) => row.first / row.n, show: (row) => percent(row.first / row.n), share: (row) => row.first / row.n },
        ...(most > 1 ? [{ name: `top ${most}`, value: (row) => row.among / row.n, show: (row) => percent(row.among / row.n) }] : []),
        { name: "mostly taken for", kind: "name", value: (row) => row.most ? set.labels[row.most[0]] : "", show: (row) => row.most ? `${set.labels[row.most[0]]} (${row.most[1]})` : "" },
      ], rows.filter((row) => row.n), { label: "Accuracy by class", sort: 3, down: false, limit: 1000 }),
      element("h3", {}, "Confusions"), n <= MOST_NUMBERED ? numberedMatrix(set, counts, n) : colouredMatrix(set, counts, n),
      element("h3", {}, "Most confused pairs"),
      table([
        { name: "class", kind: "name", value: (row) => set.labels[row.truth] }, { name: "taken for", kind: "name", value: (row) => set.labels[row.says] },
        { name: "videos", value: (row) => row.count }, { name: "of its videos", value: (row) => row.count / rows[row.truth].n, show: (row) => percent(row.count / rows[row.truth].n) },
      ], wrong, { label: "Most confused pairs", sort: 2, limit: 30 }));
  }
  show(0);
}

function numberedMatrix(set, counts, n) {
  const says = [...set.labels, "no result"];
  const rows = set.labels.map((label, truth) => {
    const cells = says.map((_, place) => counts.get(truth * (n + 1) + place) ?? 0);
    const total = cells.reduce((a, b) => a + b, 0) || 1;
    return element("tr", {}, element("th", { scope: "row", class: "name", title: label }, label), ...cells.map((count, place) =>
      element("td", { style: `background: rgb(var(--fill) / ${(0.75 * Math.sqrt(count / total)).toFixed(3)})`, title: `${label}, taken for ${says[place]}: ${count}` }, count ? String(count) : "")));
  });
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Confusion matrix" }, element("table", { class: "matrix" },
    element("thead", {}, element("tr", {}, element("td"), ...says.map((label) => element("th", { scope: "col", title: label }, label)))), element("tbody", {}, ...rows)));
}

function colouredMatrix(set, counts, n) {
  const size = n + 1, side = Math.max(1, Math.floor(720 / size));
  const canvas = element("canvas", { width: size * side, height: n * side, tabindex: "0", role: "img", "aria-label": `Confusion matrix of ${n} classes; arrow keys move over it` });
  const totals = new Float64Array(n), brush = canvas.getContext("2d"), reading = element("p", { "aria-live": "polite" }, "Point at a place, or move by the arrow keys, to read it.");
  for (const [key, count] of counts) totals[Math.floor(key / size)] += count;
  for (const [key, count] of counts) {
    const [row, column] = [Math.floor(key / size), key % size];
    brush.fillStyle = `rgba(${row === column ? "0, 114, 178" : "213, 94, 0"}, ${0.15 + 0.85 * Math.sqrt(count / totals[row])})`;
    brush.fillRect(column * side, row * side, side, side);
  }
  let [row, column] = [0, 0];
  function read() {
    row = Math.min(n - 1, Math.max(0, row)); column = Math.min(n, Math.max(0, column));
    reading.textContent = `${set.labels[row]}, taken for ${set.labels[column] ?? "nothing (no result)"}: ${counts.get(row * size + column) ?? 0} of ${totals[row]}`;
  }
  canvas.addEventListener("mousemove", (event) => {
    const box = canvas.getBoundingClientRect();
    row = Math.floor((event.clientY - box.top) / box.height * n); column = Math.floor((event.clientX - box.left) / box.width * size);
    read();
  });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!move) return;
    event.preventDefault();
    row += move[0]; column += move[1];
    read();
  });
  return element("div", {}, canvas, reading);
}

function calibrated() {
  const runs = contents.runs.filter((run) => run.calibration);
  if (!runs.length) return;
  const place = section("calibration", "Calibration", "Of the videos whose best score is 0.8, four in five should be right: points on the dashed line. Below it, scores promise too much. The calibration error is the mean distance, weighted by videos.");
  const result = element("div", { class: "charts" });
  place.append(element("div", { class: "controls" }, choice("Run", runs.map(runName), 0, show)), result);
  function show(number) {
    const { n, confidence, accuracy, error } = runs[number].calibration;
    const filled = n.map((_, i) => i).filter((i) => n[i]);
    const edges = n.map((_, i) => (i / n.length).toFixed(2)).concat("1");
    result.replaceChildren(
      chart(`Reliability (calibration error ${percent(error)})`, [{ name: runName(runs[number]), colour: COLOURS[0], x: filled.map((i) => confidence[i]), y: filled.map((i) => accuracy[i]) }],
        { from: [0, 0], to: [1, 1], width: 330, height: 330, xName: "best score", diagonal: true }),
      bars("Videos by best score", edges, n, "score"));
  }
  show(0);
}

function gallery() {
  const numbered = contents.runs.map((run, i) => ({ run, i })).filter(({ run }) => run.gallery?.length);
  if (!numbered.length) return;
  const KINDS = { all: "all", confident: "most confidently wrong", uncertain: "least certain", random: "random sample" };
  const place = section("gallery", "Errors", "The frames that the network saw: point at them to let them move, press to see what it looked at (where a class activation map is there).");
  const cards = element("div", { class: "cards" }), count = element("span", { class: "quiet", "aria-live": "polite" });
  const state = { run: 0, kind: "all", label: "", order: "kind" };
  const changed = (name) => (event) => { state[name] = event.target.value; show(); };
  place.append(element("div", { class: "controls" },
    choice("Run", numbered.map(({ run }) => runName(run)), 0, (number) => { state.run = number; show(); }),
    element("label", {}, "Kind", element("select", { id: "gallery-kind", onchange: changed("kind") }, ...Object.entries(KINDS).map(([value, text]) => element("option", { value }, text)))),
    element("label", {}, "Class contains", element("input", { type: "search", id: "gallery-class", oninput: changed("label") })),
    element("label", {}, "Order", element("select", { id: "gallery-order", onchange: changed("order") }, ...["kind", "score", "class", "video"].map((value) => element("option", { value }, value)))), count), cards);
  function show() {
    const { run } = numbered[state.run], set = contents.sets[run.set], { truth, rank } = numbers(run);
    const wanted = state.label.toLowerCase();
    let items = run.gallery.map((item) => ({ ...item, label: set.labels[truth[item.video]] ?? "", right: rank[item.video] === 1 }))
      .filter((item) => (state.kind === "all" || item.kind === state.kind) && (!wanted || item.label.toLowerCase().includes(wanted) || item.best.some(([label]) => label.toLowerCase().includes(wanted))));
    const orders = { score: (a, b) => b.best[0][1] - a.best[0][1], class: (a, b) => a.label.localeCompare(b.label), video: (a, b) => videoName(set, a.video).localeCompare(videoName(set, b.video)) };
    if (orders[state.order]) items = [...items].sort(orders[state.order]);
    count.textContent = `${items.length} videos`;
    cards.replaceChildren(...items.map((item) => card(item, set)));
  }
  function card(item, set) {
    const moving = (on) => ({ currentTarget }) => currentTarget.classList.toggle("moving", on);
    const strip = item.strip && element("button", { type: "button", class: "strip", "aria-pressed": "false", "aria-label": `Frames of ${videoName(set, item.video)}; press to see what the network looked at`,
      style: `--frames: ${item.frames}; aspect-ratio: ${item.width} / ${item.height}`, onmouseenter: moving(true), onmouseleave: moving(false), onfocus: moving(true), onblur: moving(false),
      onclick: ({ currentTarget }) => currentTarget.setAttribute("aria-pressed", currentTarget.getAttribute("aria-pressed") !== "true") },
      element("img", { src: item.strip, alt: "", loading: "lazy" }), item.cam && element("img", { src: item.cam, alt: "", class: "cam", loading: "lazy" }));
    return element("article", { class: "card" }, strip,
      element("div", { class: item.right ? "better" : "worse" }, item.right ? "right" : "wrong", ` (${KINDS[item.kind]})`),
      element("div", {}, "Class: ", element("strong", {}, item.label)), element("div", { class: "quiet" }, videoName(set, item.video)),
      element("table", { class: "topk" }, element("tbody", {}, ...item.best.map(([label, score]) => element("tr", {}, element("td", { class: "bar", style: `--share: ${100 * score}` }, label), element("td", { class: "number" }, percent(score, 0)))))),
      item.times?.length > 1 ? chart("Score over time (blue: its class)", [{ name: item.best[0][0], colour: COLOURS[1], x: item.times.map(([time]) => time), y: item.times.map(([, best]) => best) }, { name: item.label, colour: COLOURS[0], x: item.times.map(([time]) => time), y: item.times.map(([, , own]) => own) }],
        { width: 230, height: 120, from: [undefined, 0], to: [undefined, 1], xName: "s" }) : null);
  }
  show();
}

function data() {
  const place = section("data", "Data", "What became of each listed video, from the list to the result, and what the videos are.");
  const flows = contents.runs.filter((run) => run.flow);
  if (flows.length) {
    const result = element("div", { class: "charts" });
    place.append(element("div", { class: "controls" }, choice("Run", flows.map(runName), 0, show)), result);
    function show(number) {
      result.replaceChildren(...flows[number].flow.map(({ subset, stages }) => element("figure", {}, element("figcaption", {}, subset || "no subset"), element("table", { "aria-label": `From listed to predicted: ${subset}` }, element("tbody", {},
        ...stages.map(([stage, count]) => element("tr", {}, element("th", { scope: "row" }, stage), element("td", { class: "bar number", style: `--share: ${100 * count / (stages[0][1] || 1)}; min-width: 180px` }, String(count)))))))));
    }
    show(0);
  }
  for (const set of contents.datasets ?? []) {
    place.append(element("h3", {}, `Data set ${set.name}: ${set.videos} videos (${Object.entries(set.status).map(([status, count]) => `${count} ${status}`).join(", ")})`));
    if (set.reasons.length) place.append(table([
      { name: "status", kind: "name", value: (row) => row[0] }, { name: "reason, of the first", kind: "text", value: (row) => row[1] }, { name: "videos", value: (row) => row[2] },
    ], set.reasons, { label: `Failures of ${set.name}`, sort: 2 }));
    const charts = element("div", { class: "charts" });
    if (set.seconds) charts.append(bars("Duration", set.seconds.edges, set.seconds.counts, "s"));
    if (set.rates) charts.append(bars("Frames a second", set.rates.edges, set.rates.counts, "/s"));
    place.append(charts);
    if (set.sizes.length) place.append(table([{ name: "size of the frames", kind: "name", value: (row) => row[0] }, { name: "videos", value: (row) => row[1] }], set.sizes, { label: `Sizes of ${set.name}` }));
  }
}

function provenance() {
  const { provenance: from, steps, config } = contents;
  if (!from) return;
  const place = section("provenance", "Provenance", "What it takes to repeat this: the config with every setting that is not at its default, versions, and digests (SHA-256) of lists and annotations.");
  if (config) {
    const copied = element("span", { class: "quiet", role: "status" });
    place.append(element("div", { class: "controls" }, element("button", { type: "button", class: "plain", id: "copy-config", onclick: async () => {
      try { await navigator.clipboard.writeText(config); } catch { select(); document.execCommand("copy"); }
      copied.textContent = "copied";
    } }, "Copy the config"), copied), element("pre", { id: "config", tabindex: "0" }, config));
    function select() {
      const range = document.createRange();
      range.selectNodeContents(document.getElementById("config"));
      getSelection().removeAllRanges(); getSelection().addRange(range);
    }
  }
  if (steps?.length) place.append(element("h3", {}, "Time and memory"), table([
    { name: "step", kind: "name", value: (row) => row.rule.replaceAll("_", " ") }, { name: "jobs", value: (row) => row.jobs },
    { name: "seconds in all", value: (row) => row.seconds }, { name: "longest", value: (row) => row.longest }, { name: "peak MB", value: (row) => row.memory_mb },
  ], steps, { label: "Time and memory of the steps", sort: 2 }));
  for (const [title, rows] of [["Versions", from.versions], ["Code of the steps", from.code], ["Machine of this report", from.machine]])
    place.append(element("h3", {}, title), table([{ name: "what", kind: "name", value: (row) => row[0] }, { name: "is", kind: "text", value: (row) => row[1] }], rows, { label: title }));
  place.append(element("h3", {}, "Files"), table([
    { name: "what", kind: "name", value: (row) => row[0] }, { name: "file", kind: "text", value: (row) => row[1] }, { name: "SHA-256", kind: "text", value: (row) => row[2] },
  ], from.files, { label: "Files and their digests" }));
}

if (contents.runs.length) { overview(); compare(); training(); classes(); calibrated(); gallery(); }
data();
provenance();
