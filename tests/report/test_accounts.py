"""How the numbers of a report came about."""

import json
from pathlib import Path

from r3d.compute.record import record_of
from r3d.report.accounts import provenance, steps_account, trainings_account
from r3d.report.runs import RunFiles


def test_an_attempt_that_was_killed_counts_as_of_unknown_time(tmp_path: Path) -> None:
    attempts = [
        {"of": "x", "machine": "m", "seconds": seconds, "began": "2026-01-01T12:00:00"}
        for seconds in (None, 20.0, 30.5)
    ]
    record = record_of(tmp_path / "train_model/a_01.log")
    record.parent.mkdir()
    record.write_text(json.dumps({"attempts": attempts}))
    place = tmp_path / "a/01/val.accuracy.json"
    run = RunFiles("a", "01", "val", place, place, place, place, train_log=place)
    (row,) = trainings_account([run], tmp_path, None)
    assert (row["attempts"], row["seconds"], row["untimed"]) == (3, 50.5, 1)


def test_steps_that_were_not_measured_have_no_account(tmp_path: Path) -> None:
    assert steps_account(tmp_path / "absent") == []
    (tmp_path / "infer").mkdir()
    (tmp_path / "infer/a.tsv").write_text("s\tmax_rss\n2.0\t10\n")
    assert [(row["rule"], row["seconds"]) for row in steps_account(tmp_path)] == [("infer", 2.0)]


def test_the_machine_says_nothing_of_scripts_that_are_gone() -> None:
    assert [what for what, _ in provenance({}, {})["machine"]] == ["system", "processor"]
