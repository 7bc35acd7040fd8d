"""The benchmark of the views: its measure, and that it runs."""

from __future__ import annotations

import json
import math
import sys
from argparse import Namespace
from itertools import combinations
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from mars_pyg import MARS
from mars_pyg.datasets import SyntheticFactorDataset
from mars_pyg.transforms import AddItemKNN


@pytest.fixture
def divergence(training_runs: ModuleType) -> ModuleType:
    import divergence

    return divergence


def naive(views: list[list[list[float]]]) -> dict[str, list[float]]:
    """The definition, a float at a time."""

    def norm(x: list[float]) -> float:
        return math.sqrt(sum(a * a for a in x))

    out: dict[str, list[float]] = {"distance": [], "relative": [], "cosine": []}
    for rows in zip(*views, strict=True):
        pairs = list(combinations(rows, 2))
        apart = [norm([a - b for a, b in zip(x, y, strict=True)]) for x, y in pairs]
        cosines = [
            sum(a * b for a, b in zip(x, y, strict=True)) / (norm(x) * norm(y))
            for x, y in pairs
        ]
        distance = sum(apart) / len(pairs)
        out["distance"].append(distance)
        out["relative"].append(distance * len(rows) / sum(map(norm, rows)))
        out["cosine"].append(sum(cosines) / len(pairs))
    return out


def test_a_case_by_hand(divergence: ModuleType) -> None:
    text = torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 0.0]])
    image = torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]])
    identity = torch.tensor([[0.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    found = divergence.divergence([text, image, identity])
    root = math.sqrt(2)
    assert found["distance"].tolist() == pytest.approx(
        [10 / 3, (root + 2 + root) / 3, 0]
    )
    assert found["relative"].tolist() == pytest.approx([1, (2 * root + 2) / 3, 0])
    assert found["cosine"].tolist() == pytest.approx([1 / 3, -1 / 3, 0])


@pytest.mark.parametrize("num_views", [2, 3, 4])
def test_as_a_loop_over_floats(divergence: ModuleType, num_views: int) -> None:
    generator = torch.Generator().manual_seed(num_views)
    views = torch.randn(num_views, 7, 5, generator=generator, dtype=torch.float64)
    found, wanted = divergence.divergence(list(views)), naive(views.tolist())
    for name, values in wanted.items():
        assert found[name].tolist() == pytest.approx(values, rel=1e-12)
    # Views that have only shrunk are as far apart as before, in the second sense.
    small = divergence.divergence(list(views / 1000))
    torch.testing.assert_close(small["relative"], found["relative"])
    torch.testing.assert_close(small["cosine"], found["cosine"])
    torch.testing.assert_close(small["distance"], found["distance"] / 1000)
    opposite = divergence.divergence([views[0], -views[0]])
    assert opposite["relative"].tolist() == pytest.approx([2] * 7)


def test_items_without_features_are_left_out(divergence: ModuleType) -> None:
    data = AddItemKNN(k=3)(SyntheticFactorDataset(40, 30, no_text_rate=0.3)[0])
    without = int((data["item"].x_text == 0).all(dim=1).sum())
    assert without > 0
    values, record = divergence.measure(MARS(data, fusion="mean"))
    assert (record["items"], record["left_out"]) == (30 - without, without)
    assert set(record["norm"]) == {"text", "image", "id"}
    for name in ("distance", "relative"):
        assert len(values[name]) == sum(record[name]["counts"]) == 30 - without
        assert record[name]["median"] == np.median(values[name])


def test_the_run_of_the_ablations_is_used(divergence: ModuleType) -> None:
    import ablations

    jobs = list(divergence.make_jobs("baby", 3))
    arguments = Namespace(datasets=["baby"], seeds=[3], models=["MARS"])
    assert jobs[-1] == next(ablations.make_jobs(arguments))
    assert jobs[-1].folder == "baby-mars_letter-3"
    without, with_loss, _ = (job.all_keys() for job in jobs)
    assert without == {**with_loss, "view_weight": 0.0}
    assert len({job.folder for job in jobs}) == 3


def test_quick(
    divergence: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output, runs = tmp_path / "divergence.json", tmp_path / "runs"
    command = ["divergence.py", "--quick", "--output", str(output), "--runs", str(runs)]
    monkeypatch.setattr(sys, "argv", command)
    divergence.main()
    records = json.loads(output.read_text())
    names = [divergence.WITHOUT, divergence.WITH, divergence.JOINT]
    assert [record["model"] for record in records] == names
    for record in records:
        for name in ("distance", "relative"):
            assert len(record[name]["edges"]) == len(record[name]["counts"]) + 1
            assert sum(record[name]["counts"]) == record["items"]
    assert 0 <= records[1]["distance"]["share nearer"] <= 1
    table = capsys.readouterr().out
    csv, png = (tmp_path / f"divergence_synthetic.{kind}" for kind in ("csv", "png"))
    assert len(csv.read_text().splitlines()) == 4
    assert png.read_bytes().startswith(b"\x89PNG")

    # What is trained is not trained again.
    divergence.main()
    assert "epoch " not in capsys.readouterr().out
    assert json.loads(output.read_text()) == records

    png.unlink()
    monkeypatch.setattr(
        sys, "argv", ["divergence.py", "--table", "--output", str(output)]
    )
    divergence.main()
    assert capsys.readouterr().out == table[table.index("synthetic\n\n") :]
    assert png.is_file()
