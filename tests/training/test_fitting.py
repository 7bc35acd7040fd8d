"""Training: what a run leaves behind, and that a resumed one is the same run."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import MPSAccelerator
from torch import Tensor
from torch_geometric.data import HeteroData

import mars_pyg.training.module as module_file
from mars_pyg import BPR, MARS, AddItemKNN, DataError, LightGCN, SyntheticFactorDataset
from mars_pyg.training import (
    FitResult,
    RecommenderDataModule,
    RecommenderModule,
    evaluate,
    fit,
)

OPTIONS: dict[str, Any] = {
    "batch_size": 64,
    "learning_rate": 0.05,
    "validate_every": 1,
    "patience": 100,
    # The graph has 20 items: a longer list would always hold every one of them.
    "k": (5,),
    "monitor": "recall@5",
    "accelerator": "cpu",
    "progress": False,
}


@pytest.fixture(scope="module")
def graph() -> HeteroData:
    return AddItemKNN(k=5)(SyntheticFactorDataset(30, 20, seed=2)[0])


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


class Noisy(LightGCN):
    """Draws from PyTorch's global generator, as dropout does, and can be stopped."""

    stop_at: int | None = None
    steps = 0

    def loss(
        self, user: Tensor, positive: Tensor, negative: Tensor
    ) -> dict[str, Tensor]:
        if self.steps == self.stop_at:
            raise KeyboardInterrupt
        self.steps += 1
        losses = super().loss(user, positive, negative)
        return {name: loss * (0.5 + torch.rand(())) for name, loss in losses.items()}


def make(graph: HeteroData, seed: int = 0) -> Noisy:
    torch.manual_seed(seed)
    return Noisy(graph, embedding_dim=8, edge_dropout=0.5)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "logs" / "metrics.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def assert_same(
    first: tuple[torch.nn.Module, FitResult, Path],
    second: tuple[torch.nn.Module, FitResult, Path],
) -> None:
    for one, other in zip(first[0].parameters(), second[0].parameters(), strict=True):
        assert torch.equal(one, other)
    assert first[1].val == second[1].val
    assert first[1].best_epoch == second[1].best_epoch
    assert first[1].epochs == second[1].epochs
    assert rows(first[2]) == rows(second[2])
    states = [
        torch.load(folder / "last.ckpt", weights_only=True)["optimizer_states"]
        for _, _, folder in (first, second)
    ]
    for one, other in zip(
        states[0][0]["state"].values(), states[1][0]["state"].values(), strict=True
    ):
        assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def whole(
    graph: HeteroData, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Noisy, FitResult, Path]:
    """Six epochs without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    model = make(graph)
    return model, fit(model, graph, max_epochs=6, run_dir=folder, **OPTIONS), folder


@pytest.mark.parametrize("model", [BPR, LightGCN, MARS])
def test_learns(model: type[LightGCN], tmp_path: Path) -> None:
    graph = AddItemKNN(k=5)(SyntheticFactorDataset(200, 100, seed=2)[0])
    torch.manual_seed(0)
    recommender = model(graph, embedding_dim=16)
    before = evaluate(recommender, graph, "val", k=[5])
    result = fit(
        recommender,
        graph,
        max_epochs=10,
        run_dir=tmp_path / "run",
        **OPTIONS,
    )
    losses = [float(row["train/loss"]) for row in rows(tmp_path / "run")]
    assert losses[-1] < losses[0]
    assert result.val["recall@5"] > before["recall@5"]
    assert evaluate(recommender, graph, "val", k=[5]) == result.val
    assert not recommender.training


def test_resume_after_the_last_epoch(
    graph: HeteroData, whole: tuple, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    fit(make(graph), graph, max_epochs=3, run_dir=folder, **OPTIONS)
    # Another start: the weights must come from the checkpoint.
    model = make(graph, seed=9)
    result = fit(model, graph, max_epochs=6, run_dir=folder, resume=True, **OPTIONS)
    assert_same((model, result, folder), whole)


@pytest.mark.parametrize("stop_at", [0, 2, 10, 17, 20])
def test_resume_after_an_interrupt(
    graph: HeteroData, whole: tuple, tmp_path: Path, stop_at: int
) -> None:
    folder = tmp_path / "run"
    model = make(graph)
    model.stop_at = stop_at
    with pytest.raises(KeyboardInterrupt):
        fit(model, graph, max_epochs=6, run_dir=folder, **OPTIONS)
    model = make(graph)
    result = fit(model, graph, max_epochs=6, run_dir=folder, resume=True, **OPTIONS)
    assert_same((model, result, folder), whole)


def test_resume_after_a_kill(graph: HeteroData, whole: tuple, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code = f"""
        import os, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_fitting import *
        from test_fitting import OPTIONS, make
        graph = AddItemKNN(k=5)(SyntheticFactorDataset(30, 20, seed=2)[0])
        model = make(graph)
        loss = model.loss
        def kill(*batch):
            if model.steps == 17:
                os._exit(9)
            return loss(*batch)
        model.loss = kill
        fit(model, graph, max_epochs=6, run_dir={str(folder)!r}, **OPTIONS)
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, check=False
    )
    assert found.returncode == 9
    model = make(graph)
    result = fit(model, graph, max_epochs=6, run_dir=folder, resume=True, **OPTIONS)
    assert_same((model, result, folder), whole)


