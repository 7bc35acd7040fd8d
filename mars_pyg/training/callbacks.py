"""Lightning callbacks that make a run resumable and its progress readable."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
    TQDMProgressBar,
)
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from torch.utils._pytree import tree_map

from mars_pyg.files import atomic_path


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints whole or not at all, and unpickles nothing from them.

    Lightning writes to the folder for temporary files and moves the result, which is a
    copy that can be cut short where that folder is on another file system.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write a checkpoint beside its place, then rename it."""
        # Options of a grid may be numbers of numpy, which would not be loaded again.
        checkpoint = {
            name: part if name == "state_dict" else tree_map(_plain, part)
            for name, part in checkpoint.items()
        }
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Load a checkpoint of tensors and plain values."""
        checkpoint: dict[str, Any] = torch.load(path, map_location, weights_only=True)
        states = checkpoint.get("callbacks", {})
        # Lightning's own keys, which runs were written with before, hold the settings.
        for key in [key for key in states if key.startswith("RunCheckpoint{")]:
            state = states.pop(key)
            states[_state_key(state["monitor"])] = state
        return checkpoint


class RunSettings(Callback):
    """Notes in every checkpoint what a run that goes on has to have in common with it.

    Args:
        settings: The options of the run.
    """

    #: The key of a checkpoint.
    KEY = "settings"

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write them."""
        checkpoint[self.KEY] = self.settings


class RunCheckpoint(ModelCheckpoint):
    """Writes one checkpoint of a fixed name at the end of validated epochs.

    A run's folder may be renamed or moved before the run is resumed, and epochs be
    validated more or less often from then on: the best score is kept, where
    :class:`ModelCheckpoint` would forget it.

    Args:
        dirpath: The run's folder.
        filename: Name of the checkpoint without ``.ckpt``.
        monitor: The metric whose best epoch is kept; :obj:`None` keeps the last epoch.
    """

    def __init__(
        self, dirpath: Path, filename: str, monitor: str | None = None
    ) -> None:
        super().__init__(
            dirpath=dirpath,
            filename=filename,
            monitor=monitor,
            mode="max",
            every_n_epochs=1,
            # At the end of the epoch, validation and early stopping are done with.
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self._validated = False

    @property
    def state_key(self) -> str:
        """What the state is found by: scores of another metric say nothing."""
        return _state_key(self.monitor)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that the epoch is to be kept."""
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the checkpoint."""
        if self._validated:
            self._validated = False
            super().on_train_epoch_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score, with paths in the folder as it is called now."""

        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        state = {
            name: here(value) if name.endswith("_path") else value
            for name, value in state_dict.items()
        }
        state["dirpath"] = self.dirpath
        state["best_k_models"] = {
            here(path): score for path, score in state_dict["best_k_models"].items()
        }
        super().load_state_dict(state)


class ValidationPlan(Callback):
    """Validates every few epochs, and the last one, which would be lost otherwise.

    Args:
        every: Epochs between validations.
    """

    def __init__(self, every: int) -> None:
        self.every = every

    def on_train_epoch_start(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> None:
        """Say whether the epoch ends with a validation."""
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        trainer.check_val_every_n_epoch = 1 if is_last else self.every


class ResumableEarlyStopping(EarlyStopping):
    """Early stopping that stays stopped when the run is resumed.

    Args:
        monitor: The metric, of which more is better.
        patience: Validations without improvement before the run stops. A resumed run
            may change it.
    """

    def __init__(self, monitor: str, patience: int) -> None:
        super().__init__(
            monitor,
            patience=patience,
            mode="max",
            # Between validations the metric is an old one.
            check_on_train_epoch_end=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore all but the patience."""
        super().load_state_dict({**state_dict, "patience": self.patience})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop before the first epoch if the run had been stopped."""
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience


class EpochTimer(Callback):
    """Measures the training part of each epoch, without validation.

    Attributes:
        seconds: The time of each epoch.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0
        self._paused = 0.0

    def on_train_epoch_start(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> None:
        """Start the clock."""
        self._start, self._paused = time.perf_counter(), 0.0

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock, when the device has finished."""
        _synchronize(pl_module)
        self._validation_start = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock again."""
        self._paused += time.perf_counter() - self._validation_start

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Read the clock."""
        _synchronize(pl_module)
        self.seconds.append(time.perf_counter() - self._start - self._paused)


class ProgressBar(TQDMProgressBar):
    """One bar for the batches of an epoch, with the losses and the last score.

    Args:
        monitor: The metric that chooses the best epoch.
    """

    def __init__(self, monitor: str) -> None:
        super().__init__(refresh_rate=10)
        self.monitor = monitor

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, Any]:
        """Add the score; leave out the version of the logs, which says nothing here."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        if self.monitor in trainer.callback_metrics:
            metrics[self.monitor] = float(trainer.callback_metrics[self.monitor])
        return metrics

    def init_train_tqdm(self) -> Tqdm:
        """Draw on standard error: standard output may go to a file."""
        with redirect_stdout(sys.stderr):
            return super().init_train_tqdm()

    def init_validation_tqdm(self) -> Tqdm:
        """Show no bar for validation, which is one step."""
        return Tqdm(disable=True)


class ProgressLines(Callback):
    """One line for each validated epoch, where no bar can be drawn.

    Args:
        monitor: The metric that chooses the best epoch.
        write: What to do with a line.
    """

    def __init__(self, monitor: str, write: Callable[[str], None]) -> None:
        self.monitor = monitor
        self.write = write
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that the epoch has metrics of its own."""
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the line."""
        if not self._validated:
            return
        self._validated = False
        metrics = trainer.callback_metrics
        losses = "  ".join(
            f"{name.removeprefix('train/')} {float(value):.4f}"
            for name, value in metrics.items()
            if name.startswith("train/")
        )
        name = self.monitor.replace("val/", "validation ")
        score = float(metrics[self.monitor])
        self.write(
            f"epoch {trainer.current_epoch + 1:4d}  {losses}  {name} {score:.4f}"
        )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _state_key(monitor: str | None) -> str:
    return f"RunCheckpoint {monitor}"


def _synchronize(pl_module: LightningModule) -> None:
    if pl_module.device.type == "cuda":
        torch.cuda.synchronize(pl_module.device)
