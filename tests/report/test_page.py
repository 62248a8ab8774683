"""The page of the report in a real browser, without any network."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from r3d.report.contents import contents_of
from r3d.report.pages import write_page
from r3d.report.runs import Run, RunFiles

CHROMIUM = shutil.which("chromium")
NASTY = "<img src=x onerror=\"document.title='broken'\">&amp;</script><!--"


def runs_on(
    n: int,
    labels: list[str],
    shares: list[float],
    folder: Path,
    names: list[tuple[str, str, int]] | None = None,
) -> list[Run]:
    """Runs on the same videos, each right in its share of them: experiment, split and seed."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, len(labels), n)
    log = folder / "train.log"
    log.write_text("epoch\tloss\tacc\tlr\n1\t2.0\t0.3\t0.1\n2\t1.5\t0.5\t0.01\n")
    found = []
    for number, share in enumerate(shares):
        second = (truth + rng.integers(1, len(labels), n)) % len(labels)
        right = rng.uniform(size=n) < share
        best = [
            [(labels[a], 0.7), (labels[b], 0.2)] if r else [(labels[b], 0.6), (labels[a], 0.3)]
            for a, b, r in zip(truth, second, right, strict=True)
        ]
        best[0] = []
        videos = pd.DataFrame(
            {
                "id": [f"v{i}_{NASTY}" if i == 1 else f"v{i}" for i in range(n)],
                "label": [labels[label] for label in truth],
                "correct": ["yes" if r and b else "no" for r, b in zip(right, best, strict=True)],
                "status": "ok",
                "reason": "",
                "group": [f"g{i // 4}" for i in range(n)],
            }
        )
        accuracy = float((videos["correct"] == "yes").mean())
        content = {
            "accuracy": {"1": accuracy, "2": 1 - 1 / n},
            "accuracy_found": {"1": accuracy, "2": 1.0},
            "mean_class_accuracy": accuracy,
        }
        none = Path("none")
        name, split, seed = names[number] if names else (f"run{number}", "01", 1)
        accuracy_file = Path(f"{name}/{split}" if seed == 1 else f"{name}/{split}-seed{seed}", "a")
        files = RunFiles(
            *(name, split, "val", accuracy_file, none, none, none, log, log), seed=seed
        )
        found.append(Run(files, content, labels, videos, best, n_training=4 * n))
    return found


