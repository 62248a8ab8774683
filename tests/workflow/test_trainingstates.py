"""Where states of trainings lie: each set of videos finds its own, as of earlier versions."""

from pathlib import Path

from r3d.workflow.trainingstates import folder_of_states


def test_videos_that_come_back_find_their_states(tmp_path: Path):
    first = folder_of_states(tmp_path / "base", "a" * 64, earlier="x")
    assert first == tmp_path / "base"
    second = folder_of_states(tmp_path / "base", "b" * 64, earlier="y")
    assert second.parent == first
    assert folder_of_states(tmp_path / "base", "a" * 64, earlier="z") == first
    assert folder_of_states(tmp_path / "base", "b" * 64, earlier="z") == second


def test_the_states_of_an_earlier_version_are_taken_over(tmp_path: Path):
    """It told trainings apart by all frames of the data set."""
    (tmp_path / "frames.sha256").write_text("x" * 64 + "\n")
    before = tmp_path / f"frames-{'y' * 12}"
    (before / "state").mkdir(parents=True)
    assert folder_of_states(tmp_path, "b" * 64, earlier="y" * 64) == tmp_path / f"frames-{'b' * 12}"
    assert (tmp_path / f"frames-{'b' * 12}/state").is_dir()
    assert folder_of_states(tmp_path, "a" * 64, earlier="x" * 64) == tmp_path
    assert folder_of_states(tmp_path, "a" * 64, earlier="z" * 64) == tmp_path
    assert folder_of_states(tmp_path, "x" * 64, earlier="z" * 64) != tmp_path
