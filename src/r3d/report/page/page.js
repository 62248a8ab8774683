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
const runName = (run) => `${run.experiment}, ${run.run}`;
// An accuracy, or the mean of several with their standard deviation.
const spread = (value) => percent(value?.value) + (Number.isFinite(value?.deviation ?? NaN) ? ` ± ${(100 * value.deviation).toFixed(1)}` : "");
function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  return seconds < 120 ? `${seconds.toFixed(seconds < 10 ? 1 : 0)} s` : seconds < 7200 ? `${(seconds / 60).toFixed(0)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
const byName = (name) => contents.experiments.find((experiment) => experiment.name === name);

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
  const y0 = from?.[1] ?? reduce(ys, Math.min, 0);
  let y1 = to?.[1] ?? reduce(ys, Math.max, 1), lines = 4;
  if (!log && to?.[1] === undefined && y1 > y0) { // lines at round numbers
    const size = 10 ** Math.floor(Math.log10((y1 - y0) / 4));
    const step = [1, 2, 5, 10].map((factor) => factor * size).find((each) => (y1 - y0) / each <= 5);
    lines = Math.ceil((y1 - y0) / step - 1e-9);
    y1 = y0 + lines * step;
  }
  const placeX = (x) => left + (right - left) * (x - x0) / (x1 - x0 || 1);
  const placeY = (y) => bottom - (bottom - top) * (scale(y) - y0) / (y1 - y0 || 1);
  const picture = drawn("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": title });
  const short = (value) => Number(value.toPrecision(3)).toString();
  for (let i = 0; i <= lines; i += 1) {
    const level = y0 + (y1 - y0) * i / lines, y = bottom - (bottom - top) * i / lines;
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
  const { runs, sets, experiments, pairs } = contents;
  const several = experiments.some((experiment) => experiment.runs.length > 1);
  const place = section("overview", "Overview", "Accuracy over the listed videos: one without a result is wrong. Intervals hold the true value in 95 of 100 such cases: Wilson's, or where videos were cut from common recordings a bootstrap over those. "
    + (several ? "Of several runs (splits, folds, seeds): mean ± standard deviation; the interval over videos is a bootstrap, that over trainings is Student's over splits or folds, corrected for the training videos that they share, or over seeds. " : "")
    + "Bold is better than each other experiment on the same videos by more than chance.");
  const best = new Set(experiments.map((_, i) => i).filter((i) => {
    const rivals = pairs.filter((pair) => pair.experiments.includes(i));
    return rivals.length && rivals.every((pair) => pair.holds && (pair.experiments[0] === i) === pair.difference > 0);
  }));
  const sorted = (values) => [...new Set(values)].map(Number).sort((a, b) => a - b);
  const ks = sorted(experiments.flatMap((experiment) => Object.keys(experiment.top)));
  const groupsOf = (experiment) => experiment.runs.reduce((sum, i) => sum + (sets[runs[i].set].groups || 0), 0) / experiment.runs.length;
  const trained = experiments.some((experiment) => ks.some((k) => experiment.top[k]?.trainings));
  const shares = (name, title, value) => ({ name, title, value, show: (row) => percent(value(row)) });
  const clips = shares("single clips", "top 1 of each clip of these videos by itself, as the model was applied to them", (row) => row.clip_accuracy);
  place.append(table([
    { name: "experiment", kind: "name", value: (row) => row.name },
    ...(several ? [{ name: "runs", title: "splits or folds, times seeds", value: (row) => row.runs.length }] : []),
    ...ks.flatMap((k) => [
      { name: `top ${k}`, value: (row) => row.top[k]?.value, show: (row) => spread(row.top[k]), share: (row) => row.top[k]?.value ?? 0, mark: (row) => k === 1 && best.has(experiments.indexOf(row)) ? "best" : "" },
      { name: trained ? "95 % over videos" : "95 % interval", value: (row) => row.top[k]?.interval[0], show: (row) => bounds(row.top[k]?.interval) },
      ...(trained && k === 1 ? [{ name: "95 % over trainings", value: (row) => row.top[k]?.trainings?.[0], show: (row) => bounds(row.top[k]?.trainings) }] : []),
    ]),
    { name: "mean over classes", value: (row) => row.mean_class.value, show: (row) => spread(row.mean_class) },
    { name: trained ? "95 % over videos" : "95 % interval", value: (row) => row.mean_class.interval[0], show: (row) => bounds(row.mean_class.interval) },
    clips, shares("top 1 of found", "leaves out videos without a result", (row) => row.found_top1), shares("calibration error", undefined, (row) => row.calibration_error),
    { name: "videos", title: several ? "of a run, on average" : undefined, value: (row) => row.listed }, { name: "found", value: (row) => row.found },
    { name: "groups", title: "recordings that the videos of a run were cut from, where names tell", value: (row) => Math.round(groupsOf(row)) || null },
  ], experiments, { label: "Accuracy of the experiments" }));
  if (!several) return;
  const runKs = sorted(runs.flatMap((run) => Object.keys(run.top)));
  place.append(element("h3", {}, "Every run"), table([
    { name: "experiment", kind: "name", value: (run) => run.experiment }, { name: "split", kind: "name", value: (run) => run.split }, { name: "seed", value: (run) => run.seed },
    ...runKs.flatMap((k) => [
      { name: `top ${k}`, value: (run) => run.top[k]?.value, show: (run) => percent(run.top[k]?.value), share: (run) => run.top[k]?.value ?? 0 },
      { name: "95 % interval", value: (run) => run.top[k]?.interval[0], show: (run) => bounds(run.top[k]?.interval) },
    ]),
    shares("mean over classes", undefined, (run) => run.mean_class.value),
    { name: "95 % interval", value: (run) => run.mean_class.interval[0], show: (run) => bounds(run.mean_class.interval) },
    clips, { name: "videos", value: (run) => run.listed }, { name: "found", value: (run) => run.found },
  ], runs, { label: "Accuracy of all runs" }));
}

function videoName(set, video) { return set.ids[video]; }

function compare() {
  const { runs, sets, pairs, experiments } = contents;
  if (!pairs.length) return;
  const place = section("compare", "Compare", "Two experiments on the same videos. The interval of the difference is a paired bootstrap over recordings, with the seeds of a split averaged video by video. "
    + "McNemar's exact test is given where each video is judged once by either; and where there are several trainings, whether they differ by more than trainings do among themselves: a paired t-test over splits or folds, corrected for the training videos that these share, or Welch's over the seeds of one split.");
  const result = element("div");
  const names = pairs.map((pair) => pair.experiments.map((i) => experiments[i].name).join(" and "));
  place.append(element("div", { class: "controls" }, choice("Two experiments", names, 0, show)), result);
  const equals = (p) => `p ${p < 0.001 ? "" : "= "}${probability(p)}`;
  // For each video of a set how often runs on it are right, and how many there are.
  function counted(chosen) {
    const found = new Map();
    for (const i of chosen) {
      const run = runs[i], { rank, predicted } = numbers(run);
      const of = found.get(run.set) ?? { n: 0, right: new Uint16Array(rank.length), predicted };
      of.n += 1;
      rank.forEach((place, video) => { of.right[video] += place === 1; });
      found.set(run.set, of);
    }
    return found;
  }
  function show(number) {
    const pair = pairs[number], [one, other] = pair.experiments.map((i) => experiments[i].name), [a, b] = pair.runs.map(counted);
    const perClass = new Map(), alone = [];
    for (const [place, here] of a) {
      const set = sets[place], there = b.get(place), { truth } = numbers(runs[pair.runs[0].find((i) => runs[i].set === place)]);
      truth.forEach((label, video) => {
        const [right, otherRight] = [here.right[video] / here.n, there.right[video] / there.n];
        if (label >= 0) {
          const name = set.labels[label], row = perClass.get(name) ?? { label: name, n: 0, one: 0, other: 0 };
          row.n += 1; row.one += right; row.other += otherRight;
          perClass.set(name, row);
        }
        if (right !== otherRight) alone.push({ set, video, label, right, otherRight, here, there });
      });
    }
    const better = `${pair.difference > 0 ? one : other} is better by ${percent(Math.abs(pair.difference))}`, beyond = pair.interval[0] > 0 || pair.interval[1] < 0;
    const single = pair.runs.every((own) => own.length === a.size);
    const says = (side) => (row) => {
      const { n, right, predicted } = row[side];
      return !single ? `${right[row.video]} of ${n} right` : right[row.video] ? "right" : row.set.labels[predicted[row.video]] ?? "nothing";
    };
    result.replaceChildren(
      element("p", {}, element("strong", {}, pair.holds ? `${better}.` : beyond ? `${better} on these videos; too few trainings to tell whether others would agree, or they differ too much.` : "No difference that could not be chance."),
        ` Difference of top 1 (first less second)${pair.splits > 1 ? `, mean over ${pair.splits} splits` : ""}: ${signed(pair.difference)} points, 95 % interval ${pair.interval.map(signed).join(" to ")}. `
        + (pair.p === null ? "" : `McNemar: ${equals(pair.p)}; right in one alone: ${pair.alone[0]} videos in ${one}, ${pair.alone[1]} in ${other}. `)
        + (pair.p_trainings === null ? "" : `Over trainings (${pair.runs.map((own) => own.length).join(" and ")}): ${equals(pair.p_trainings)}.`)),
      element("h3", {}, "By class"),
      table([
        { name: "class", kind: "name", value: (row) => row.label }, { name: "videos", value: (row) => row.n },
        { name: one, value: (row) => row.one / row.n, show: (row) => percent(row.one / row.n) },
        { name: other, value: (row) => row.other / row.n, show: (row) => percent(row.other / row.n) },
        { name: "difference", value: (row) => (row.one - row.other) / row.n, show: (row) => signed((row.one - row.other) / row.n), mark: (row) => row.one > row.other ? "better" : row.one < row.other ? "worse" : "" },
      ], [...perClass.values()], { label: "Difference by class", sort: 4 }),
      element("h3", {}, single ? "Videos that only one gets right" : "Videos that one gets right more often"),
      table([
        { name: "video", kind: "text", value: (row) => videoName(row.set, row.video) }, { name: "class", kind: "name", value: (row) => row.set.labels[row.label] ?? "" },
        { name: one, kind: "name", value: says("here") }, { name: other, kind: "name", value: says("there") },
        { name: "difference", value: (row) => row.right - row.otherRight, show: (row) => signed(row.right - row.otherRight), mark: (row) => row.right > row.otherRight ? "better" : "worse" },
      ], alone, { label: "Videos that only one gets right", sort: single ? undefined : 4 }));
  }
  show(0);
}

function training() {
  const runs = contents.runs.filter((run) => run.curves);
  if (!runs.length) return;
  const place = section("training", "Training", "Dashed lines are of the training clips, full ones of the validation. A line a run; runs of one experiment have its colour.");
  const charts = element("div", { class: "charts" });
  const names = [...new Set(runs.map((run) => run.experiment))];
  const colour = (run) => COLOURS[names.indexOf(run.experiment) % COLOURS.length];
  const shown = new Set(names.slice(0, 8));
  const boxes = names.map((name) => element("label", { style: "flex-direction: row; gap: 5px; align-items: center" },
    element("input", { type: "checkbox", checked: shown.has(name), onchange: (event) => { event.target.checked ? shown.add(name) : shown.delete(name); show(); } }),
    element("span", { style: `--colour: ${COLOURS[names.indexOf(name) % COLOURS.length]}` }, name, byName(name).runs.length > 1 ? ` (${byName(name).runs.length} runs)` : "")));
  place.append(element("div", { class: "legend controls" }, ...boxes), charts);
  function show() {
    const drawnRuns = runs.filter((run) => shown.has(run.experiment));
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
      { name: "experiment", kind: "name", value: (run) => run.experiment }, { name: "split", kind: "name", value: (run) => run.split }, { name: "seed", value: (run) => run.seed },
      { name: "clips/s", value: (run) => run.speed.clips_per_second, show: (run) => run.speed.clips_per_second.toFixed(1) },
      { name: "waiting for data", value: (run) => run.speed.waiting, show: (run) => percent(run.speed.waiting), share: (run) => run.speed.waiting },
      { name: "time", value: (run) => run.speed.seconds, show: (run) => duration(run.speed.seconds) },
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
    { name: "time in all", value: (row) => row.seconds, show: (row) => duration(row.seconds) }, { name: "longest", value: (row) => row.longest, show: (row) => duration(row.longest) }, { name: "peak MB", value: (row) => row.memory_mb },
  ], steps, { label: "Time and memory of the steps", sort: 2 }));
  const onGpus = from.trainings?.some((row) => row.gpus);
  if (from.trainings?.length) place.append(element("h3", {}, "Trainings"), table([
    { name: "experiment", kind: "name", value: (row) => row.experiment }, { name: "run", kind: "name", value: (row) => row.run }, { name: "seed", value: (row) => row.seed },
    { name: "machine", kind: "text", value: (row) => row.machine }, ...(onGpus ? [{ name: "GPUs", kind: "text", value: (row) => row.gpus }] : []), { name: "cores", value: (row) => row.cores },
    { name: "began", kind: "name", value: (row) => row.began }, { name: "attempts", title: "starts of the job until it was done", value: (row) => row.attempts },
    { name: "time", title: "of all attempts; of one that was killed it is not known", value: (row) => row.seconds, show: (row) => row.untimed ? (row.seconds ? `${duration(row.seconds)} + ?` : "?") : duration(row.seconds) }, { name: "peak MB", title: "of memory, all its processes on the machine together where Snakemake has measured it", value: (row) => row.memory_mb },
    ...(onGpus ? [{ name: "peak MB of a GPU", value: (row) => row.gpu_memory_mb }] : []),
  ], from.trainings, { label: "Where the trainings ran" }));
  for (const [title, rows] of [["Versions of the trainings", from.training_versions ?? []], ["Versions of this report", from.versions], ["Code of the steps", from.code], ["Machine of this report", from.machine]])
    if (rows.length) place.append(element("h3", {}, title), table([{ name: "what", kind: "name", value: (row) => row[0] }, { name: "is", kind: "text", value: (row) => row[1] }], rows, { label: title }));
  place.append(element("h3", {}, "Files"), table([
    { name: "what", kind: "name", value: (row) => row[0] }, { name: "file", kind: "text", value: (row) => row[1] }, { name: "SHA-256", kind: "text", value: (row) => row[2] },
  ], from.files, { label: "Files and their digests" }));
}

if (contents.runs.length) { overview(); compare(); training(); classes(); calibrated(); gallery(); }
data();
provenance();
