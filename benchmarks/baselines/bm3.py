"""BM3: representations that predict their own dropped out copies."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from baselines.content import mean_of_known, projections, register_features
from mars_pyg.nn import LightGCN


class BM3(LightGCN):
    r"""BM3, from `"Bootstrap Latent Representations for Multi-modal Recommendation"
    <https://arxiv.org/abs/2207.05969>`_ (Zhou et al., WWW 2023).

    .. math::
        \mathbf{h}_u = \mathbf{e}_u, \quad
        \mathbf{h}_i = \mathbf{e}_i + \mathbf{e}^{(0)}_i, \quad
        \mathbf{h}^m_i = \mathbf{W}_m \mathbf{x}^m_i + \mathbf{b}_m, \quad
        \tilde{\mathbf{h}} = \mathbf{W} \mathbf{h} + \mathbf{b}, \quad
        s(u, i) = \langle \tilde{\mathbf{h}}_u, \tilde{\mathbf{h}}_i \rangle

    for LightGCN's :math:`\mathbf{e}`. There are no negatives. For a train interaction

    .. math::
        \mathcal{L} = C(\tilde{\mathbf{h}}_u, \dot{\mathbf{h}}_i) +
        C(\tilde{\mathbf{h}}_i, \dot{\mathbf{h}}_u) + \mu \sum_m \left(
        C(\tilde{\mathbf{h}}^m_i, \dot{\mathbf{h}}_i) +
        C(\tilde{\mathbf{h}}^m_i, \dot{\mathbf{h}}^m_i) \right) +
        \lambda \frac{\| \mathbf{H}_U \| + \| \mathbf{H}_I \|}{N}

    where :math:`C = 1 - \cos` and :math:`\dot{\mathbf{h}}` is :math:`\mathbf{h}` after
    dropout, a target without gradient.

    **Departures.** :math:`\mu` and the regularisation, of norms and not of squares, are
    those of the authors' code. The cosine knows no length, so that squares of a weight
    of 0.1 would take all representations to zero. The features are fixed, which their
    code trains on, and an item without features is left out of the losses of content.

    Args:
        data (HeteroData): The graph, with features :obj:`x_<modality>` of the items.
        embedding_dim (int, optional): Embedding width. (default: :obj:`64`)
        num_layers (int, optional): Layers of LightGCN. (default: :obj:`1`)
        dropout (float, optional): Share of a target that is dropped.
            (default: :obj:`0.5`)
        content_weight (float, optional): :math:`\mu`. (default: :obj:`2.0`)
        regularization (float, optional): :math:`\lambda`. (default: :obj:`0.1`)

    Raises:
        ValueError: If there are no features, or an argument is out of its bounds.
    """

    def __init__(
        self,
        data: HeteroData,
        embedding_dim: int = 64,
        num_layers: int = 1,
        dropout: float = 0.5,
        content_weight: float = 2.0,
        regularization: float = 0.1,
    ) -> None:
        super().__init__(data, embedding_dim, num_layers, regularization)
        self.modalities = register_features(self, data)
        self.dropout = torch.nn.Dropout(dropout)
        self.content_weight = content_weight
        self.projections = projections(self, self.modalities, embedding_dim)
        self.predictor = torch.nn.Linear(embedding_dim, embedding_dim)
        for name, parameter in self.named_parameters():
            if name.startswith(("predictor", "projections")) and parameter.dim() == 2:
                torch.nn.init.xavier_normal_(parameter)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Compute the predictions of the users ``[U, d]`` and the items ``[N, d]``."""
        users, items = self._represent()
        return self.predictor(users), self.predictor(items)

    def loss(
        self, user: Tensor, positive: Tensor, negative: Tensor
    ) -> dict[str, Tensor]:
        """The losses of interactions; ``negative`` is not read."""
        users, items = self._represent()
        row, column = users[user], items[positive]
        target = self._target(column)
        interaction = (
            self._distance(row, target) + self._distance(column, self._target(row))
        ).mean()
        content = interaction.new_zeros(())
        for modality, projection in self.projections.items():
            z = projection(self.get_buffer(f"x_{modality}"))[positive]
            distance = self._distance(z, target) + self._distance(z, self._target(z))
            known = self.get_buffer(f"known_{modality}")[positive]
            content = content + mean_of_known(distance, known)
        norm = (users.norm() + items.norm()) / self.num_items
        loss = interaction + self.content_weight * content + self.regularization * norm
        return {"loss": loss, "interaction": interaction, "content": content}

    def _represent(self) -> tuple[Tensor, Tensor]:
        users, items = super().forward()
        return users, items + self.item_embedding.weight

    def _target(self, h: Tensor) -> Tensor:
        return self.dropout(h.detach())

    def _distance(self, h: Tensor, target: Tensor) -> Tensor:
        """One minus the cosine of prediction and target ``[B]``."""
        return 1 - F.cosine_similarity(self.predictor(h), target, dim=1)