def test_seeds(graph: HeteroData, whole: tuple, tmp_path: Path) -> None:
    again, other = make(graph), make(graph)
    result = fit(again, graph, max_epochs=6, run_dir=tmp_path / "run", **OPTIONS)
    assert_same((again, result, tmp_path / "run"), whole)
    fit(other, graph, max_epochs=6, seed=1, **OPTIONS)
    assert not torch.equal(other.item_embedding.weight, again.item_embedding.weight)


def test_early_stopping(
    graph: HeteroData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By epoch 2, 4, ...: the best is that of epoch 4, and two more bring nothing.
    script = iter([0.2, 0.4, 0.3, 0.4, 0.9])
    weights = []

    def scripted(recommender: LightGCN, *rest: object) -> dict[str, float]:
        weights.append(recommender.item_embedding.weight.detach().clone())
        return {"recall@5": next(script)}

    monkeypatch.setattr(module_file, "evaluate", scripted)
    model, folder = make(graph), tmp_path / "run"
    options = {**OPTIONS, "patience": 2, "validate_every": 2, "run_dir": folder}
    result = fit(model, graph, max_epochs=100, **options)
    assert (result.best_epoch, result.epochs) == (4, 8)
    assert torch.equal(model.item_embedding.weight, weights[1])
    # A run that has stopped stays stopped.
    again = make(graph, seed=5)
    result = fit(again, graph, max_epochs=100, resume=True, **options)
    assert (result.best_epoch, result.epochs) == (4, 8)
    assert result.seconds_per_epoch is None
    assert torch.equal(again.item_embedding.weight, weights[1])
    assert len(rows(folder)) == 8


def test_what_a_run_leaves(graph: HeteroData, whole: tuple, tmp_path: Path) -> None:
    _, result, folder = whole
    logged = rows(folder)
    assert [row["epoch"] for row in logged] == [str(epoch) for epoch in range(6)]
    recall = [float(row["val/recall@5"]) for row in logged]
    assert max(recall) == pytest.approx(result.val["recall@5"])
    assert all(float(row["train/loss"]) > 0 for row in logged)
    assert list((folder / "logs").glob("events.out.tfevents.*"))
    names = {path.name for path in folder.iterdir()}
    assert names == {"best.ckpt", "last.ckpt", "logs"}
    for name in ("best.ckpt", "last.ckpt"):
        assert torch.load(folder / name, weights_only=True)["state_dict"]
    assert result.seconds_per_epoch > 0
    assert result.peak_mib > 1
    # Without a folder nothing is left, and nothing ever beside it.
    fit(make(graph), graph, max_epochs=1, **OPTIONS)
    assert not list((tmp_path / "cwd").iterdir())


def test_a_folder_with_a_run_is_not_overwritten(
    graph: HeteroData, whole: tuple
) -> None:
    _, _, folder = whole
    before = (folder / "last.ckpt").read_bytes()
    with pytest.raises(DataError, match="already holds a run"):
        fit(make(graph), graph, max_epochs=6, run_dir=folder, **OPTIONS)
    assert (folder / "last.ckpt").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"monitor": "recall@20"}, "'monitor'"),
        ({"k": []}, "'k' must hold positive cuts"),
        ({"k": [0]}, "'k' must hold positive cuts"),
        ({"validate_every": 0}, "'validate_every'"),
        ({"max_epochs": 0}, "'max_epochs'"),
        ({"patience": 0}, "'patience'"),
        ({"batch_size": 0}, "'batch_size'"),
        ({"chunk_size": 0}, "'chunk_size' must"),
        ({"num_eval_users": 0}, "'num_eval_users'"),
    ],
)
def test_wrong_options(graph: HeteroData, options: dict, message: str) -> None:
    model = make(graph)
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(ValueError, match=message):
        fit(model, graph, **{**OPTIONS, **options})
    assert all(map(torch.equal, before, model.parameters()))