def write(folder: Path, runs: list[Run], **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    contents = contents_of(runs) | more
    write_page(contents, folder / "index.html", title=f"Report {NASTY}", made="today")
    return folder / "index.html"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of three runs on 80 videos, with everything that a page can show."""
    folder = tmp_path_factory.mktemp("report")
    runs = runs_on(80, [NASTY, "walk", "run", "swim"], [0.9, 0.5, 0.52], folder)
    Image.new("RGB", (96, 24), "red").save(folder / "strip.jpg")
    places = {"strip": "strip.jpg", "cam": "strip.jpg", "frames": 4, "width": 24, "height": 24}
    best = [[NASTY, 0.9], ["walk", 0.1]]
    times = [[0.0, 0.2, 0.8], [1.0, 0.4, 0.6]]
    contents = contents_of(runs)
    contents["runs"][0]["gallery"] = [
        {"video": video, "kind": kind, "best": best, "times": times, **places}
        for video, kind in ((1, "confident"), (2, "uncertain"), (3, "random"), (4, "random"))
    ]
    contents["runs"][0]["flow"] = [{"subset": "training", "stages": [["listed", 9], ["found", 8]]}]
    histogram = {"edges": [0, 1, 2], "counts": [3, 4]}
    contents["datasets"] = [
        {"name": NASTY, "videos": 7, "status": {"ok": 6}, "reasons": [["corrupt", NASTY, 1]]}
        | {"seconds": histogram, "rates": histogram, "sizes": [["4 x 4", 6]]}
    ]
    contents["steps"] = [{"rule": "train_model", "jobs": 1, "seconds": 3, "longest": 3}]
    tables = ("versions", "code", "machine")
    contents["provenance"] = {name: [[name, NASTY]] for name in tables} | {"files": [["list"] * 3]}
    contents["config"] = f"results: '{NASTY}'\n"
    write_page(contents, folder / "index.html", title=f"Report {NASTY}", made="today")
    return folder / "index.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


class Opened:
    """A page that is open, and what it complained of or asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.page = browser.new_page(**options)
        self.page.set_default_timeout(10_000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def column(self, label: str, place: int) -> list[str]:
        rows = self.page.locator(f'table[aria-label="{label}"] tbody tr')
        return [row.locator("td").nth(place).inner_text() for row in rows.all()]


@pytest.mark.parametrize("width", [1600, 1000, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_shows_all_without_complaint_or_request(
    browser: Any, small: Path, width: int, scheme: str
):
    opened = Opened(browser, small, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = opened.page
    titles = [title.inner_text() for title in page.locator("h2").all()]
    assert titles == [
        *("Overview", "Compare", "Training", "Classes", "Calibration", "Errors", "Data"),
        "Provenance",
    ]
    for image in page.locator("img").all():
        image.scroll_into_view_if_needed()
        image.evaluate("(image) => image.decode()")  # fails if it cannot be loaded
    assert page.evaluate("document.images.length") == 8
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    assert opened.complaints == []
    assert all(url.startswith(("file:", "data:")) for url in opened.requests)
    # What came from outside is text.
    assert page.title() == f"Report {NASTY}"
    assert page.get_by_text(NASTY).count() > 5
    page.close()


def test_tables_sort_and_are_worked_by_keys(browser: Any, small: Path):
    opened = Opened(browser, small)
    label = "Accuracy by class"
    shares = [float(text.removesuffix(" %")) for text in opened.column(label, 3)]
    assert shares == sorted(shares)  # the worst first
    head = opened.page.locator(f'table[aria-label="{label}"] th button', has_text="class").first
    head.focus()
    opened.page.keyboard.press("Enter")
    names = opened.column(label, 0)
    assert names == sorted(names, key=str.casefold)
    opened.page.keyboard.press("Enter")
    assert opened.column(label, 0) == names[::-1]
    assert head.evaluate("(head) => head.parentElement.ariaSort") == "descending"
    # Everything that can be worked can be reached.
    reached = set()
    for _ in range(120):
        opened.page.keyboard.press("Tab")
        reached.add(opened.page.evaluate("document.activeElement.tagName"))
    assert {"A", "BUTTON", "SELECT", "INPUT"} <= reached
    opened.page.close()


@pytest.fixture(scope="module")
def axes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experiments of three folds and two seeds, and one of the first fold alone."""
    folder = tmp_path_factory.mktemp("axes")
    names = [
        (name, f"fold{fold}of3", seed) for name in "ab" for fold in (1, 2, 3) for seed in (1, 2)
    ]
    shares = [0.9, 0.88, 0.88, 0.9, 0.89, 0.9, 0.5, 0.48, 0.49, 0.5, 0.48, 0.5, 0.5]
    runs = runs_on(120, ["walk", "run"], shares, folder, [*names, ("c", "fold1of3", 1)])
    training = {
        **{"experiment": "a", "run": "fold1of3", "seed": 1, "machine": NASTY, "cores": 4},
        **{
            "gpus": "A card",
            "began": "2026-01-01 12:00",
            "attempts": 2,
            "seconds": 7300.0,
            "untimed": 1,
        },
        **{"memory_mb": 812, "gpu_memory_mb": 5000, "versions": {}},
    }
    provenance = {name: [] for name in ("versions", "code", "machine", "files")}
    return write(folder, runs, provenance=provenance | {"trainings": [training]})


def test_folds_and_seeds_have_mean_spread_and_a_line_each(browser: Any, axes: Path):
    opened = Opened(browser, axes)
    label = "Accuracy of the experiments"
    assert opened.column(label, 0) == ["a", "b", "c"]
    assert opened.column(label, 1) == ["6", "6", "1"]
    shown = opened.column("Accuracy of all runs", 3)
    values = [float(text.removesuffix(" %")) for text in shown[:6]]
    mean, deviation = np.mean(values), np.std(values, ddof=1)
    assert opened.column(label, 2)[0] == f"{mean:.1f} % ± {deviation:.1f}"
    assert opened.column(label, 2)[2] == shown[12]
    compare = opened.page.locator("#compare")
    assert "a is better by" in compare.locator("strong").inner_text()
    assert "on these videos" not in compare.locator("strong").inner_text()
    assert "mean over 3 splits" in compare.inner_text()
    assert "Over trainings (6 and 6): p " in compare.inner_text()
    assert "McNemar:" not in compare.inner_text()  # each video is judged twice
    votes = opened.column("Videos that only one gets right", 2)
    assert votes
    assert {text.partition(" ")[2] for text in votes} == {"of 2 right"}
    compare.locator("select").select_option(label="a and c")
    assert "Over trainings" not in compare.inner_text()  # one training does not differ from itself
    # All runs of an experiment go by one box.
    lines = opened.page.locator("#training svg").first.locator("polyline")
    assert lines.count() == 2 * 13
    opened.page.locator("#training input").first.uncheck()
    assert lines.count() == 2 * 7
    assert opened.column("Where the trainings ran", 8) == ["2.0 h + ?"]
    assert opened.complaints == []
    opened.page.close()


def test_two_experiments_are_compared(browser: Any, small: Path):
    opened = Opened(browser, small)
    compare = opened.page.locator("#compare")
    assert "run0 is better by" in compare.inner_text()
    compare.locator("select").select_option(index=2)
    assert "No difference that could not be chance" in compare.inner_text()
    assert "in run1, " in compare.inner_text()
    # Bold is only what is better than every other run.
    bold = opened.page.locator("#overview td.best")
    assert bold.count() == 1
    opened.page.close()


def test_the_gallery_is_filtered_and_shows_what_the_network_looked_at(browser: Any, small: Path):
    opened = Opened(browser, small)
    cards = opened.page.locator(".card")
    assert cards.count() == 4
    opened.page.locator("#gallery-kind").select_option("random")
    assert cards.count() == 2
    opened.page.locator("#gallery-class").fill("no such class")
    assert cards.count() == 0
    opened.page.locator("#gallery-class").fill("WALK")
    assert cards.count() == 2
    strip = cards.first.locator(".strip")
    heat = strip.locator(".cam")
    assert heat.evaluate("(image) => getComputedStyle(image).opacity") == "0"
    strip.focus()
    opened.page.keyboard.press("Enter")
    assert heat.evaluate("(image) => getComputedStyle(image).opacity") == "0.55"
    assert strip.evaluate("(strip) => strip.classList.contains('moving')")
    opened.page.close()


def test_the_config_is_copied(browser: Any, small: Path):
    opened = Opened(browser, small)
    opened.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.page.locator("#copy-config").click()
    opened.page.get_by_text("copied", exact=True).wait_for()
    opened.page.close()


def test_many_videos_and_classes_open_at_once(browser: Any, tmp_path: Path):
    labels = [f"class {i}" for i in range(700)]
    page = write(tmp_path, runs_on(20_000, labels, [0.7] * 3, tmp_path))
    contents = contents_of(runs_on(20_000, labels, [0.7], tmp_path))
    # As many runs as a large study has; their statistics take seconds to compute, not to show.
    contents["runs"] = [
        {**contents["runs"][0], "experiment": f"run{number}"} for number in range(50)
    ]
    contents["experiments"] = [
        {**contents["experiments"][0], "name": f"run{number}", "runs": [number]}
        for number in range(50)
    ]
    write_page(contents, page, title="Large", made="today")
    opened = Opened(browser, page)
    opened.page.locator("#classes canvas").wait_for()
    times = json.loads(
        opened.page.evaluate("JSON.stringify(performance.getEntriesByType('navigation')[0])")
    )
    assert times["domComplete"] < 2000
    canvas = opened.page.locator("#classes canvas")
    canvas.focus()
    opened.page.keyboard.press("ArrowRight")
    assert "class 0, taken for class 1: " in opened.page.locator("#classes").inner_text()
    assert opened.complaints == []
    opened.page.close()
