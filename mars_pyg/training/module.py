"""A recommender as a LightningModule."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch_geometric.data import HeteroData

from mars_pyg.content_digest import check_content, content_digests
from mars_pyg.nn.recommender import Recommender
from mars_pyg.training.evaluation import check_cuts, evaluate
from mars_pyg.training.seeding import epoch_generator, epoch_seed
from mars_pyg.user_items import check_digest, interactions_digest


class RecommenderModule(LightningModule):
    r"""Trains a recommender with Adam and evaluates it over the full catalogue.

    Logs the mean of each loss over an epoch as :obj:`"train/<name>"`, and the metrics
    of :func:`~mars_pyg.training.evaluate` as :obj:`"val/recall@20"`,
    :obj:`"test/ndcg@10"` and so on. Loggers get one row per epoch, before the
    checkpoint of the epoch is written.

    Whatever is random in an epoch is seeded by the seed and the epoch: also PyTorch's
    global generators, for models with dropout layers.

    Args:
        recommender (Recommender): The model.
        data (HeteroData): The graph with the splits; see
            :class:`~mars_pyg.user_items.UserItems`.
        learning_rate (float, optional): Learning rate of Adam. (default: :obj:`4e-3`)
        weight_decay (float, optional): Weight decay of Adam. (default: :obj:`0.0`)
        k (int or Sequence[int], optional): Cuts of the metrics, or a single one.
            (default: :obj:`(10, 20)`)
        chunk_size (int, optional): Users that an evaluation scores at once.
            (default: :obj:`1024`)
        mask_validation (bool, optional): See :func:`~mars_pyg.training.evaluate`.
            (default: :obj:`False`)
        num_eval_users (int, optional): Users that an evaluation averages over; see
            :func:`~mars_pyg.training.evaluate`. (default: :obj:`None`, all)
        epsilon (float, optional): What Adam adds to the root of the second moment.
            (default: :obj:`1e-8`)
        seed (int, optional): Seed of what is random in training. (default: :obj:`0`)
    """

    def __init__(
        self,
        recommender: Recommender,
        data: HeteroData,
        learning_rate: float = 4e-3,
        weight_decay: float = 0.0,
        k: int | Sequence[int] = (10, 20),
        chunk_size: int = 1024,
        mask_validation: bool = False,
        num_eval_users: int | None = None,
        epsilon: float = 1e-8,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.recommender = recommender
        self.data = data
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.k = check_cuts(k)
        self.chunk_size = chunk_size
        self.mask_validation = mask_validation
        self.num_eval_users = num_eval_users
        self.epsilon = epsilon
        self.seed = seed
        self._validated: dict[str, float] = {}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all parameters."""
        # Fused: one pass over the embeddings instead of one per arithmetic operation,
        # which is not there for complex numbers.
        return torch.optim.Adam(
            self.parameters(),
            lr=self.learning_rate,
            weight_decay=self.weight_decay,
            eps=self.epsilon,
            fused=not any(parameter.is_complex() for parameter in self.parameters()),
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note what was trained on, and what it has come to."""
        checkpoint["interactions"] = interactions_digest(self.data)
        checkpoint["content"] = self._content
        checkpoint["metrics"] = dict(self._validated)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to continue on other data."""
        check_digest(checkpoint["interactions"], self.data)
        check_content(checkpoint.get("content"), self.data, [self.recommender])
        # Lightning would load the weights before it makes the module as precise.
        for name, tensor in self.state_dict(keep_vars=True).items():
            if not isinstance(tensor, Tensor) or is_lazy(tensor):
                continue
            if tensor.is_floating_point():
                saved = checkpoint["state_dict"].get(name, tensor)
                tensor.data = tensor.data.to(saved.dtype)

    def on_train_epoch_start(self) -> None:
        """Seed everything that the epoch draws."""
        self._validated = {}
        epoch = self.current_epoch
        torch.manual_seed(epoch_seed(self.seed, epoch, "global"))
        self.recommender.start_epoch(epoch_generator(self.seed, epoch, "model"))

    def training_step(
        self, batch: tuple[Tensor, Tensor, Tensor], batch_idx: int
    ) -> Tensor:
        """Compute the loss of a batch of triplets."""
        losses = self.recommender.loss(*batch)
        self.log_dict(
            {
                f"train/{name}": torch.as_tensor(loss).detach()
                for name, loss in losses.items()
            },
            on_step=False,
            on_epoch=True,
            sync_dist=True,
            prog_bar=True,
            logger=False,
            batch_size=batch[0].numel(),
        )
        return losses["loss"]

    def validation_step(self, batch: str, batch_idx: int) -> None:
        """Evaluate the validation split as a whole."""
        self._validated = self._evaluate(batch)
        self.log_dict(
            self._validated,
            logger=self.trainer.state.fn != TrainerFn.FITTING,
            sync_dist=True,
            batch_size=1,
        )

    def test_step(self, batch: str, batch_idx: int) -> None:
        """Evaluate the test split as a whole."""
        self.log_dict(self._evaluate(batch), sync_dist=True, batch_size=1)

    def on_train_epoch_end(self) -> None:
        """Give the loggers one row for the epoch."""
        # Lightning would do so after the checkpoint: a run that is killed in between
        # would have lost the row when it is resumed. And it keeps old metrics around.
        losses = {
            name: float(value)
            for name, value in self.trainer.callback_metrics.items()
            if name.startswith("train/")
        }
        row = {"epoch": self.current_epoch, **losses, **self._validated}
        for logger in self.loggers:
            logger.log_metrics(row, step=self.global_step)
            logger.save()

    @cached_property
    def _content(self) -> dict[str, str]:
        # Features can be large, and checkpoints are many.
        return content_digests(self.data, [self.recommender])

    def _evaluate(self, split: str) -> dict[str, float]:
        metrics = evaluate(
            self.recommender,
            self.data,
            split,
            self.k,
            self.chunk_size,
            self.mask_validation,
            self.num_eval_users,
        )
        return {f"{split}/{name}": value for name, value in metrics.items()}
