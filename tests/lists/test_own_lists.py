"""Lists of one's own: a folder of class folders, or a CSV file."""

from collections import Counter
from pathlib import Path

import pytest
from listfiles import refusal, write

from r3d.lists import FORMATS, SplitOptions, load_labels, load_list, read_list, save_list

# --- a folder of class folders


def test_folders_with_subsets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [
        *("train/run/a.mp4", "train/run/001.MP4", "train/walk/001.webm", "train/.git/x.mp4"),
        *("val/run/b.avi", "test/walk/c.mov", "train/walk/notes.txt", "val/loose.mp4"),
    ]
    write(tmp_path, dict.fromkeys(names, ""))
    files = FORMATS["folders"].files(tmp_path, "all")
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [
        *("train/run", "train/walk", "val/run", "test/walk", "test")
    ]
    assert FORMATS["folders"].labels(tmp_path) == ["run", "walk"]
    video_list = read_list("folders", tmp_path, "all")
    assert video_list.labels == ["run", "walk"]
    videos = video_list.videos
    assert sorted(zip(videos["id"], videos["subset"], videos["key"], strict=True)) == [
        ("a", "training", "run/a"),
        ("b", "validation", "run/b"),
        ("c", "testing", "walk/c"),
        ("train_run_001", "training", "run/001"),
        ("train_walk_001", "training", "walk/001"),
    ]
    assert "2 entries ignored" in caplog.text
    assert "loose.mp4" in caplog.text


def test_frames_are_named_by_ids_where_a_class_has_a_name_twice(tmp_path: Path) -> None:
    names = ["train/run/1.mp4", "val/run/1.mp4", "val/walk/1.mp4", "train/walk/2.mp4"]
    write(tmp_path, dict.fromkeys(names, ""))
    videos = read_list("folders", tmp_path, "all").videos
    assert dict(zip(videos["id"], videos["key"], strict=True)) == {
        "train_run_1": "run/train_run_1",
        "val_run_1": "run/val_run_1",
        "val_walk_1": "walk/1",
        "2": "walk/2",
    }


def test_folders_without_subsets(tmp_path: Path) -> None:
    write(
        tmp_path, {f"{label}/{label}{i}.mp4": "" for label in ("train", "car") for i in range(10)}
    )
    video_list = read_list("folders", tmp_path, "all")
    assert video_list.labels == ["car", "train"] == FORMATS["folders"].labels(tmp_path)
    sizes = Counter(zip(video_list.videos["label"], video_list.videos["subset"], strict=True))
    assert set(sizes.values()) == {8, 2}


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        ([], ["no class folders, nor videos"]),
        (["notes.txt"], ["no class folders, nor videos"]),
        (["run/notes.txt"], ["run: no videos", ".mp4"]),
        (["train/run/a.mp4", "training/run/b.mp4"], ["train, training", "one folder each"]),
        (["train/run/a.mp4", "val/walk/b.mp4"], ["unknown class 'walk'", "'run'"]),
        (["run/a.mp4", "run/a.avi"], ["'run_a'", "run/a.avi", "run/a.mp4", "once"]),
        (["run/a.mp4", "walk/b.mp4"], ["no class has two groups", "group_pattern"]),
        (["run/a\\b.mp4", "run/c.mp4"], [r"a\\b", "accepted"]),
    ],
)
def test_bad_folders(tmp_path: Path, names: list[str], parts: list[str]) -> None:
    write(tmp_path, dict.fromkeys(names, ""))
    message = refusal(lambda: read_list("folders", tmp_path, "all"))
    assert all(part in message for part in parts), message


