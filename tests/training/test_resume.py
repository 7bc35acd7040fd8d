"""Runs that end at every awkward moment, and go on as if they had not."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

import mars_pyg.training.module as module_file
from mars_pyg import MARS, AddItemKNN, SyntheticFactorDataset
from mars_pyg.errors import DataError
from mars_pyg.heads import Popularity, ScoreOffset
from mars_pyg.training import FitResult, fit
from mars_pyg.training.callbacks import AtomicCheckpointIO

# Batches in an epoch; the epochs that are validated are the second, fourth and so on.
STEPS = 4
OPTIONS: dict[str, Any] = {
    "max_epochs": 6,
    "batch_size": 64,
    "learning_rate": 0.05,
    "validate_every": 2,
    # Among 20 items Recall@20 is always one, and the first epoch always the best.
    "k": (5,),
    "monitor": "recall@5",
    "accelerator": "cpu",
    "progress": False,
}
Run = tuple[torch.nn.Module, FitResult, Path]


class CrashError(Exception):
    """Stands for what ends a run: no code of the run may catch it."""


class Fragile(MARS):
    """Draws from PyTorch's global generator, and does something at one step."""

    steps = 0
    at: tuple[int, Callable[[], None]] | None = None

    def loss(
        self, user: Tensor, positive: Tensor, negative: Tensor
    ) -> dict[str, Tensor]:
        if self.at is not None and self.at[0] == self.steps:
            self.at[1]()
        self.steps += 1
        losses = super().loss(user, positive, negative)
        return {name: loss * (0.5 + torch.rand(())) for name, loss in losses.items()}


def crash() -> None:
    raise CrashError


@pytest.fixture(scope="module")
def graph() -> HeteroData:
    return AddItemKNN(k=5)(SyntheticFactorDataset(30, 20, seed=2)[0])


def make(graph: HeteroData, seed: int = 0) -> Fragile:
    torch.manual_seed(seed)
    return Fragile(graph, embedding_dim=8, edge_dropout=0.5)


def train(graph: HeteroData, folder: Path, seed: int = 0, **options: Any) -> Run:
    model = make(graph, seed)
    result = fit(model, graph, run_dir=folder, **{**OPTIONS, **options})
    return model, result, folder


def train_until_crash(
    graph: HeteroData, folder: Path, step: int, **options: Any
) -> None:
    model = make(graph)
    model.at = (step, crash)
    with pytest.raises(CrashError):
        fit(model, graph, run_dir=folder, **{**OPTIONS, **options})


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "logs" / "metrics.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def assert_same(first: Run, second: Run) -> None:
    weights, others = first[0].state_dict(), second[0].state_dict()
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert first[1].val == second[1].val
    assert first[1].best_epoch == second[1].best_epoch
    assert first[1].epochs == second[1].epochs
    assert rows(first[2]) == rows(second[2])
    for name in ("best.ckpt", "last.ckpt"):
        one, other = (
            torch.load(run[2] / name, weights_only=True) for run in (first, second)
        )
        assert one["epoch"] == other["epoch"]
        assert one["global_step"] == other["global_step"]
        for key, weight in one["state_dict"].items():
            assert torch.equal(weight, other["state_dict"][key])
    assert {path.name for path in first[2].iterdir()} == {
        "best.ckpt",
        "last.ckpt",
        "logs",
    }


