"""Accuracies of the reference's script and ours on the same files."""

import json
from pathlib import Path

import numpy as np
import pytest
from checkout import Reference
from deviations import DEVIATIONS

from r3d.errors import InputError
from r3d.evaluation.evaluate import evaluate

pytestmark = pytest.mark.differential

LABELS = [f"class {number}" for number in range(12)]


def write_files(folder: Path, *, stored: int, n_missing: int, seed: int) -> tuple[Path, Path]:
    """An annotation of 40 validation videos, and scores that favour the right class a little."""
    rng = np.random.default_rng(seed)
    database, results = {}, {}
    for number in range(60):
        subset = "validation" if number % 3 else "training"
        target = int(rng.integers(len(LABELS)))
        database[f"v{number}"] = {
            "subset": subset,
            "annotations": {"label": LABELS[target], "segment": [1, 17]},
        }
        scores = rng.integers(0, 6, len(LABELS)) / 8  # ties
        scores[target] += rng.random() * 0.4
        order = rng.permutation(len(LABELS))  # a file need not be sorted
        best = sorted(order.tolist(), key=lambda i: -scores[i])[:stored]
        results[f"v{number}"] = [
            {"label": LABELS[i], "score": float(scores[i])} for i in rng.permutation(best)
        ]
    for number in range(1, 3 * n_missing, 3):
        del results[f"v{number}"]
    annotation, result = folder / "annotation.json", folder / "val.json"
    annotation.write_text(json.dumps({"labels": LABELS, "database": database}))
    result.write_text(json.dumps({"results": results}))
    return annotation, result


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("n_missing", [0, 7])
@pytest.mark.parametrize("stored", [5, 12])
def test_accuracies(
    reference: Reference, tmp_path: Path, stored: int, n_missing: int, seed: int
) -> None:
    annotation, result = write_files(tmp_path, stored=stored, n_missing=n_missing, seed=seed)
    found = evaluate(annotation, result, subset="validation", ks=(1, 5))
    values = set()
    for k in (1, 5):
        for ignore in (False, True):
            options = ["-k", k, "--save", *(["--ignore"] if ignore else [])]
            reference.run("util_scripts.eval_accuracy", annotation, result, *options)
            expected = float((tmp_path / f"top{k}.txt").read_text())
            assert (found.accuracy_found if ignore else found.accuracy)(k) == expected
            values.add(expected)
    assert len(values) == (4 if n_missing else 2)
    assert 0 < min(values) < max(values) < 1


def test_more_classes_than_stored(reference: Reference, tmp_path: Path) -> None:
    annotation, result = write_files(tmp_path, stored=3, n_missing=0, seed=1)
    accuracies = []
    for k in (3, 5):
        reference.run("util_scripts.eval_accuracy", annotation, result, "-k", k, "--save")
        accuracies.append((tmp_path / f"top{k}.txt").read_text())
    assert accuracies[0] == accuracies[1], DEVIATIONS["large k"]
    with pytest.raises(InputError, match="k is 5"):
        evaluate(annotation, result, subset="val", ks=(5,))