def test_videos_without_a_label_lie_in_the_folder_test(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["train/run/a.mp4", "test/run/b.mp4", "test/new.mp4", "test/a.MOV", "test/notes.txt"]
    write(tmp_path, dict.fromkeys(names, ""))
    videos = read_list("folders", tmp_path, "all", trained=True).videos
    columns = ["id", "label", "subset", "key", "path"]
    assert videos[columns].to_numpy().tolist() == [
        ["train_run_a", "run", "training", "run/a", "train/run/a.mp4"],
        ["b", "run", "testing", "run/b", "test/run/b.mp4"],
        ["test_a", "", "testing", "test/a", "test/a.MOV"],
        ["new", "", "testing", "test/new", "test/new.mp4"],
    ]
    assert "1 entries ignored" in caplog.text
    assert "notes.txt" in caplog.text


@pytest.mark.parametrize("folder", ["", "test/"])
def test_a_folder_of_videos_alone(tmp_path: Path, folder: str) -> None:
    write(tmp_path, {f"{folder}a.mp4": "", f"{folder}b.mp4": ""})
    video_list = read_list("folders", tmp_path, "all")
    assert video_list.labels == []
    assert video_list.videos["path"].tolist() == [f"{folder}a.mp4", f"{folder}b.mp4"]
    assert set(video_list.videos["subset"]) == {"testing"}
    assert FORMATS["folders"].files(tmp_path, "all") == [tmp_path / folder]
    message = refusal(lambda: read_list("folders", tmp_path, "all", trained=True))
    assert "no video of subset training" in message
    assert "no_train: true" in message


def test_folder_name_that_is_not_text(tmp_path: Path) -> None:
    write(tmp_path, {"run/a.mp4": "", "run/b.mp4": ""})
    (tmp_path / "run" / "c\udce9.mp4").touch()
    assert r"c\udce9" in refusal(lambda: read_list("folders", tmp_path, "all"))


# --- one's own CSV


def test_own_segments_open_at_one_end(tmp_path: Path) -> None:
    rows = ["./a.mp4,x,train,2.5,", "b.mp4,x,train,,4", "c.mp4,x,val,,"]
    text = "".join(f"{row}\n" for row in ["path,label,subset,start,end", *rows])
    videos = read_list("csv", write(tmp_path, {"list.csv": text}), "all").videos
    columns = ["id", "path", "start", "end"]
    assert videos[columns].to_numpy().tolist() == [
        ["a_0002500_end", "a.mp4", "2.5", ""],
        ["b_0000000_0004000", "b.mp4", "0", "4"],
        ["c", "c.mp4", "", ""],
    ]


def test_ids_of_repeated_names_are_the_names_of_no_other_file(tmp_path: Path) -> None:
    rows = ["a/1.mp4,x,train", "b/1.mp4,x,train", "c/a_1.mp4,x,val", "c/b_1.avi,x,val"]
    text = "".join(f"{row}\n" for row in ["path,label,subset", *rows])
    videos = read_list("csv", write(tmp_path, {"list.csv": text}), "all").videos
    assert videos["id"].tolist() == ["a_1", "b_1", "c_a_1", "c_b_1"]


def test_own_csv(tmp_path: Path) -> None:
    text = (
        "\ufeffEnd,label, subset ,path,start,note\r\n"
        ",Übung, train,x/clip.v2.mp4,,\r\n"
        "2.5,NA,training,long.mkv,1,first\r\n"
        "4,NA,val,long.mkv,2.5,second\r\n"
        ",,test,y/001,,\r\n"
        ",NA,Testing,z/001,,\r\n"
    )
    file = write(tmp_path, {"list.csv": text}) / "list.csv"
    video_list = read_list("csv", file, "all")
    assert video_list.labels == ["NA", "Übung"]
    expected = [
        ("clip.v2", "Übung", "training", "Übung/clip.v2", "x/clip.v2.mp4", "", ""),
        *[
            (f"long_{ms}", "NA", subset, f"NA/long_{ms}", "long.mkv", start, end)
            for ms, subset, start, end in [
                ("0001000_0002500", "training", "1", "2.5"),
                ("0002500_0004000", "validation", "2.5", "4"),
            ]
        ],
        ("y_001", "", "testing", "test/001", "y/001", "", ""),
        ("z_001", "NA", "testing", "NA/001", "z/001", "", ""),
    ]
    assert list(video_list.videos.itertuples(index=False, name=None)) == expected
    assert read_list("csv", tmp_path, "all").videos.equals(video_list.videos)

    save_list(video_list, tmp_path / "out/list.tsv", tmp_path / "out/labels.txt")
    table = tmp_path / "out/list.tsv"
    assert table.read_bytes().startswith(b"id\tlabel\tsubset\tkey\tpath\tstart\tend\nclip.v2\t")
    assert list(load_list(table).itertuples(index=False, name=None)) == expected
    assert load_labels(tmp_path / "out/labels.txt") == video_list.labels


# What spreadsheets write where the comma is that of decimals, or as text between tabs.
SPREADSHEETS = {
    "semicolons": "\ufeffpath;label;subset;start;end\r\n"
    'a.mp4;"x; y";train;1,5;2,25\r\n"b, c.mp4";"x; y";val;;,5\r\n;;;;\r\n',
    "tabs": "Path\tLabel\tSubset\tStart\tEnd\r\n"
    'a.mp4\tx; y\ttrain\t"1,5"\t2,25\r\n"b, c.mp4"\tx; y\tval\t\t0,5\r\n\t\t\t\t\r\n',
    "separator": "sep=;\r\npath;label;subset;start;end\r\n"
    'a.mp4;"x; y";train;1.5;2.25\r\nb, c.mp4;"x; y";val;0;0.5\r\n',
    "empty columns": "path;label;subset;start;end;;\n"
    'a.mp4;"x; y";train;1,5;2,25;;\nb, c.mp4;"x; y";val;;0,5;;\n;;;;;;\n',
}


@pytest.mark.parametrize("name", SPREADSHEETS)
def test_own_csv_of_a_spreadsheet(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path, {"list.csv": SPREADSHEETS[name]})
    video_list = read_list("csv", folder, "all")
    assert video_list.labels == ["x; y"]
    columns = ["id", "path", "subset", "start", "end"]
    assert video_list.videos[columns].to_numpy().tolist() == [
        ["a_0001500_0002250", "a.mp4", "training", "1.5", "2.25"],
        ["b, c_0000000_0000500", "b, c.mp4", "validation", "0", "0.5"],
    ]
    assert FORMATS["csv"].testing_has_labels(folder) is None


def test_commas_keep_their_meaning_beside_semicolons(tmp_path: Path) -> None:
    text = "path,label,subset,a;b\nx;1.mp4,a,train,;\ny;2.mp4,a,val,1;2\n"
    videos = read_list("csv", write(tmp_path, {"list.csv": text}), "all").videos
    assert videos["path"].tolist() == ["x;1.mp4", "y;2.mp4"]


def own_list(folder: Path, *paths: str | Path) -> Path:
    rows = "".join(f"{path},x,train\n" for path in paths)
    return write(folder, {"list.csv": f"path,label,subset\n{rows}"}) / "list.csv"


@pytest.mark.parametrize("spelling", ["data/videos", "data/../data/videos/", "link", "absolute"])
def test_absolute_paths_below_the_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    """The same list as one with relative paths, whichever way the folder is called."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/videos").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "data/videos")
    real = tmp_path / "data/videos"
    paths = [real / "a/1.mp4", "a/2.mp4", "./b/1.mp4"]
    if spelling == "link":
        paths.append(tmp_path / "link/b/3.mp4")
    given = tmp_path / "data/videos" if spelling == "absolute" else Path(spelling)
    found = read_list("csv", own_list(tmp_path, *paths), "all", videos=given).videos
    plain = ["a/1.mp4", "a/2.mp4", "b/1.mp4", "b/3.mp4"][: len(paths)]
    expected = read_list("csv", own_list(tmp_path / "plain", *plain), "all").videos
    assert found.equals(expected)


@pytest.mark.parametrize(
    "path", ["{}/elsewhere/1.mp4", "{}/data/videos2/1.mp4", "{}/data/videos", "/1.mp4"]
)
def test_no_path_leads_out_of_the_videos(tmp_path: Path, path: str) -> None:
    """What the message proposes works: a folder above all videos."""
    file, videos = own_list(tmp_path, path.format(tmp_path)), tmp_path / "data/videos"
    message = refusal(lambda: read_list("csv", file, "all", videos=videos))
    for part in ("list.csv, line 2", f"{videos}/; no path may lead out", "above all videos"):
        assert part in message
    above = read_list("csv", file, "all", videos=Path("/")).videos
    assert above["path"].tolist() == [path.format(tmp_path).removeprefix("/")]


def test_no_absolute_path_leads_out_by_dots(tmp_path: Path) -> None:
    file = own_list(tmp_path, f"{tmp_path}/videos/../secret.mp4")
    message = refusal(lambda: read_list("csv", file, "all", videos=tmp_path / "videos"))
    assert "'../secret.mp4': accepted is a path relative to the videos folder" in message


@pytest.mark.parametrize(
    ("rows", "labels"),
    [
        (["a,,test", "b,,test"], []),
        (["a,y,test", "b,,test", "c,x,test"], ["x", "y"]),
        (["a,y,val", "b,x,test"], ["x", "y"]),
    ],
)
def test_a_list_without_training_videos(tmp_path: Path, rows: list[str], labels: list[str]) -> None:
    text = "".join(f"{row}\n" for row in ["path,label,subset", *rows])
    folder = write(tmp_path, {"list.csv": text})
    video_list = read_list("csv", folder, "all")
    assert video_list.labels == labels
    assert len(video_list.videos) == len(rows)
    save_list(video_list, tmp_path / "list.tsv", tmp_path / "labels.txt")
    assert load_labels(tmp_path / "labels.txt") == labels
    message = refusal(lambda: read_list("csv", folder, "all", trained=True))
    assert "no video of subset training" in message


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("path|label\n", ["line 1", "'path|label'", "path, label", "subset, start, end"]),
        ("path;label\n", ["no classes"]),
        ("sep=;\npath;labl\n", ["line 2", "'path;labl'", "commas, semicolons or tabs"]),
        ("path;label;start\na;x;0;1\n", ["line 2", "4 fields; expected 3"]),
        ('path,label,start,end\na,x,"1,500",\n', ["line 2", "start '1,500'", "such as 2.5"]),
        ("path;label;start;end\na;x;;1.500,0\n", ["line 2", "end '1.500,0'", "such as 2.5"]),
        ("path,label,label\n", ["line 1", "'path,label,label'", "each once"]),
        ("path,label,subset\n/a,x,train\n", ["line 2", "'/a'", "--videos", "relative to that"]),
        ("path,label,subset\nC:/a,x,train\n", ["line 2", "'C:/a'", "relative"]),
        ("path,label,subset\na/../b,x,train\n", ["line 2", "'a/../b'", "relative"]),
        ("path,label,subset\na/.,x,train\n", ["line 2", "accepted"]),
        ("path,label,subset\na,x,train\na//b,x,train\n", ["line 3", "'a//b'"]),
        ("path,label,subset\n\na,x,tr\n", ["line 3", "'tr'", "training", "validation", "testing"]),
        ("path,label,subset\na,x,train\nb,y,val\n", ["line 3", "'y'", "labels of the training"]),
        ("path,label,subset\na,x,train\nb,,val\n", ["line 3", "empty label"]),
        ("path,label,subset\na,..,train\n", ["line 2", "label '..'", "accepted"]),
        ("path,label,subset\na,x,train\na,x,val\n", ["line 3", "line 2", "'a'", "once"]),
        ("path,label,subset\na,x,train\na,y,train\n", ["line 3", "line 2", "'a'", "once"]),
        ("path,label,start,end\na,x,0:10,\n", ["line 2", "start '0:10'", "end ''", "or empty"]),
        ("path,label\n", ["no classes", "training videos"]),
        ("path,label,start,end\na,x,2,2\n", ["line 2", "start '2'", "start < end"]),
        ("path,label,start,end\na,x,-1,2\n", ["line 2", "start '-1'", "0 <= start"]),
        ("path,label,start,end\na,x,0,nan\n", ["line 2", "end 'nan'"]),
        ("path,label,start,end\na,x,0,inf\n", ["line 2", "end 'inf'"]),
        ("path,label\n", ["no classes"]),
    ],
)
def test_bad_own_csv(tmp_path: Path, text: str, parts: list[str]) -> None:
    write(tmp_path, {"list.csv": text})
    options = SplitOptions(validation_fraction=0)
    message = refusal(lambda: read_list("csv", tmp_path / "list.csv", "all", options))
    assert all(part in message for part in parts), message