@pytest.mark.parametrize("num_items", [30, 90])
def test_a_graph_of_other_items_is_not_trained_on(
    graph: HeteroData, num_items: int
) -> None:
    other = SyntheticFactorDataset(graph["user"].num_nodes, num_items)[0]
    model = BPR(graph, embedding_dim=4)
    before = model.item_embedding.weight.clone()
    with pytest.raises(DataError, match=f"there are {num_items} items"):
        fit(model, other, **OPTIONS)
    assert torch.equal(model.item_embedding.weight, before)


def test_without_validation_nothing_is_trained(graph: HeteroData) -> None:
    bare = graph.clone()
    store = bare["user", "interacts", "item"]
    store.val_edge_index = store.val_edge_index[:, :0]
    model = make(bare)
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(DataError, match="no user has an item in the val split"):
        fit(model, bare, max_epochs=1, **OPTIONS)
    assert all(map(torch.equal, before, model.parameters()))


def test_other_data_is_refused(graph: HeteroData, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    fit(make(graph), graph, max_epochs=1, run_dir=folder, **OPTIONS)
    other = graph.clone()
    store = other["user", "interacts", "item"]
    store.val_edge_index, store.test_edge_index = (
        store.test_edge_index,
        store.val_edge_index,
    )
    with pytest.raises(DataError, match="not what the run was trained on"):
        fit(make(other), other, max_epochs=2, run_dir=folder, resume=True, **OPTIONS)


def test_a_model_of_a_larger_graph_is_told_as_other_data(
    graph: HeteroData, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    fit(MARS(graph, embedding_dim=8), graph, max_epochs=1, run_dir=folder, **OPTIONS)
    more, wider = graph.clone(), graph.clone()
    more["user"].num_nodes += 1
    wider["item"].x_text = torch.rand(20, 1 + graph["item"].x_text.size(1))
    for other, words in (
        (more, "not what the run was trained on"),
        (wider, "the features 'x_text' of the items have changed"),
    ):
        model = MARS(other, embedding_dim=8)
        with pytest.raises(DataError, match=words):
            fit(model, other, max_epochs=2, run_dir=folder, resume=True, **OPTIONS)
    # Here the model is another one, which reads less.
    model = MARS(graph, embedding_dim=8, modalities=["id"])
    with pytest.raises(DataError, match="not of this model"):
        fit(model, graph, max_epochs=2, run_dir=folder, resume=True, **OPTIONS)


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ({}, {"learning_rate": 1e-6}, r"'learning_rate' of 0\.05, not 1e-06"),
        ({}, {"batch_size": 32}, "'batch_size' of 64, not 32"),
        ({}, {"num_eval_users": 5}, "'num_eval_users' of None, not 5"),
        ({}, {"precision": "64-true"}, "'precision' of '32-true', not '64-true'"),
        ({}, {"deterministic": True}, "'deterministic' of False, not True"),
        ({"embedding_dim": 4}, {}, r"not of this model: its '\w+_embedding"),
        ({"kind": LightGCN}, {}, "not of this model: it is no LightGCN"),
    ],
)
def test_other_models_and_options_are_refused(
    graph: HeteroData, tmp_path: Path, model: dict, options: dict, words: str
) -> None:
    fit(make(graph), graph, max_epochs=1, run_dir=tmp_path / "run", **OPTIONS)
    kind = model.get("kind", Noisy)
    other = kind(graph, embedding_dim=model.get("embedding_dim", 8))
    before = other.state_dict()
    with pytest.raises(DataError, match=words):
        fit(
            other,
            graph,
            max_epochs=2,
            run_dir=tmp_path / "run",
            resume=True,
            **{**OPTIONS, **options},
        )
    assert all(map(torch.equal, before.values(), other.state_dict().values()))


