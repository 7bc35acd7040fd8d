"""Training a recommender from start, or from where it was interrupted, to its best."""

from __future__ import annotations

import csv
import logging
import signal
import statistics
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch_geometric.data import HeteroData

from mars_pyg.errors import DataError
from mars_pyg.files import only_writer, user_path
from mars_pyg.nn.recommender import Recommender, check_graph
from mars_pyg.training.callbacks import (
    AtomicCheckpointIO,
    EpochTimer,
    ProgressBar,
    ProgressLines,
    ResumableEarlyStopping,
    RunCheckpoint,
    RunSettings,
    ValidationPlan,
)
from mars_pyg.training.data_module import RecommenderDataModule
from mars_pyg.training.evaluation import check_cuts, check_held_out
from mars_pyg.training.module import RecommenderModule
from mars_pyg.training.resuming import check_resumed, model_arguments

#: Names of the checkpoints in a run's folder.
BEST, LAST = "best.ckpt", "last.ckpt"


@dataclass(frozen=True)
class FitResult:
    """What a training run came to.

    Args:
        best_epoch: The epoch of the restored weights, from one.
        epochs: Number of epochs trained in all, those before a resume included.
        seconds_per_epoch: Median time of the training part of an epoch, without
            validation; :obj:`None` when no epoch was left to train.
        peak_mib: Peak memory in MiB, of the tensors on a GPU, or else of the process.
        val: Validation metrics of the restored weights.
    """

    best_epoch: int
    epochs: int
    seconds_per_epoch: float | None
    peak_mib: float
    val: dict[str, float]


