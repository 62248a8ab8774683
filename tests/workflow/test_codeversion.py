"""The code version changes with code that a step uses, and with nothing else."""

import sys
from pathlib import Path

import pytest

from r3d.workflow import codeversion

SOURCES = {
    "__init__.py": "",
    "step.py": '"""Doc."""\nfrom r3d.part import work\n\n\ndef step():\n    return work()\n',
    "part.py": "def work():\n    return 1  # one\n",
    "other.py": "X = 1\n",
    "family/__init__.py": "",
    "family/member.py": "Y = 1\n",
    "user.py": "import r3d.family\n",
    "chooser.py": "def choose(name):\n    return import_module(f'r3d.family.{name}')\n",
}


@pytest.fixture
def version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, text in SOURCES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(codeversion, "PACKAGE", tmp_path)

    def of(module: str, **edits: str) -> str:
        for name, text in edits.items():
            (tmp_path / f"{name.replace('__', '/')}.py").write_text(text)
        codeversion.code_version.cache_clear()
        codeversion._all_sources.cache_clear()
        codeversion._code_and_imports.cache_clear()
        return codeversion.code_version(module)

    return of


def test_changes_with_imported_code(version):
    assert version("step") != version("step", part="def work():\n    return 2\n")


def test_changes_with_a_member_of_an_imported_package(version):
    assert version("user") != version("user", family__member="Y = 2\n")


def test_changes_with_a_member_that_may_be_imported_by_its_name(version):
    assert version("chooser") != version("chooser", family__member="Y = 2\n")
    assert version("chooser") == version("chooser", other="X = 2\n")


@pytest.mark.parametrize(
    "edit",
    [
        {"other": "X = 2\n"},
        {"part": "def work():\n    # a remark\n    return 1\n"},
        {"step": SOURCES["step.py"].replace("Doc.", "Better doc.")},
    ],
    ids=["other module", "comment", "docstring"],
)
def test_stays_when_the_code_stays(version, edit):
    assert version("step") == version("step", **edit)


def test_unknown_module_is_refused(version):
    with pytest.raises(ValueError, match="nonsense"):
        version("nonsense")


def test_is_noted_down_until_a_source_changes(version, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    first = version("step")
    with monkeypatch.context() as patched:
        patched.setattr(codeversion, "_version", lambda _: "parsed again")
        assert version("step") == first
        assert version("step", other="X = 3\n") == "parsed again"
    (notes,) = tmp_path.rglob("codeversion*.json")
    for broken in ("", "{}", "[]", '{"sources": 1, "versions": 2}'):
        notes.write_text(broken)
        assert version("step", other=SOURCES["other.py"]) == first