def test_the_state_of_pytorch_is_left_as_it_was(graph: HeteroData) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = make(graph)
    torch.manual_seed(5)
    fit(model, graph, max_epochs=1, deterministic=True, **OPTIONS)
    assert torch.equal(torch.rand(3), expected)
    assert not torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        fit(model, graph, max_epochs=1, **OPTIONS)
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_an_accelerator_without_sparse_products_is_not_chosen(
    graph: HeteroData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    model = make(graph)
    fit(model, graph, max_epochs=1, **{**OPTIONS, "accelerator": "auto"})
    assert model.user_embedding.weight.device.type in ("cpu", "cuda")


def test_progress_lines(graph: HeteroData) -> None:
    lines: list[str] = []
    options = {**OPTIONS, "progress": lines.append, "validate_every": 2}
    fit(make(graph), graph, max_epochs=4, **options)
    assert [line.split()[:2] for line in lines] == [["epoch", "2"], ["epoch", "4"]]
    assert all("loss" in line and "recall@5" in line for line in lines)


@pytest.mark.parametrize("model_class", [LightGCN, MARS])
def test_mixed_precision(graph: HeteroData, model_class: type[LightGCN]) -> None:
    model = model_class(graph, embedding_dim=8)
    result = fit(model, graph, max_epochs=2, precision="bf16-mixed", **OPTIONS)
    assert all(weight.dtype == torch.float32 for weight in model.parameters())
    assert all(weight.isfinite().all() for weight in model.parameters())
    assert result.val["recall@5"] > 0


def test_own_trainer(graph: HeteroData) -> None:
    """The module and the data module work with a Trainer of the user's own."""
    model = make(graph)
    trainer = Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    lightning = RecommenderModule(model, graph)
    data = RecommenderDataModule(graph, batch_size=64)
    trainer.fit(lightning, datamodule=data)
    assert trainer.callback_metrics["val/recall@20"] > 0
    (found,) = trainer.test(lightning, datamodule=data, verbose=False)
    expected = evaluate(model, graph, "test")
    assert found == pytest.approx({f"test/{k}": v for k, v in expected.items()})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu(graph: HeteroData) -> None:
    torch.manual_seed(0)
    on_cpu, on_gpu = (MARS(graph, embedding_dim=16) for _ in range(2))
    on_gpu.load_state_dict(on_cpu.state_dict())
    options = {**OPTIONS, "max_epochs": 3}
    first = fit(on_cpu, graph, **options)
    second = fit(on_gpu, graph, **{**options, "accelerator": "gpu"})
    assert next(on_gpu.parameters()).is_cuda
    assert second.val["recall@5"] == pytest.approx(first.val["recall@5"], abs=0.1)
