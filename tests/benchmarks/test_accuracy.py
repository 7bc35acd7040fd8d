"""The accuracy benchmark: its records, and that it goes on where it was."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from mars_pyg.errors import DataError
from mars_pyg.features import DEFAULT_TEXT_MODEL as TEXT_MODEL


@pytest.fixture
def accuracy(training_runs: ModuleType) -> ModuleType:
    import accuracy

    return accuracy


def test_records_and_table(
    accuracy: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "accuracy.json"
    command = ["accuracy.py", "--quick", "--output", str(output)]
    command += ["--models", "bpr", "mars", "--seeds", "0", "1"]
    monkeypatch.setattr(sys, "argv", command)
    accuracy.main()
    records = json.loads(output.read_text())
    runs = [(r["dataset"], r["model"], r["seed"]) for r in records]
    assert runs == [
        ("synthetic", "bpr", 0),
        ("synthetic", "bpr", 1),
        ("synthetic", "mars", 0),
        ("synthetic", "mars", 1),
    ]
    for record in records:
        for split in ("valid", "test"):
            assert set(record[split]) == set(accuracy.METRICS)
        assert record["epochs"] == 5
        assert record["seconds_per_epoch"] > 0
        assert record["peak_mib"] > 0
        assert record["config"]["batch_size"] == 8192
    first = capsys.readouterr().out
    assert "recorded before" not in first
    # The table of two models, and that of MARS against its only rival.
    assert len(first.strip().split("\n|")) == 1 + 4 + 3
    bpr, mars = (
        sum(r["test"]["recall@20"] for r in records if r["model"] == model) / 2
        for model in ("bpr", "mars")
    )
    row = first.strip().splitlines()[-1]
    gain = f"{mars - bpr:+.4f}".replace("0.", ".")
    assert row.startswith(f"| synthetic | bpr | {gain} |")

    table = pd.read_csv(tmp_path / "accuracy_synthetic.csv").set_index("model")
    assert table["seeds"].to_dict() == {"bpr": 2, "mars": 2}
    recall = [record["test"]["recall@20"] for record in records[2:]]
    assert table.loc["mars", "test recall@20"] == pytest.approx(sum(recall) / 2)
    # Of two seeds the t-distribution has one degree of freedom.
    half = 12.7062 * abs(recall[0] - recall[1]) / 2
    interval = table.loc["mars", "test recall@20 interval"]
    assert interval == pytest.approx(half, rel=1e-4)
    plot = tmp_path / "accuracy_synthetic.png"
    assert plot.read_bytes().startswith(b"\x89PNG")

    # Again: nothing is run twice.
    accuracy.main()
    again = capsys.readouterr().out
    assert again.count("recorded before") == 4
    assert again.split("\n|", 1)[1] == first.split("\n|", 1)[1]
    assert json.loads(output.read_text()) == records


def test_the_records_are_no_folder_of_places(
    accuracy: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["accuracy.py", "--quick", "--output", str(tmp_path / "accuracy")]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit):
        accuracy.parse_arguments()
    assert "--output must be a .json file" in capsys.readouterr().err


def test_a_search_is_of_models_without_heads(accuracy: ModuleType) -> None:
    models = ["mars", "mars_heads", "bm3_heads"]
    arguments = Namespace(datasets=["baby"], models=models, search=True)
    jobs = list(accuracy.make_jobs(arguments))
    # What has one name is one job.
    assert jobs[:2] == jobs[2:4]
    assert [job.model for job in jobs[:2]] == ["mars", "mars regularization=0.003"]
    assert {tuple(job.keys["heads"]) for job in jobs} == {()}


def test_colours_tell_heads_and_factors(accuracy: ModuleType) -> None:
    kinds = {
        "no factors": ["bpr", "lightgcn", "structure", "ease", "freedom", "bm3"],
        "factors, no heads": ["mars", "mars_paper", "mars_own", "ease_cliques"],
        "with heads": ["mars_heads", "mars_joint", "mars_own_heads", "bm3_heads"],
    }
    for kind, models in kinds.items():
        assert set(models) <= set(accuracy.MODELS)
        assert {accuracy.kind_of(model) for model in models} == {kind}


def test_comparison_is_paired_over_users_of_mean_seeds(
    accuracy: ModuleType, tmp_path: Path
) -> None:
    def keep(model: str, *seeds: list[int]) -> None:
        for seed, place in enumerate(seeds):
            places = {"user": [0, 1, 1, 2], "item": [5, 5, 6, 7], "place": place}
            file = tmp_path / "accuracy" / f"synthetic-{model}-{seed}.parquet"
            pd.DataFrame(places).to_parquet(file)

    (tmp_path / "accuracy").mkdir()
    assert accuracy.comparisons(tmp_path / "accuracy.json") == ["", ""]
    keep("ease", [0, 0, 0, 0])
    keep("mars", [1, 0, 2, 9], [3, 0, 4, 0])
    keep("mars_heads", [1, 2, 3, 4])
    keep("vbpr_heads", [1, 2, 0, 4])
    plain, headed = (
        [
            [cell.strip() for cell in line.split("|")[1:-1]]
            for line in table.split("\n")[2:]
        ]
        for table in accuracy.comparisons(tmp_path / "accuracy.json")
    )
    # Recall 1, 1/2 and 1/2 more: t = (2/3) / (1/6) = 4 of two degrees of freedom.
    # Models with heads are no rivals of one without, and none is its own.
    (ease,) = plain
    assert ease[:4] == ["synthetic", "ease", "+.6667", f"{1 - 4 / 18**0.5:.0e}"]
    # There is no run of the other one of ours.
    assert ease[6:] == ["", "", "", "", "3", "1"]
    assert [row[1] for row in headed] == ["ease", "mars", "vbpr_heads"]
    ease, mars, vbpr = headed
    assert (ease[2], ease[-2:]) == ("+1.0000", ["3", "1"])
    # 0, 1/2 and 1/2: t = 2.
    assert mars[2:4] == ["+.3333", f"{1 - 2 / 6**0.5:.0e}"]
    assert vbpr[2] == "+.1667"


def test_recorded_configurations_are_those_of_the_models(
    accuracy: ModuleType, training_runs: ModuleType
) -> None:
    """What the repository records was run with the settings that the script has."""
    for record in accuracy.read_records(accuracy.RESULTS):
        model = record["model"]
        job = accuracy.Job(
            record["dataset"],
            model,
            record["seed"],
            accuracy.MODELS[model],
            accuracy.chosen_point(model, record["dataset"]),
        )
        arguments = Namespace(root=None, quick=False, text_model=TEXT_MODEL)
        config = training_runs.make(arguments, job)
        assert record["config"] == training_runs.describe(config, job)


def test_baselines_have_records_of_the_same_form(
    accuracy: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = {**accuracy.MODELS["freedom"], "arguments": {"num_layers": 1}}
    monkeypatch.setitem(accuracy.MODELS, "freedom", own)
    output, runs = tmp_path / "accuracy.json", tmp_path / "runs"
    command = ["accuracy.py", "--quick", "--output", str(output), "--runs", str(runs)]
    command += ["--models", "structure", "freedom", "vbpr_heads"]
    monkeypatch.setattr(sys, "argv", command)
    accuracy.main()
    structure, freedom, headed = json.loads(output.read_text())
    assert set(structure) == set(freedom) == set(headed) - {"weights"}
    assert freedom["config"]["baseline"] == "freedom"
    assert freedom["config"]["arguments"]["num_layers"] == 1
    assert freedom["config"]["arguments"]["edge_dropout"] == 0.8
    assert "semantic_weight" not in freedom["config"]
    own_keys = {"baseline", "arguments"}
    training = set(freedom["config"]) - own_keys
    assert {"learning_rate", "batch_size", "text_model", "seed"} < training
    same = training & set(structure["config"])
    assert all(freedom["config"][key] == structure["config"][key] for key in same)
    assert len(headed["weights"]) > 3
    assert "vbpr_heads" in capsys.readouterr().out

    accuracy.main()
    assert capsys.readouterr().out.count("recorded before") == 3

    # The folder of the run is of other settings than the new ones.
    other = {**own, "arguments": {"num_layers": 3}}
    monkeypatch.setitem(accuracy.MODELS, "freedom", other)
    with pytest.raises(DataError, match="other settings"):
        accuracy.main()


def test_a_baseline_goes_on_where_it_was(
    accuracy: ModuleType,
    training_runs: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from baselines import LATTICE

    def run(name: str) -> dict:
        output = tmp_path / name / "accuracy.json"
        command = ["accuracy.py", "--quick", "--output", str(output)]
        command += ["--runs", str(tmp_path / name), "--models", "lattice"]
        monkeypatch.setattr(sys, "argv", command)
        accuracy.main()
        return json.loads(output.read_text())[0]

    quick = {**training_runs.QUICK, "max_epochs": 4, "validate_every": 2}
    monkeypatch.setattr(training_runs, "QUICK", quick)
    whole = run("whole")
    start_epoch, epochs = LATTICE.start_epoch, []

    def stop(self, generator) -> None:  # type: ignore[no-untyped-def]
        epochs.append(len(epochs))
        if len(epochs) == 4:
            raise ConnectionError("the machine is gone")
        start_epoch(self, generator)

    monkeypatch.setattr(LATTICE, "start_epoch", stop)
    with pytest.raises(ConnectionError):
        run("halves")
    # Epochs from the third on come again.
    halves = run("halves")
    assert halves["valid"] == whole["valid"]
    assert halves["test"] == whole["test"]
    assert halves["best_epoch"] == whole["best_epoch"]
    assert len(epochs) == 4 + 2
