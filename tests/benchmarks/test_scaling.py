"""The scaling benchmark: its records, its checks, and results that are none."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module
    for name in ("scaling", "_problems", "_methods", "_process", "_report"):
        sys.modules.pop(name if name == "scaling" else f"scaling{name}", None)


def small_task(**keys: object) -> dict:
    task = {"method": "scatter", "scenario": "even", "items": 50, "channels": 4}
    task |= {"factors": 2, "values": 5, "dtype": "float32", "device": "cpu"}
    return task | {"threads": 1, "seconds": 0.0, "memory_cap": 1.0} | keys


def test_all_methods_agree_on_all_data(load) -> None:  # type: ignore[no-untyped-def]
    problems, methods = load("scaling_problems"), load("scaling_methods").METHODS
    process = load("scaling_process")
    rows = torch.arange(60)
    for scenario in problems.SCENARIOS:
        sizes = (scenario, 60, 5, 3, 7)
        problem = problems.make_problem(*sizes, torch.float64)
        expected = problems.dense_result(problem)
        sparse = problems.sparse_result(problem, rows.numpy())
        for one, other in zip(expected, sparse, strict=True):
            torch.testing.assert_close(one, other)
        for name, method in methods.items():
            # Triton's interpreter is slow, and compared in the tests of the kernels.
            if name != "triton" and (
                name != "numba" or load("scaling").has_engine(name)
            ):
                process.check(method, method(problem), problem, expected, rows)


def test_rows_that_are_moved_by_hand(load) -> None:  # type: ignore[no-untyped-def]
    """100 edges of 8 columns: 3,200 bytes a reading, at 2 bytes a nanosecond."""
    ratio = load("scaling_report").rows_ratio
    record = {"dtype": "float32", "channels": 8, "edges": 100, "copy_gb_s": 2.0}
    forward = {**record, "pass": "forward", "ms": 0.0064}
    assert ratio(forward) == pytest.approx(2)
    assert ratio({**forward, "pass": "forward+backward"}) == pytest.approx(1)
    assert ratio({**forward, "dtype": "bfloat16"}) == pytest.approx(4)


def test_scenarios_are_what_they_say(load) -> None:  # type: ignore[no-untyped-def]
    make = load("scaling_problems").make_problem
    half = make("half", 4000, 2, 2, 10)
    count = torch.bincount(half.edge_index[1], minlength=20).view(2, 10)
    assert half.num_edges == 8000
    assert ((count[:, 0] > 1900) & (count[:, 0] < 2400)).all()
    assert make("100k", 10, 2, 4, 5).factor.numel() == 10**5
    assert make("pairs", 100, 2, 3, 5).factor.numel() == 150
    assert make("k50", 10, 2, 3, 5).num_factors == 50
    several = make("several", 1000, 2, 3, 5)
    item, value = several.edge_index.numpy()
    pairs, repeats = np.unique(np.stack([item, value]), axis=1, return_counts=True)
    assert repeats.max() == 1
    assert pairs.shape[1] == several.num_edges
    each = np.unique(item * 3 + several.factor.numpy()[value], return_counts=True)[1]
    assert len(each) == 3000
    assert set(each) == {1, 2, 3}


@pytest.mark.parametrize("part", ["output", "gradient of x", "gradient of the gate"])
def test_a_wrong_method_is_caught(load, part: str) -> None:  # type: ignore[no-untyped-def]
    """Once in forward, and once in each gradient alone."""
    methods, process = load("scaling_methods"), load("scaling_process")

    class Wrong(methods.FactorScatter):
        def forward(self, x, gate):  # type: ignore[no-untyped-def]
            if part == "gradient of x":
                x = x + 0.01 * (x - x.detach())
            elif part == "gradient of the gate":
                gate = gate + 0.01 * (gate - gate.detach())
            return super().forward(x, gate) * (1.01 if part == "output" else 1)

    process.METHODS["scatter"] = Wrong
    with pytest.raises(AssertionError, match=f"wrong at 200 items: its {part}"):
        process.measure(small_task())


def test_floor(load) -> None:  # type: ignore[no-untyped-def]
    moved = load("scaling").moved_bytes
    assert moved(10, 64, 10, "float32", "forward") == 10 * (512 + 80)
    assert moved(10, 64, 10, "float32", "forward+backward") == 10 * (1280 + 160)


def run_main(
    scaling: ModuleType, monkeypatch: pytest.MonkeyPatch, output: Path, *flags: str
) -> list[dict]:
    command = ["scaling.py", "--output", str(output), "--quick", *flags]
    monkeypatch.setattr(sys, "argv", command)
    scaling.main()
    return json.loads(output.read_text())


def test_records_table_and_plot(  # type: ignore[no-untyped-def]
    load,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib")
    scaling, output = load("scaling"), tmp_path / "scaling.json"
    flags = ["--methods", "scatter", "sage", "torch", "--items", "300"]
    records = run_main(scaling, monkeypatch, output, *flags)
    assert [(r["method"], r["pass"]) for r in records] == [
        (method, name)
        for method in ("scatter", "sage", "torch")
        for name in ("forward", "forward+backward")
    ]
    for record in records:
        assert record["status"] == "ok"
        assert record["edges"] == 3000
        assert record["runs"] >= 3
        assert record["ms"] > 0
        assert record["peak_mib"] >= 0
        assert record["copy_gb_s"] > 0
        assert record["ms"] / record["floor_ms"] == pytest.approx(
            record["floor_ratio"], rel=0.5
        )
        assert record["items_per_s"] == pytest.approx(3e5 / record["ms"], rel=0.01)
        assert record["edges_per_s"] == pytest.approx(3e6 / record["ms"], rel=0.01)
        assert record["versions"]["torch"].startswith(torch.__version__.split("+")[0])
        assert record["threads"] == 1
    lines = [line for line in capsys.readouterr().out.split("\n") if line[:1] == "|"]
    assert len(lines) == 2 + len(records)
    assert len({len(line) for line in lines}) == 1
    picture = output.with_suffix(".png").read_bytes()
    assert picture[:4] == b"\x89PNG"
    assert len(picture) < 200_000

    # Again: nothing is measured twice.
    assert run_main(scaling, monkeypatch, output, *flags) == records
    assert capsys.readouterr().out.count("recorded before") == 3


def test_problems_of_other_sizes_are_not_compared(load, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    scaling, output = load("scaling"), tmp_path / "scaling.json"
    settings = {"dtype": "float32", "device": "cpu", "factors": 10, "values": 50}
    outcome = {"status": "ok", "copy_gb_s": 8.0, "edges": 10, "num_factors": 10}
    outcome |= {"peak_mib": dict.fromkeys(scaling.PASSES, 1.0), "other_load": 0.0}
    for method, channels, ms in (("scatter", 64, 2.0), ("torch", 128, 4.0)) * 2:
        key = {"method": method, "scenario": "even", "items": 1}
        runs = {"runs": {name: [ms] for name in scaling.PASSES}}
        own = {**settings, "channels": channels}
        new = scaling.make_records(key, own, [outcome | runs])
        scaling.add_records(output, new)
    records = scaling.read_records(output)
    assert [record["channels"] for record in records] == [64, 64, 128, 128]
    narrow, wide = load("scaling_report").table(records).split("\n\n")[1::2]
    # Ours is not in it, so that nothing is a multiple of it.
    assert [line.split("|")[9].strip() for line in narrow.split("\n")[2:]] == ["", ""]
    assert "scatter" not in wide
    assert len(wide.split("\n")) == 4


def test_too_much_memory_or_time_is_a_result(  # type: ignore[no-untyped-def]
    load,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib")
    scaling, output = load("scaling"), tmp_path / "scaling.json"
    # Known beforehand; and an allocation that fails, of some GB of messages.
    flags = ["--methods", "dense", "hypergraph", "--items", "400000", "500000"]
    tight = ["--channels", "64", "--factors", "2", "--memory-cap", "1"]
    records = run_main(scaling, monkeypatch, output, *flags, *tight)
    assert len(records) == 8
    assert {record["status"] for record in records} == {"out of memory"}
    out = capsys.readouterr().out
    assert out.count("out of memory") == 8
    # With more items it is not even tried.
    assert "even 400000 dense" in out
    assert "even 500000 dense" not in out

    flags = ["--methods", "torch", "--items", "300", "--time-cap", "0.5"]
    records = run_main(scaling, monkeypatch, output, *flags)
    slow = [record for record in records if record["method"] == "torch"]
    assert [record["status"] for record in slow] == ["over 0.5 s"] * 2


def test_a_failure_is_not_a_result(load, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SystemExit, match="no_such_method"):
        load("scaling").run_process(small_task(method="no_such_method"), 60)
