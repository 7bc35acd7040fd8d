"""The benchmarks of the paper's figures: what they run, write and print."""

from __future__ import annotations

import importlib
import json
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from mars_pyg.datasets.amazon import AmazonFactorDataset


def run(
    name: str, output: Path, monkeypatch: pytest.MonkeyPatch, *options: str
) -> None:
    command = [f"{name}.py", "--output", str(output), *options]
    monkeypatch.setattr(sys, "argv", command)
    importlib.import_module(name).main()


@pytest.mark.parametrize(
    ("name", "options", "num_rows"),
    [
        ("ablations", ["--models", "MARS", "w/o MM", "MARS with heads", "w/o ease"], 4),
        ("sensitivity", ["--options", "view_weight"], 8),
        ("factor_sources", [], 4),
    ],
)
def test_writes_records_table_and_plot(
    name: str,
    options: list[str],
    num_rows: int,
    training_runs: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / f"{name}.json"
    run(name, output, monkeypatch, "--quick", *options)
    printed = capsys.readouterr().out
    table = pd.read_csv(tmp_path / f"{name}_synthetic.csv")
    assert len(table) == num_rows
    assert (table["seeds"] == 1).all()
    plot = (tmp_path / f"{name}_synthetic.png").read_bytes()
    assert plot.startswith(b"\x89PNG")
    for record in json.loads(output.read_text()):
        recall = f"{record['test']['recall@20']:.4f}".lstrip("0")
        assert recall in printed

    # The records are all that a table is made of, and nothing is run twice.
    run(name, output, monkeypatch, "--table")
    assert capsys.readouterr().out in printed
    run(name, output, monkeypatch, "--quick", *options)
    assert capsys.readouterr().out.count("recorded before") == printed.count(" seed ")


def test_parts_differ_from_the_whole_in_what_they_say(
    training_runs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ablations

    arguments = ["ablations.py", "--quick", "--seeds", "3"]
    monkeypatch.setattr(sys, "argv", arguments)
    parsed = ablations.parse_arguments()
    jobs = {job.model: job for job in ablations.make_jobs(parsed)}
    whole = jobs["MARS"].all_keys()
    for name, change in ablations.PARTS.items():
        assert jobs[name].all_keys() == {**whole, **change}
    assert jobs["w/o ease"].all_keys()["heads"] == [
        "affinity",
        "popularity",
        "similarity",
    ]
    # No two runs share a folder.
    assert len({job.folder for job in jobs.values()}) == len(jobs)


def test_a_part_that_is_none_is_refused(
    training_runs: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import ablations

    # Not trained with all heads, and recorded by a name that no table has.
    command = ["ablations.py", "--quick", "--models", "MARS", "w/o fp"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit):
        ablations.parse_arguments()
    assert "invalid choice: 'w/o fp'" in capsys.readouterr().err


def test_heads_are_fitted_to_a_training_that_is_there(
    training_runs: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = str(tmp_path / "runs")
    for model in ("MARS with heads", "MARS"):
        run(
            "ablations",
            tmp_path / "ablations.json",
            monkeypatch,
            *("--quick", "--runs", runs, "--models", model),
        )
    with_heads, without = json.loads((tmp_path / "ablations.json").read_text())
    assert without["best_epoch"] == with_heads["best_epoch"]
    assert without["seconds_per_epoch"] is None
    assert "weights" in with_heads
    assert "weights" not in without


def train_twins(
    training_runs: ModuleType, runs: Path, first: dict, second: dict
) -> bool:
    """Whether the second run takes over the training of the first one."""
    arguments = training_runs.argparse.Namespace(
        root=None, runs=runs, text_model="tfidf", quick=True
    )
    job = training_runs.Job("synthetic", "first", 0, first)
    training_runs.train_job(arguments, job, runs)
    job = training_runs.Job("synthetic", "second", 0, second, twins=["first"])
    metrics, _ = training_runs.train_job(arguments, job, runs)
    return metrics["seconds_per_epoch"] is None


MODEL = {"model": "lightgcn", "heads": []}
BASELINE = {"model": "lightgcn", "baseline": "vbpr", "arguments": {}}
HEADS = {"heads": ["popularity", "ease"], "ease_clique_weight": 0.0}


@pytest.mark.parametrize(
    ("first", "second", "is_taken"),
    [
        (MODEL, {**MODEL, **HEADS}, True),
        ({**MODEL, **HEADS}, MODEL, True),
        ({**MODEL, "learning_rate": 0.1}, {**MODEL, **HEADS}, False),
        ({**MODEL, "num_layers": 1}, MODEL, False),
        ({**MODEL, "data_seed": 5}, MODEL, False),
        # The default, whether it is given or not.
        ({**MODEL, "num_layers": 3}, MODEL, True),
        (MODEL, {**MODEL, **HEADS, "heads_in_loss": 0.5}, False),
        (BASELINE, {**BASELINE, "heads": ["popularity"]}, True),
        ({**BASELINE, "arguments": {"regularization": 0.5}}, BASELINE, False),
        ({**BASELINE, "learning_rate": 0.1}, BASELINE, False),
        (MODEL, BASELINE, False),
    ],
)
def test_a_training_of_other_settings_is_not_taken(
    first: dict,
    second: dict,
    is_taken: bool,
    training_runs: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train_twins(training_runs, tmp_path, first, second) == is_taken
    told = (
        "synthetic-first-0 was trained with other settings" in capsys.readouterr().out
    )
    assert told != is_taken


def test_twins_may_be_on_another_machine(
    training_runs: ModuleType, tmp_path: Path
) -> None:
    def settings(**keys: object) -> dict:
        config = training_runs.make_config({"dataset": "baby", "model": "mars", **keys})
        return training_runs.settings_of_training(training_runs.resolved_keys(config))

    here = settings(root=tmp_path, text_model="models/encoder")
    assert here == settings(root="data", text_model="/there/encoder", engine="torch")
    assert here != settings(root=tmp_path, text_model="models/other")
    # Other factors.
    assert here != settings(root=tmp_path, text_model="encoder", profiles=tmp_path)
    assert here != settings(root=tmp_path, text_model="encoder", shipped_profiles=False)


@pytest.mark.parametrize("source", ["keywords", "clusters"])
def test_sources_have_the_values_of_the_profiles(
    source: str, training_runs: ModuleType, tmp_path: Path
) -> None:
    import factor_sources

    root, folder = tmp_path / "data", tmp_path / "profiles"
    write_amazon(root)
    arguments = training_runs.argparse.Namespace(root=root, text_model="tfidf")
    factor_sources.write_profiles(arguments, "baby", source, folder)
    data = AmazonFactorDataset(root, "baby", profiles=folder)[0]
    item, value = data["item", "text_value", "value"].edge_index
    found = {
        (data["item"].id[i], data["value"].name[v])
        for i, v in zip(item.tolist(), value.tolist(), strict=True)
    }
    if source == "keywords":
        # Words, plurals and what a value has in parentheses; d says nothing.
        assert found == {("a", "cotton"), ("b", "toy (ball, doll)"), ("c", "cotton")}
    else:
        own = data["value"].factor.bincount()
        assert own.tolist() == [2, 2]
        assert value.numel() == 6


def test_seeds_of_other_settings_are_told(training_runs: ModuleType) -> None:
    import figures

    def record(seed: int, width: int) -> dict:
        metrics = {"recall@20": 0.1, "ndcg@20": 0.1}
        run = {"dataset": "baby", "model": "mars", "valid": metrics, "test": metrics}
        return {**run, "config": {"seed": seed, "embedding_dim": width}}

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures.summarize([record(0, 64), record(1, 64)])
    with pytest.warns(UserWarning, match="seeds of baby mars .* different settings"):
        figures.summarize([record(0, 32), record(1, 64)])


def test_brands_are_told_from_categories(training_runs: ModuleType) -> None:
    import factor_sources

    texts = ["Ghost | Sports | Hunting", "| Sports | Cycling", "Sports | Golf", "UTG"]
    assert factor_sources.split_paths(texts, "Sports") == {
        "brand": ["Ghost", "", "", "UTG"],
        "categories": ["Sports|Hunting", "Sports|Cycling", "Sports|Golf", ""],
    }
    # Baby has no such column: no run.
    arguments = training_runs.argparse.Namespace(
        datasets=["baby", "sports"],
        model="mars_letter",
        sources=["columns"],
        seeds=[0],
        root=None,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(factor_sources, "write_profiles", lambda *_: None)
        jobs = list(factor_sources.make_jobs(arguments, Path("profiles")))
    assert [(job.dataset, job.model) for job in jobs] == [
        ("sports", "mars_letter columns"),
        ("sports", "mars_letter_heads columns"),
    ]


def write_amazon(root: Path) -> None:
    """Four items, three of them with texts and with profiles."""
    folder = root / "amazon-baby"
    (folder / "factors").mkdir(parents=True)
    items = [
        ("0", "a", "Cotton shirt"),
        ("1", "b", "Dolls to play with"),
        ("2", "c", "Blanket, cotton"),
        ("3", "d", ""),
    ]
    lines = ["itemID\tasin\ttitle\tdescription"]
    lines += ["\t".join([*item, ""]) for item in items]
    (folder / "items.tsv").write_text("\n".join(lines) + "\n")
    rows = [
        f"{u}\t{i}\t5\t0\t{0 if i < 2 else i - 1}" for u in range(3) for i in range(4)
    ]
    header = "userID\titemID\trating\ttimestamp\tx_label"
    (folder / "baby.inter").write_text("\n".join([header, *rows]) + "\n")
    schema = {
        "modality": "text",
        "factors": [
            {"name": "material", "values": ["cotton", "wool"]},
            {"name": "kind", "values": ["toy (ball, doll)", "bed"]},
        ],
    }
    (folder / "factors" / "schema.json").write_text(json.dumps(schema))
    (folder / "factors" / "profiles.tsv").write_text(
        "asin\tmaterial\tkind\na\tcotton\t\nb\t\ttoy (ball, doll)\nc\tcotton\tbed\n"
    )


def test_times_are_those_of_the_run_that_trained(training_runs: ModuleType) -> None:
    trained = {"epochs": 9, "seconds_per_epoch": 0.5, "peak_mib": 7, "machine": "m"}
    fitted = {"epochs": 9, "seconds_per_epoch": None, "peak_mib": None, "weights": {}}
    assert training_runs.take_times(fitted, trained) == {**trained, "weights": {}}
    # Of another training, or with times of its own.
    other = {**trained, "epochs": 8}
    assert training_runs.take_times(fitted, other) == fitted
    assert training_runs.take_times(trained, {**trained, "peak_mib": 9}) == trained
    assert training_runs.take_times({"seed": 0}, {}) == {"seed": 0}
