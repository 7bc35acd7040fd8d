"""The files of a run's folder: what they hold, and whether the run is whole."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import HeteroData

from mars_pyg.config import TrainConfig, make_config, read_config
from mars_pyg.content_digest import check_content, content_digests
from mars_pyg.errors import DataError
from mars_pyg.files import atomic_path, load_tensors
from mars_pyg.heads import HeadedRecommender
from mars_pyg.nn import Recommender
from mars_pyg.user_items import check_digest, interactions_digest

CONFIG, METRICS, CHECKPOINT, STARTED, HEADS = (
    "config.yaml",
    "metrics.json",
    "best.ckpt",
    "last.ckpt",
    "heads.pt",
)

ANEW = "train anew, or bring the file back"


@dataclass(frozen=True)
class RunFiles:
    """What the folder of a trained run holds.

    Args:
        folder: The folder.
        config: The configuration of the run.
        checkpoint: The best checkpoint; :obj:`None` of a run without a model.
        heads: What :func:`write_heads` wrote; :obj:`None` of a run without heads.
    """

    folder: Path
    config: TrainConfig
    checkpoint: dict[str, Any] | None
    heads: dict[str, Any] | None

    @classmethod
    def read(cls, folder: Path) -> RunFiles:
        """Read the files.

        Args:
            folder: The folder.

        Raises:
            DataError: If it holds no run, one that is not finished, or damaged files.
        """
        if not (folder / CONFIG).is_file():
            raise _no_run(folder, CONFIG)
        config = make_config(read_config(folder / CONFIG), folder / CONFIG)
        has_model, has_heads = config.model_class is not None, bool(config.head_names)
        if has_model and not (folder / CHECKPOINT).is_file():
            raise _no_run(folder, CHECKPOINT)
        if has_heads and not (folder / HEADS).is_file():
            raise _no_run(folder, HEADS, goes_on=has_model)
        files = cls(
            folder,
            config,
            _read_checkpoint(folder / CHECKPOINT) if has_model else None,
            read_heads(folder / HEADS) if has_heads else None,
        )
        files._check_fitted()
        files._check_finished()
        return files

    def _check_fitted(self) -> None:
        # Older files do not say what their weights were fitted to.
        if self.heads is None or "best_epoch" not in self.heads:
            return
        epoch = 0 if self.checkpoint is None else self.checkpoint.get("epoch", -1) + 1
        if self.heads["best_epoch"] != epoch:
            raise DataError(
                "the training is not finished: the weights of the heads are not "
                "fitted yet",
                mend=_go_on(self.folder),
                file=self.folder,
            )

    def _check_finished(self) -> None:
        path = self.folder / METRICS
        if not path.is_file():  # They are written last.
            raise _no_run(self.folder, METRICS, goes_on=True)
        try:
            metrics = json.loads(path.read_text(encoding="utf-8"))
            best_epoch = metrics.get("best_epoch")
        except (ValueError, AttributeError):
            raise DataError("the file is damaged", mend=ANEW, file=path) from None
        if self.checkpoint is None or best_epoch is None:
            return
        if best_epoch != self.checkpoint.get("epoch", -1) + 1:
            raise DataError(
                "the training is not finished: it has gone on since its metrics",
                mend=_go_on(self.folder),
                file=self.folder,
            )

    def load_model(self, recommender: Recommender, data: HeteroData) -> None:
        """Give a model the weights of the checkpoint.

        Args:
            recommender: The model.
            data: The graph that it was made for.

        Raises:
            DataError: If the graph is not what the run was trained on, or the weights
                do not fit.
        """
        assert self.checkpoint is not None
        check_digest(self.checkpoint["interactions"], data)
        check_content(self.checkpoint.get("content"), data, [recommender])
        state = {
            name.removeprefix("recommender."): value
            for name, value in self.checkpoint["state_dict"].items()
        }
        try:
            recommender.load_state_dict(state)
        except RuntimeError as error:
            raise DataError(
                f"the weights do not fit the model: {error}",
                mend="bring the features and factors back as they were, or train anew",
                file=self.folder / CHECKPOINT,
            ) from None


def read_heads(path: Path) -> dict[str, Any]:
    """Read what :func:`write_heads` wrote.

    Raises:
        DataError: If the file is damaged or another one.
    """
    heads = load_tensors(path, ANEW)
    if not isinstance(heads, dict) or "interactions" not in heads:
        raise DataError("the file holds no heads", mend=ANEW, file=path)
    return heads


def write_heads(
    recommender: HeadedRecommender,
    data: HeteroData,
    folder: Path,
    best_epoch: int | None,
) -> None:
    """Keep the heads of a recommender.

    Args:
        recommender: The recommender.
        data: The graph that the heads were made from.
        folder: The folder of the run.
        best_epoch: The epoch of the model that the weights of the heads are fitted to,
            zero without a model; :obj:`None` where they are not fitted yet.
    """
    state = {
        "interactions": interactions_digest(data),
        "content": content_digests(data, recommender.head_list()),
        "best_epoch": best_epoch,
        "state_dict": recommender.heads.state_dict(),
    }
    with atomic_path(folder / HEADS) as temporary:
        torch.save(state, temporary)


def load_heads(
    recommender: HeadedRecommender, heads: dict[str, Any], path: Path, data: HeteroData
) -> None:
    """Give the heads of a recommender what was kept of them.

    Args:
        recommender: The recommender.
        heads: What :func:`read_heads` read.
        path: The file that it was read from.
        data: The graph that the heads are made for.

    Raises:
        DataError: If the graph is not what the heads were made from.
    """
    check_digest(heads["interactions"], data)
    check_content(heads.get("content"), data, recommender.head_list())
    try:
        recommender.heads.load_state_dict(heads["state_dict"])
    except RuntimeError as error:
        raise DataError(
            f"the heads do not fit the data: {error}", mend=ANEW, file=path
        ) from None


def _read_checkpoint(path: Path) -> dict[str, Any]:
    checkpoint = load_tensors(path, ANEW)
    if not isinstance(checkpoint, dict) or "interactions" not in checkpoint:
        raise DataError(
            "the file is no checkpoint of a recommender", mend=ANEW, file=path
        )
    return checkpoint


def _no_run(folder: Path, name: str, goes_on: bool = False) -> DataError:
    if goes_on:
        problem = f"the training is not finished: there is no {name}"
        return DataError(problem, mend=_go_on(folder), file=folder)
    return DataError(
        f"the folder holds no trained run: there is no {name}",
        mend="train one with 'mars-pyg train', or give the folder of one",
        file=folder,
    )


def _go_on(folder: Path) -> str:
    return f"go on with 'mars-pyg train --run-dir {shlex.quote(str(folder))} --resume'"
