"""Training with other options, and with a Trainer of one's own."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg import BPR, MARS, AddItemKNN, LightGCN, SyntheticFactorDataset
from mars_pyg.nn.recommender import Recommender
from mars_pyg.training import (
    RecommenderDataModule,
    RecommenderModule,
    evaluate,
    fit,
)

OPTIONS: dict[str, Any] = {
    "batch_size": 64,
    "learning_rate": 0.05,
    "validate_every": 1,
    "k": (5,),
    "monitor": "recall@5",
    "accelerator": "cpu",
    "progress": False,
}


@pytest.fixture(scope="module")
def graph() -> HeteroData:
    return AddItemKNN(k=5)(SyntheticFactorDataset(100, 60, seed=2)[0])


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is both the current one and that of temporary files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("model", [LightGCN, MARS])
def test_dropped_edges_learn(
    graph: HeteroData, tmp_path: Path, model: type[LightGCN]
) -> None:
    torch.manual_seed(0)
    recommender = model(graph, embedding_dim=16, edge_dropout=0.5)
    before = evaluate(recommender, graph, "val", k=[5])
    result = fit(recommender, graph, max_epochs=10, run_dir=tmp_path, **OPTIONS)
    logged = rows(tmp_path / "logs" / "metrics.csv")
    assert float(logged[-1]["train/loss"]) < 0.9 * float(logged[0]["train/loss"])
    assert result.val["recall@5"] > before["recall@5"]
    # The weights are those of the best epoch, and that need not be the last one.
    recalls = [float(row["val/recall@5"]) for row in logged]
    assert result.best_epoch == recalls.index(max(recalls)) + 1
    assert evaluate(recommender, graph, "val", k=[5]) == result.val
    assert result.val["recall@5"] == pytest.approx(max(recalls))


def test_nothing_is_left_without_a_folder(graph: HeteroData, files: Path) -> None:
    fit(BPR(graph, embedding_dim=8), graph, max_epochs=2, **OPTIONS)
    assert list(files.iterdir()) == []


class Diverging(BPR):
    def loss(
        self, user: Tensor, positive: Tensor, negative: Tensor
    ) -> dict[str, Tensor]:
        losses = super().loss(user, positive, negative)
        return {name: loss * torch.nan for name, loss in losses.items()}


def test_divergence_is_told(graph: HeteroData, files: Path) -> None:
    with pytest.raises(FloatingPointError, match="diverged"):
        fit(Diverging(graph, embedding_dim=8), graph, max_epochs=2, **OPTIONS)
    assert list(files.iterdir()) == []


def test_mixed_precision_resumes(graph: HeteroData, tmp_path: Path) -> None:
    options = {**OPTIONS, "precision": "bf16-mixed"}
    torch.manual_seed(0)
    whole, part, rest = (LightGCN(graph, embedding_dim=8) for _ in range(3))
    part.load_state_dict(whole.state_dict())
    expected = fit(whole, graph, max_epochs=4, run_dir=tmp_path / "whole", **options)
    options["run_dir"] = tmp_path / "run"
    fit(part, graph, max_epochs=2, **options)
    found = fit(rest, graph, max_epochs=4, resume=True, **options)
    assert found.val == expected.val
    for one, other in zip(rest.parameters(), whole.parameters(), strict=True):
        assert one.isfinite().all()
        assert torch.equal(one, other)
    metrics = [tmp_path / run / "logs" / "metrics.csv" for run in ("run", "whole")]
    assert rows(metrics[0]) == rows(metrics[1])


def test_options_may_be_numbers_of_numpy(graph: HeteroData, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        **OPTIONS,
        "learning_rate": np.float64(0.05),
        "batch_size": np.int64(64),
        "chunk_size": np.int64(16),
        "patience": np.int64(3),
        "validate_every": np.int64(1),
        "k": np.int64(5),
        "run_dir": tmp_path,
    }

    def model() -> LightGCN:
        torch.manual_seed(0)
        return LightGCN(graph, embedding_dim=8, regularization=np.float64(0.01))

    fit(model(), graph, max_epochs=1, **options)
    found = fit(model(), graph, max_epochs=2, resume=True, **options)
    plain = {name: getattr(x, "tolist", lambda x=x: x)() for name, x in options.items()}
    plain["run_dir"] = tmp_path / "plain"
    assert fit(model(), graph, max_epochs=2, **plain).val == found.val


def own_trainer(folder: Path, max_epochs: int) -> Trainer:
    return Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        logger=CSVLogger(folder, name="", version="logs"),
        callbacks=[
            ModelCheckpoint(folder, monitor="val/recall@5", mode="max", save_last=True),
            EarlyStopping("val/recall@5", mode="max", patience=50),
        ],
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def lightning(
    graph: HeteroData, model: Recommender
) -> tuple[RecommenderModule, RecommenderDataModule]:
    module = RecommenderModule(model, graph, learning_rate=0.05, k=(5,), seed=3)
    return module, RecommenderDataModule(graph, batch_size=64, seed=3)


def test_own_trainer_logs_checkpoints_and_evaluates(
    graph: HeteroData, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = LightGCN(graph, embedding_dim=8, edge_dropout=0.5)
    module, data = lightning(graph, model)
    trainer = own_trainer(tmp_path, max_epochs=3)
    trainer.fit(module, datamodule=data)
    logged = rows(tmp_path / "logs" / "metrics.csv")
    assert [int(row["epoch"]) for row in logged] == [0, 1, 2]
    recalls = [float(row["val/recall@5"]) for row in logged]
    assert float(trainer.checkpoint_callback.best_model_score) == pytest.approx(
        max(recalls)
    )
    for run, split in ((trainer.validate, "val"), (trainer.test, "test")):
        (found,) = run(module, datamodule=data, ckpt_path="best", verbose=False)
        # The best checkpoint has been loaded into the model.
        expected = evaluate(model, graph, split, k=[5])
        assert found == pytest.approx({f"{split}/{k}": v for k, v in expected.items()})
    assert evaluate(model, graph, "val", k=[5])["recall@5"] == pytest.approx(
        max(recalls)
    )


def test_own_trainer_masks_validation_items_at_test(
    graph: HeteroData, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = BPR(graph, embedding_dim=8)
    # Memorised validation items stand before those of the test split.
    edge_index = graph["user", "interacts", "item"].val_edge_index
    score = torch.zeros(model.num_users, model.num_items)
    score[edge_index[0], edge_index[1]] = 1
    model.score = lambda user, representations: score[user]
    found = []
    for mask in (False, True):
        module = RecommenderModule(model, graph, k=(1,), mask_validation=mask)
        data = RecommenderDataModule(graph)
        trainer = own_trainer(tmp_path, max_epochs=1)
        (metrics,) = trainer.test(module, datamodule=data, verbose=False)
        expected = evaluate(model, graph, "test", k=[1], mask_validation=mask)
        assert metrics["test/recall@1"] == pytest.approx(expected["recall@1"])
        found.append(metrics["test/recall@1"])
    assert found[0] < found[1]


def test_own_trainer_resumes(graph: HeteroData, tmp_path: Path) -> None:
    def train(folder: str, max_epochs: int, seed: int) -> LightGCN:
        torch.manual_seed(seed)
        model = LightGCN(graph, embedding_dim=8, edge_dropout=0.5)
        module, data = lightning(graph, model)
        last = tmp_path / folder / "last.ckpt"
        own_trainer(tmp_path / folder, max_epochs).fit(
            module, datamodule=data, ckpt_path=last if last.exists() else None
        )
        return model

    whole = train("whole", 4, seed=0)
    train("run", 2, seed=0)
    resumed = train("run", 4, seed=9)
    for one, other in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_gpu_trains_as_the_cpu_does(graph: HeteroData, precision: str) -> None:
    torch.manual_seed(0)
    on_cpu, on_gpu = (LightGCN(graph, embedding_dim=16) for _ in range(2))
    on_gpu.load_state_dict(on_cpu.state_dict())
    options = {**OPTIONS, "max_epochs": 5, "precision": precision}
    first = fit(on_cpu, graph, **options)
    second = fit(on_gpu, graph, **{**options, "accelerator": "gpu"})
    assert all(
        weight.is_cuda and weight.isfinite().all() for weight in on_gpu.parameters()
    )
    assert second.val["recall@5"] == pytest.approx(first.val["recall@5"], abs=0.1)


class Rotating(BPR):
    """Has complex parameters, and logs a plain number."""

    def __init__(self, data: HeteroData) -> None:
        super().__init__(data, embedding_dim=8)
        self.phase = torch.nn.Parameter(torch.zeros(8, dtype=torch.complex64))

    def forward(self) -> tuple[Tensor, Tensor]:
        user, item = super().forward()
        return user, item * self.phase.exp().real

    def loss(self, *triplets: Tensor) -> dict[str, Tensor]:
        parts: dict[str, Any] = super().loss(*triplets)
        return {**parts, "size": float(self.phase.detach().abs().max())}


def test_complex_parameters_and_plain_numbers(
    graph: HeteroData, tmp_path: Path
) -> None:
    model = Rotating(graph)
    fit(model, graph, max_epochs=2, run_dir=tmp_path, **OPTIONS)
    assert model.phase.abs().min() > 0
    assert float(rows(tmp_path / "logs" / "metrics.csv")[1]["train/size"]) > 0