def fit(
    recommender: Recommender,
    data: HeteroData,
    *,
    max_epochs: int = 500,
    batch_size: int = 8192,
    max_steps: int | None = 32,
    learning_rate: float = 4e-3,
    weight_decay: float = 0.0,
    validate_every: int = 5,
    patience: int = 8,
    monitor: str = "recall@20",
    k: int | Sequence[int] = (10, 20),
    chunk_size: int = 1024,
    num_eval_users: int | None = None,
    seed: int = 0,
    run_dir: str | PathLike[str] | None = None,
    resume: bool = False,
    accelerator: str = "auto",
    precision: str = "32-true",
    deterministic: bool = False,
    progress: bool | Callable[[str], None] = True,
) -> FitResult:
    r"""Trains a recommender, and leaves it with the weights of its best epoch.

    The run's folder holds ``last.ckpt``, written whole at every validated epoch,
    ``best.ckpt``, and ``logs`` with ``metrics.csv`` (one row per epoch) and the events
    of TensorBoard. A run that was interrupted, in whatever way, continues from
    ``last.ckpt`` to the same weights and metrics, bit for bit, as if it had not been
    (on a GPU with :obj:`deterministic=True`).

    Args:
        recommender: The model.
        data: The graph with the splits; see
            :class:`~mars_pyg.user_items.UserItems`.
        max_epochs: Largest number of epochs. (default: :obj:`500`)
        batch_size: Number of triplets in a batch. (default: :obj:`8192`)
        max_steps: The most steps of an epoch, for which batches grow; see
            :class:`~mars_pyg.training.RecommenderDataModule`. (default: :obj:`32`)
        learning_rate: Learning rate of Adam. (default: :obj:`4e-3`)
        weight_decay: Weight decay of Adam. (default: :obj:`0.0`)
        validate_every: Epochs between validations; the last of :obj:`max_epochs` is
            validated too. (default: :obj:`5`)
        patience: Validations without improvement before training stops.
            (default: :obj:`8`)
        monitor: The validation metric that chooses the best epoch.
            (default: :obj:`"recall@20"`)
        k: Cuts of the metrics, or a single one. (default: :obj:`(10, 20)`)
        chunk_size: Users that an evaluation scores at once. (default: :obj:`1024`)
        num_eval_users: Users that a validation averages over; see
            :func:`~mars_pyg.training.evaluate`. (default: :obj:`None`, all)
        seed: Seed of shuffles, negatives and what else training draws; the model's
            start is the caller's, and so are PyTorch's global generators, which are
            left as they were. (default: :obj:`0`)
        run_dir: The run's folder; :obj:`None` for a temporary one, without logs.
            (default: :obj:`None`)
        resume: Whether to continue the run in :obj:`run_dir`. Where it was interrupted
            before its first checkpoint, it starts anew. (default: :obj:`False`)
        accelerator: See :class:`lightning.pytorch.Trainer`; one device is used.
            :obj:`"auto"` is CUDA where there is one, else the CPU: others lack sparse
            products and double precision. (default: :obj:`"auto"`)
        precision: See :class:`lightning.pytorch.Trainer`. (default: :obj:`"32-true"`)
        deterministic: Whether operations that are not deterministic are refused.
            (default: :obj:`False`)
        progress: Whether to show progress: a bar on a terminal, else a line for each
            validated epoch; or what to do with such a line. (default: :obj:`True`)

    Raises:
        DataError: If the data cannot be trained on or has no validation interactions,
            or :obj:`run_dir` already holds a run, or one of more than
            :obj:`max_epochs` epochs, of another model or with other options, or one
            that is being trained.
        ValueError: If an option makes no sense.
        KeyboardInterrupt: If the user interrupts it; :obj:`run_dir` can be resumed.
        SystemExit: If the process is terminated (SIGTERM), with the status 143; the
            same holds.
    """
    cuts = check_cuts(k)
    metrics = [f"{name}@{cut}" for name in ("recall", "ndcg") for cut in cuts]
    if monitor not in metrics:
        raise ValueError(f"'monitor' must be one of {metrics} (got {monitor!r})")
    for name, value in (
        ("validate_every", validate_every),
        ("max_epochs", max_epochs),
        ("patience", patience),
        ("chunk_size", chunk_size),
        ("num_eval_users", num_eval_users),
    ):
        if value is not None and value < 1:
            raise ValueError(f"'{name}' must be positive (got {value})")
    # Lightning takes no integers of numpy.
    max_epochs, validate_every = int(max_epochs), int(validate_every)
    # Before the first epoch, not after some.
    check_graph(recommender, data)
    check_held_out(data, "val")
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory())
            if run_dir is None
            else user_path(run_dir)
        ).resolve()
        stack.enter_context(only_writer(folder))
        last, best = folder / LAST, folder / BEST
        if last.exists() and not resume:
            raise DataError(
                "the folder already holds a run",
                mend="resume it, or choose another folder",
                file=folder,
            )
        resume = last.exists()
        if resume and not best.exists():
            # No later epoch may be better, which would be found at the end alone.
            raise DataError(
                f"the best epoch of the run is missing: there is no {BEST}",
                mend="bring the file back, or train anew in another folder",
                file=folder,
            )
        # What the optimiser's state would bring back, or what would change on the way.
        settings = {
            "batch_size": batch_size,
            "max_steps": max_steps,
            "learning_rate": learning_rate,
            "weight_decay": weight_decay,
            "monitor": monitor,
            # Scores of other users say nothing of the best epoch so far.
            "num_eval_users": num_eval_users,
            "seed": seed,
            "precision": precision,
            "deterministic": deterministic,
            "model": type(recommender).__name__,
            "arguments": model_arguments(recommender),
        }
        epochs = check_resumed(last, recommender, data, settings) if resume else 0
        if epochs > max_epochs:
            raise DataError(
                f"the run has trained {epochs} epochs, but 'max_epochs' is "
                f"{max_epochs}",
                mend="resume it with at least as many epochs",
                file=folder,
            )
        stack.enter_context(_quiet())
        stack.enter_context(_same_determinism())
        if accelerator == "auto":
            accelerator = "cuda" if torch.cuda.is_available() else "cpu"
        loggers: list[Logger] = []
        if run_dir is not None:
            loggers = _make_loggers(folder, epochs)
        timer = EpochTimer()
        # The best checkpoint comes before the last one: resuming from a last one that
        # is behind writes the best one again.
        callbacks = [
            timer,
            ValidationPlan(validate_every),
            ResumableEarlyStopping(f"val/{monitor}", patience),
            RunCheckpoint(folder, best.stem, f"val/{monitor}"),
            RunCheckpoint(folder, last.stem),
            RunSettings(settings),
        ]
        show_bar = progress is True and sys.stderr.isatty()
        if show_bar:
            callbacks.append(ProgressBar(f"val/{monitor}"))
        elif progress:
            write = progress if callable(progress) else _write_line
            callbacks.append(ProgressLines(f"val/{monitor}", write))
        trainer = Trainer(
            accelerator=accelerator,
            devices=1,
            precision=precision,  # type: ignore[arg-type]
            # Of None Lightning leaves what the caller has set.
            deterministic=deterministic or None,
            max_epochs=max_epochs,
            check_val_every_n_epoch=validate_every,
            num_sanity_val_steps=0,
            callbacks=callbacks,
            logger=loggers,
            plugins=[AtomicCheckpointIO()],
            enable_progress_bar=show_bar,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        triplets = RecommenderDataModule(data, batch_size, max_steps, seed)
        module = RecommenderModule(
            recommender,
            data,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            k=cuts,
            chunk_size=chunk_size,
            num_eval_users=num_eval_users,
            # The loss is a mean, so that a larger batch has smaller gradients, which
            # must not drown in what Adam adds to them.
            epsilon=1e-8 * batch_size / triplets.batches.batch_size,
            seed=seed,
        )
        device = trainer.strategy.root_device
        on_gpu = [device] if device.type == "cuda" else []
        for gpu in on_gpu:
            torch.cuda.reset_peak_memory_stats(gpu)
        # A model that was trained or loaded before is in evaluation mode, and Lightning
        # would leave it there: no edge would be dropped.
        module.train()
        # An epoch seeds the global generators, from which the next model of the caller
        # may be drawn.
        with _plain_interrupts(), torch.random.fork_rng(on_gpu):
            trainer.fit(
                module,
                datamodule=triplets,
                ckpt_path=last if resume else None,
            )
        peak_mib = _peak_mib(device)
        checkpoint = torch.load(best, map_location="cpu", weights_only=True)
        module.load_state_dict(checkpoint["state_dict"])
    recommender.to(device).eval()
    return FitResult(
        best_epoch=checkpoint["epoch"] + 1,
        epochs=trainer.current_epoch,
        seconds_per_epoch=statistics.median(timer.seconds) if timer.seconds else None,
        peak_mib=peak_mib,
        val={
            name.removeprefix("val/"): value
            for name, value in checkpoint["metrics"].items()
        },
    )


def _write_line(line: str) -> None:
    """Show a line at once, where a bar would be: also in a notebook or a log file."""
    print(line, file=sys.stderr, flush=True)


def _make_loggers(folder: Path, epochs: int) -> list[Logger]:
    """Make the loggers; what they logged in the first ``epochs`` is kept."""
    rows: list[dict[str, Any]] = []
    path = folder / "logs" / "metrics.csv"
    if epochs and path.is_file():
        with path.open(newline="") as stream:
            rows = list(csv.DictReader(stream))[:epochs]
    csv_logger = CSVLogger(folder, name="", version="logs")
    # The logger has removed the file, which also holds epochs that come again.
    csv_logger.experiment.metrics.extend(rows)
    csv_logger.save()
    step = int(rows[-1]["step"]) + 1 if rows else 0
    tensorboard = TensorBoardLogger(
        folder, name="", version="logs", purge_step=step, default_hp_metric=False
    )
    return [csv_logger, tensorboard]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Lightning says of choices that are made on purpose."""
    lightning_logger = logging.getLogger("lightning.pytorch")
    level = lightning_logger.level
    with warnings.catch_warnings():
        for message in (
            "Checkpoint directory .* exists and is not empty",
            "Experiment logs directory .* exists and is not empty",
            "The number of training batches .* is smaller than the logging interval",
            "GPU available but not used",
            "`isinstance\\(treespec, LeafSpec\\)` is deprecated",
        ):
            warnings.filterwarnings("ignore", message)
        lightning_logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            lightning_logger.setLevel(level)


@contextmanager
def _same_determinism() -> Iterator[None]:
    """Leave PyTorch's choice of deterministic operations as it was."""
    before = torch.get_deterministic_debug_mode()
    benchmark = torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def _plain_interrupts() -> Iterator[None]:
    """Let the interrupts that Lightning turns into exits through as what they were."""
    handlers = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        handlers[number] = signal.getsignal(number)
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            # Lightning ignores further interrupts from here on; a caller may not.
            signal.signal(signal.SIGINT, handlers[signal.SIGINT])
            raise KeyboardInterrupt from None
        if isinstance(error, SIGTERMException):
            # It has no status, which would be that of success.
            raise SystemExit(128 + signal.SIGTERM) from None
        raise


def _peak_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource
    except ImportError:  # Windows has no such count.
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
