"""What a report says to a person, to a program and to a shell."""

import json
from pathlib import Path

import pytest

from r3d.doctor.findings import Report
from r3d.errors import InputError


@pytest.mark.parametrize(
    ("severities", "status"),
    [([], 0), (["note"], 0), (["note", "warning"], 1), (["warning", "error", "note"], 2)],
)
def test_the_gravest_finding_is_the_exit_status(severities: list, status: int) -> None:
    report = Report()
    for severity in severities:
        report.add(severity, "check", "here", f"a {severity}")
    assert report.exit_status == json.loads(report.json())["exit_status"] == status
    if status < 2:
        report.raise_errors()
    else:
        with pytest.raises(InputError, match="1 errors, the first: here: check: a error"):
            report.raise_errors()


def test_errors_come_first_with_what_to_do(tmp_path: Path) -> None:
    report = Report()
    report.add("note", "extra", "own", "two files more")
    report.add("error", "ids", "own", "five ids twice", "take them out", "abcde")
    assert report.text().splitlines() == [
        "error: own: ids: five ids twice",
        "    for example: a, b, c",
        "    what to do: take them out",
        "note: own: extra: two files more",
        "1 error, 0 warnings, 1 note",
    ]
    report.save(tmp_path / "report.json")
    finding = json.loads((tmp_path / "report.json").read_text())["findings"][1]
    assert finding["severity"] == "error"
    assert finding["examples"] == ["a", "b", "c"]


def test_names_are_no_commands_to_a_terminal() -> None:
    report = Report()
    report.add("note", "extra", "own", "files", examples=["\x1b[2Jx\ny", "caf\u00e9", "\udcff"])
    assert "\x1b" not in report.text()
    assert "for example: \\x1b[2Jx\\ny, café, \\udcff\n" in report.text()
    report.text().encode()


def test_the_same_is_said_once() -> None:
    report = Report()
    for _ in range(2):
        report.add("note", "extra", "own", "files")
    assert len(report.findings) == 1
