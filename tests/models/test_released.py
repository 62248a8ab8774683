"""The weight files that the authors of the reference have released."""

from pathlib import Path

from running import r3d

from r3d.models.released import RELEASED, released_weights


def test_released_weights() -> None:
    # The authors' table: file name and number of pre-training classes.
    table = {
        "r3d18": {"K": 700, "KM": 1039},
        "r3d34": {"K": 700, "KM": 1039},
        "r3d50": {"K": 700, "KM": 1039, "KMS": 1139, "KS": 800, "M": 339, "MS": 439, "S": 100},
        "r3d101": {"K": 700, "KM": 1039},
        "r3d152": {"K": 700, "KM": 1039},
        "r3d200": {"K": 700, "KM": 1039},
    }
    expected = {
        f"{network}_{datasets}_200ep.pth": (f"resnet-{network[3:]}", n_classes)
        for network, trained_on in table.items()
        for datasets, n_classes in trained_on.items()
    }
    assert len(expected) == 17
    found = {
        file: (weights.architecture.name, weights.architecture.n_classes)
        for file, weights in RELEASED.items()
    }
    assert found == expected

    merged = released_weights(Path("downloads") / "r3d50_KMS_200ep.pth")
    assert merged is not None
    names = [class_list.name for class_list in merged.class_lists]
    assert names == ["Kinetics-700", "Moments in Time", "STAIR-Actions"]
    assert released_weights("save_200.pth") is None


def test_the_released_files_are_listed_with_all_that_fits_them(tmp_path: Path) -> None:
    done = r3d(tmp_path, "released")
    assert done.returncode == 0
    table = done.stdout.partition("\n\n")[0].splitlines()[1:-1]
    assert [line.split()[0] for line in table] == list(RELEASED)
    for line, weights in zip(table, RELEASED.values(), strict=True):
        network = weights.architecture
        assert f"  {network.name} " in line
        assert f"  {network.n_classes} " in line
        assert all(class_list.name in line for class_list in weights.class_lists)
    for told in ("332 of the 700", "90 of the 339", "drive.google.com", "models/", "S_0 to S_99"):
        assert told in done.stdout