@pytest.fixture(scope="module")
def whole(graph: HeteroData, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(graph, tmp_path_factory.mktemp("whole"))


def test_the_run_has_the_assumed_steps(graph: HeteroData, whole: Run) -> None:
    assert [int(row["step"]) for row in rows(whole[2])] == [
        STEPS * epoch for epoch in range(1, 7)
    ]
    validated = [bool(row["val/recall@5"]) for row in rows(whole[2])]
    assert validated == [False, True] * 3


# In the first epoch, in one without a checkpoint, right after the first checkpoint, in
# an epoch that had been logged but not kept, in the last step.
@pytest.mark.parametrize("step", [1, 6, 2 * STEPS, 3 * STEPS + 1, 6 * STEPS - 1])
def test_an_error_in_a_step(
    graph: HeteroData, whole: Run, tmp_path: Path, step: int
) -> None:
    train_until_crash(graph, tmp_path / "run", step)
    # Another start where there is a checkpoint: the weights must come from it.
    seed = 9 if step >= 2 * STEPS else 0
    assert_same(train(graph, tmp_path / "run", seed, resume=True), whole)


def test_three_interruptions(graph: HeteroData, whole: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train_until_crash(graph, folder, 2 * STEPS + 1)
    # Steps are counted by process, so that both stop in the fifth epoch.
    train_until_crash(graph, folder, 2 * STEPS + 3, resume=True)
    train_until_crash(graph, folder, STEPS - 1, resume=True)
    assert_same(train(graph, folder, seed=9, resume=True), whole)


@pytest.mark.parametrize("when", ["before", "halfway", "after"])
@pytest.mark.parametrize("number", range(5))
def test_a_crash_at_a_checkpoint(
    graph: HeteroData,
    whole: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    when: str,
) -> None:
    """Best and last checkpoint are two files; any of the writes may be the end."""
    save, count = AtomicCheckpointIO.save_checkpoint, iter(range(100))
    torch_save = torch.save

    def halfway(checkpoint: dict[str, Any], path: Path) -> None:
        torch_save(checkpoint, path)
        os.truncate(path, path.stat().st_size // 2)
        raise CrashError

    def crashing(self: AtomicCheckpointIO, *args: Any, **kwargs: Any) -> None:
        if next(count) != number:
            save(self, *args, **kwargs)
            return
        if when == "after":
            save(self, *args, **kwargs)
        elif when == "halfway":
            monkeypatch.setattr(torch, "save", halfway)
            save(self, *args, **kwargs)
        raise CrashError

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(AtomicCheckpointIO, "save_checkpoint", crashing)
        with pytest.raises(CrashError):
            train(graph, folder)
    monkeypatch.setattr(torch, "save", torch_save)
    for path in folder.glob("*.ckpt"):
        assert torch.load(path, weights_only=True)["state_dict"]
    assert_same(train(graph, folder, resume=True), whole)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_crash_in_validation(
    graph: HeteroData,
    whole: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    evaluate, count = module_file.evaluate, iter(range(100))

    def crashing(*args: Any) -> dict[str, float]:
        if next(count) == number:
            raise CrashError
        return evaluate(*args)

    with monkeypatch.context() as patch:
        patch.setattr(module_file, "evaluate", crashing)
        with pytest.raises(CrashError):
            train(graph, tmp_path / "run")
    assert_same(train(graph, tmp_path / "run", resume=True), whole)


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Python's own handler, which a process in the background does not have."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


def test_other_arguments_of_the_model_are_refused(
    graph: HeteroData, tmp_path: Path
) -> None:
    """They have no weights that would tell."""
    model, _, folder = train(graph, tmp_path / "run", max_epochs=2)
    model.edge_dropout = 0.1
    with pytest.raises(DataError, match=r"'edge_dropout' of 0\.5, not 0\.1"):
        fit(model, graph, run_dir=folder, resume=True, **OPTIONS)


def test_another_offset_of_the_scores_is_refused(
    graph: HeteroData, tmp_path: Path
) -> None:
    def offset(scale: float) -> ScoreOffset:
        return ScoreOffset(graph, [Popularity(graph)], scale)

    options = {**OPTIONS, "run_dir": tmp_path / "run"}
    model = make(graph)
    model.score_offset = offset(0.25)
    fit(model, graph, **{**options, "max_epochs": 2})
    for other, found in ((None, "None"), (offset(0.5), r"0\.5")):
        model.score_offset = other
        with pytest.raises(DataError, match=rf"'score_offset' of 0\.25, not {found}"):
            fit(model, graph, resume=True, **options)
    model.score_offset = offset(0.25)
    assert fit(model, graph, resume=True, **options).epochs == 6


@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)],
)
def test_signals(
    graph: HeteroData,
    whole: Run,
    tmp_path: Path,
    number: int,
    raised: type[BaseException],
) -> None:
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    model, folder = make(graph), tmp_path / "run"
    model.at = (3 * STEPS + 2, lambda: os.kill(os.getpid(), number))
    with pytest.raises(raised) as error:
        fit(model, graph, run_dir=folder, **OPTIONS)
    if isinstance(error.value, SystemExit):
        # Zero would say that the training is done.
        assert error.value.code == 143
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == (
        handlers
    )
    assert_same(train(graph, folder, seed=9, resume=True), whole)


def test_more_epochs_after_one_that_is_validated_as_the_last(
    graph: HeteroData, whole: Run, tmp_path: Path
) -> None:
    _, _, folder = train(graph, tmp_path / "run", max_epochs=5)
    _, result, _ = train(graph, folder, seed=9, resume=True)
    assert result.epochs == 6
    # The weights are the same; there was one more validation to choose from.
    one, other = (
        torch.load(path / "last.ckpt", weights_only=True)["state_dict"]
        for path in (folder, whole[2])
    )
    assert all(torch.equal(one[name], other[name]) for name in other)
    found, expected = rows(folder), rows(whole[2])
    assert found[4]["val/recall@5"]
    assert found[:4] + found[5:] == expected[:4] + expected[5:]


@pytest.mark.parametrize("options", [{"max_epochs": 5}, {"validate_every": 4}])
def test_the_last_epoch_is_validated(
    graph: HeteroData, tmp_path: Path, options: dict[str, int]
) -> None:
    first = train(graph, tmp_path / "run", **options)
    every, number = options.get("validate_every", 2), options.get("max_epochs", 6)
    validated = [bool(row["val/recall@5"]) for row in rows(first[2])]
    assert validated == [
        epoch % every == 0 or epoch == number for epoch in range(1, number + 1)
    ]
    last = torch.load(first[2] / "last.ckpt", weights_only=True)
    assert last["epoch"] + 1 == number
    # No epoch is trained again.
    again = train(graph, tmp_path / "run", seed=9, resume=True, **options)
    assert again[0].steps == 0
    assert_same(again, first)


@pytest.mark.parametrize("step", [3 * STEPS, 4 * STEPS + 1, 5 * STEPS - 1])
def test_a_crash_before_a_last_epoch_between_validations(
    graph: HeteroData, tmp_path: Path, step: int
) -> None:
    expected = train(graph, tmp_path / "whole", max_epochs=5)
    train_until_crash(graph, tmp_path / "run", step, max_epochs=5)
    run = train(graph, tmp_path / "run", seed=9, resume=True, max_epochs=5)
    assert_same(run, expected)


def test_nothing_left_to_do(graph: HeteroData, tmp_path: Path) -> None:
    first = train(graph, tmp_path / "run")
    logged = rows(tmp_path / "run")
    again = train(graph, tmp_path / "run", seed=9, resume=True)
    assert again[1].seconds_per_epoch is None
    assert again[0].steps == 0
    assert logged == rows(tmp_path / "run")
    assert_same(again, first)


def test_the_same_model_goes_on(graph: HeteroData, whole: Run, tmp_path: Path) -> None:
    """A trained model is in evaluation mode, which drops no edges."""
    model, _, folder = train(graph, tmp_path / "run", max_epochs=2)
    assert not model.training
    result = fit(model, graph, run_dir=folder, resume=True, **OPTIONS)
    assert_same((model, result, folder), whole)
    assert not model.training


def test_resume_of_nothing_is_a_start(
    graph: HeteroData, whole: Run, tmp_path: Path
) -> None:
    assert_same(train(graph, tmp_path / "run", resume=True), whole)


def test_a_run_without_its_best_epoch_is_refused(
    graph: HeteroData, tmp_path: Path
) -> None:
    _, _, folder = train(graph, tmp_path / "run", max_epochs=2)
    (folder / "best.ckpt").unlink()
    before = (folder / "last.ckpt").read_bytes()
    with pytest.raises(DataError, match=r"there is no best\.ckpt"):
        train(graph, folder, resume=True)
    assert (folder / "last.ckpt").read_bytes() == before


def test_fewer_epochs_than_trained_are_refused(
    graph: HeteroData, tmp_path: Path
) -> None:
    train(graph, tmp_path / "run", max_epochs=4)
    logged = rows(tmp_path / "run")
    with pytest.raises(ValueError, match="trained 4 epochs, but 'max_epochs' is 3"):
        train(graph, tmp_path / "run", max_epochs=3, resume=True)
    assert rows(tmp_path / "run") == logged


def test_a_moved_folder(graph: HeteroData, whole: Run, tmp_path: Path) -> None:
    train_until_crash(graph, tmp_path / "run", 4 * STEPS + 1)
    (tmp_path / "run").rename(tmp_path / "moved")
    assert_same(train(graph, tmp_path / "moved", seed=9, resume=True), whole)
    assert not (tmp_path / "run").exists()


def test_tensorboard_events_after_a_kill(
    graph: HeteroData, whole: Run, tmp_path: Path
) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    folder = tmp_path / "run"
    # The third epoch is logged, and comes again.
    train_until_crash(graph, folder, 3 * STEPS + 1)
    train(graph, folder, seed=9, resume=True)
    scalars = []
    for run in (folder, whole[2]):
        events = accumulator.EventAccumulator(str(run / "logs"))
        events.Reload()
        scalars.append(
            {
                name: [(event.step, event.value) for event in events.Scalars(name)]
                for name in events.Tags()["scalars"]
            }
        )
    assert scalars[0] == scalars[1]
    assert [step for step, _ in scalars[1]["train/loss"]] == list(
        range(STEPS, 7 * STEPS, STEPS)
    )
    assert len(scalars[1]["val/recall@5"]) == 3


SCRIPT = {2: 0.2, 4: 0.4, 6: 0.3, 8: 0.4, 10: 0.1, 12: 0.9}


@pytest.fixture
def _scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation metrics that depend on the epoch alone."""

    class ScriptedModule(module_file.RecommenderModule):
        def _evaluate(self, split: str) -> dict[str, float]:
            return {f"{split}/recall@5": SCRIPT[self.current_epoch + 1]}

    monkeypatch.setattr("mars_pyg.training.fitting.RecommenderModule", ScriptedModule)


@pytest.mark.usefixtures("_scripted")
@pytest.mark.parametrize("epoch", [5, 8, 9, 10])
def test_early_stopping_counts_on(
    graph: HeteroData, tmp_path: Path, epoch: int
) -> None:
    # The best is that of epoch 4; 6, 8 and 10 bring no more.
    options = {"patience": 3, "max_epochs": 100}
    expected = train(graph, tmp_path / "whole", **options)
    assert (expected[1].best_epoch, expected[1].epochs) == (4, 10)
    train_until_crash(graph, tmp_path / "run", epoch * STEPS - 1, **options)
    run = train(graph, tmp_path / "run", seed=9, resume=True, **options)
    assert_same(run, expected)


@pytest.mark.usefixtures("_scripted")
def test_more_patience_goes_on(graph: HeteroData, tmp_path: Path) -> None:
    _, result, folder = train(graph, tmp_path / "run", patience=2, max_epochs=12)
    assert (result.best_epoch, result.epochs) == (4, 8)
    options = {"patience": 4, "max_epochs": 12}
    run = train(graph, folder, seed=9, resume=True, **options)
    assert (run[1].best_epoch, run[1].epochs) == (12, 12)
    assert_same(run, train(graph, tmp_path / "whole", **options))


@pytest.mark.usefixtures("_scripted")
@pytest.mark.parametrize("old_keys", [False, True])
def test_the_best_epoch_is_kept_whenever_the_next_is_validated(
    graph: HeteroData, tmp_path: Path, recwarn: pytest.WarningsRecorder, old_keys: bool
) -> None:
    _, result, folder = train(graph, tmp_path / "run", max_epochs=4, validate_every=4)
    assert (result.best_epoch, result.val["recall@5"]) == (4, 0.4)
    if old_keys:
        last = torch.load(folder / "last.ckpt", weights_only=True)
        states = last["callbacks"]
        for monitor in ("val/recall@5", None):
            settings = {
                "monitor": monitor,
                "mode": "max",
                "every_n_train_steps": 0,
                "every_n_epochs": 4,
                "train_time_interval": None,
            }
            state = states.pop(f"RunCheckpoint {monitor}")
            states[f"RunCheckpoint{settings}"] = state
        torch.save(last, folder / "last.ckpt")
    best = (folder / "best.ckpt").read_bytes()
    _, result, _ = train(graph, folder, resume=True, validate_every=6)
    assert (result.best_epoch, result.epochs) == (4, 6)
    assert (folder / "best.ckpt").read_bytes() == best
    assert not any("ckpt_path" in str(warning.message) for warning in recwarn)


@pytest.mark.parametrize(
    "accelerator",
    [
        "cpu",
        pytest.param(
            "gpu",
            marks=pytest.mark.skipif(
                not torch.cuda.is_available(), reason="needs a CUDA GPU"
            ),
        ),
    ],
)
def test_deterministic_operations(
    graph: HeteroData,
    tmp_path: Path,
    accelerator: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    options = {"accelerator": accelerator, "deterministic": True}
    try:
        expected = train(graph, tmp_path / "whole", **options)
        train_until_crash(graph, tmp_path / "run", 3 * STEPS + 1, **options)
        run = train(graph, tmp_path / "run", seed=9, resume=True, **options)
    finally:
        torch.use_deterministic_algorithms(False)
    assert_same(run, expected)


def test_a_run_in_double_precision_goes_on_as_it_was(
    graph: HeteroData, tmp_path: Path
) -> None:
    options = {"max_epochs": 4, "precision": "64-true", "validate_every": 1}
    expected = train(graph, tmp_path / "whole", **options)
    train_until_crash(graph, tmp_path / "cut", 2 * STEPS + 1, **options)
    assert_same(
        train(graph, tmp_path / "cut", resume=True, seed=1, **options), expected
    )
    state = torch.load(tmp_path / "cut" / "last.ckpt", weights_only=True)["state_dict"]
    assert {x.dtype for x in state.values() if x.is_floating_point()} == {torch.float64}


class Lazy(MARS):
    """Has a layer that takes its width from what it reads first."""

    def __init__(self, data: HeteroData) -> None:
        super().__init__(data, embedding_dim=8)
        self.last = torch.nn.LazyLinear(8, bias=False)

    def forward(self) -> tuple[Tensor, Tensor]:
        user, item = super().forward()
        return user, self.last(item)


def test_a_model_with_lazy_layers_goes_on(graph: HeteroData, tmp_path: Path) -> None:
    def run(folder: str, max_epochs: int) -> tuple[torch.nn.Module, FitResult]:
        torch.manual_seed(0)
        model = Lazy(graph)
        options = {**OPTIONS, "max_epochs": max_epochs, "run_dir": tmp_path / folder}
        return model, fit(model, graph, resume=True, **options)

    whole, expected = run("whole", 4)
    run("part", 2)
    rest, found = run("part", 4)
    assert found.val == expected.val
    for one, other in zip(rest.parameters(), whole.parameters(), strict=True):
        assert torch.equal(one, other)


class Stateful(MARS):
    """Keeps in its state what is no tensor."""

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 1}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.found = state


def test_a_state_beyond_tensors_goes_on(graph: HeteroData, tmp_path: Path) -> None:
    options = {**OPTIONS, "run_dir": tmp_path, "max_epochs": 1}
    fit(Stateful(graph, embedding_dim=8), graph, **options)
    model = Stateful(graph, embedding_dim=8)
    fit(model, graph, **{**options, "max_epochs": 2}, resume=True)
    assert model.found == {"version": 1}
