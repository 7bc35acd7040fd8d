"""FREEDOM: a frozen graph of near items, and pruned interactions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from baselines.content import (
    item_matrix,
    mean_of_known,
    nearest_items,
    normalized,
    projections,
    register_features,
)
from mars_pyg.nn import LightGCN


class FREEDOM(LightGCN):
    r"""FREEDOM, from `"A Tale of Two Graphs: Freezing and Denoising Graph Structures
    for Multimodal Recommendation" <https://arxiv.org/abs/2211.06924>`_ (Zhou and Shen,
    ACM MM 2023).

    .. math::
        \mathbf{S} = \sum_m \alpha_m \mathbf{D}_m^{-1/2} \mathbf{S}_m
        \mathbf{D}_m^{-1/2}, \qquad
        \mathbf{g}_i = \mathbf{e}_i + (\mathbf{S}^{L'} \mathbf{E})_i, \qquad
        s(u, i) = \langle \mathbf{e}_u, \mathbf{g}_i \rangle

    where :math:`\mathbf{S}_m` has a one for each of the :math:`k` nearest items by the
    features of a modality :math:`m` and is never learned, :math:`\mathbf{E}` are the
    items' embeddings, and :math:`\mathbf{e}` come out of
    :class:`~mars_pyg.nn.LightGCN` over interactions that are pruned anew in each epoch,
    those of popular users and items more often. The loss is

    .. math::
        \mathcal{L} = \ell (\mathbf{e}_u, \mathbf{g}_i, \mathbf{g}_j) + \lambda \sum_m
        \ell (\mathbf{e}_u, \mathbf{z}^m_i, \mathbf{z}^m_j), \qquad
        \mathbf{z}^m_i = \mathbf{W}_m \mathbf{x}^m_i, \qquad
        \ell (\mathbf{e}, \mathbf{a}, \mathbf{b}) = - \ln \sigma (\langle \mathbf{e},
        \mathbf{a} \rangle - \langle \mathbf{e}, \mathbf{b} \rangle).

    The paper adds a bias to :math:`\mathbf{z}^m`, which cancels in :math:`\ell`.

    **Departures.** The features are fixed, which the authors' code trains on. An item
    without features is its own only neighbour, and its triplets are left out of the
    second part of the loss. The embeddings can be regularised,
    which the paper does not do.

    Args:
        data (HeteroData): The graph, with features :obj:`x_<modality>` of the items.
        embedding_dim (int, optional): Embedding width. (default: :obj:`64`)
        num_layers (int, optional): Layers of LightGCN. (default: :obj:`2`)
        num_item_layers (int, optional): :math:`L'`. (default: :obj:`1`)
        num_neighbors (int, optional): :math:`k`, the item included.
            (default: :obj:`10`)
        image_weight (float, optional): :math:`\alpha` of images; the other modalities
            share the rest. (default: :obj:`0.1`)
        content_weight (float, optional): :math:`\lambda`. (default: :obj:`0.001`)
        edge_dropout (float, optional): Share of the interactions that an epoch leaves
            out. (default: :obj:`0.8`)
        regularization (float, optional): See :class:`~mars_pyg.nn.LightGCN`.
            (default: :obj:`0.0`)

    Raises:
        ValueError: If there are no features, or an argument is out of its bounds.
    """

    def __init__(
        self,
        data: HeteroData,
        embedding_dim: int = 64,
        num_layers: int = 2,
        num_item_layers: int = 1,
        num_neighbors: int = 10,
        image_weight: float = 0.1,
        content_weight: float = 1e-3,
        edge_dropout: float = 0.8,
        regularization: float = 0.0,
    ) -> None:
        super().__init__(data, embedding_dim, num_layers, regularization, edge_dropout)
        self.modalities = register_features(self, data)
        self.num_item_layers = num_item_layers
        self.content_weight = content_weight
        self.projections = projections(self, self.modalities, embedding_dim, bias=False)
        edges, weights = [], []
        for modality, weight in self._modality_weights(image_weight).items():
            edge_index = nearest_items(self.get_buffer(f"x_{modality}"), num_neighbors)
            edges.append(edge_index)
            weights.append(weight * normalized(edge_index, self.num_items))
        self._graphs["items"] = item_matrix(
            torch.cat(edges, dim=1), self.num_items, torch.cat(weights)
        )

    def forward(self) -> tuple[Tensor, Tensor]:
        """Compute the users ``[U, d]`` and the items ``[N, d]``."""
        users, items = super().forward()
        h = self.item_embedding.weight
        for _ in range(self.num_item_layers):
            h = self.graphs()["items"].matmul(h)
        return users, items + h

    def loss(
        self, user: Tensor, positive: Tensor, negative: Tensor
    ) -> dict[str, Tensor]:
        """The losses of a batch of triplets; see :class:`~mars_pyg.nn.Recommender`."""
        users, items = self()
        tables = [self.item_embedding.weight]
        bpr = self._bpr_loss((users, items), user, positive, negative, tables)
        rows = users[user]
        content = bpr.new_zeros(())
        for modality, projection in self.projections.items():
            z = projection(self.get_buffer(f"x_{modality}"))
            known = self.get_buffer(f"known_{modality}")
            better, worse = ((rows * z[i]).sum(dim=1) for i in (positive, negative))
            content = content + mean_of_known(
                F.softplus(worse - better), known[positive] & known[negative]
            )
        loss = bpr + self.content_weight * content
        return {"loss": loss, "bpr": bpr, "content": content}

    def _modality_weights(self, image_weight: float) -> dict[str, float]:
        """The weight of each modality in the graph; they add up to one."""
        others = [modality for modality in self.modalities if modality != "image"]
        if not others:
            return {"image": 1.0}
        rest = 1 - image_weight if "image" in self.modalities else 1.0
        weights = dict.fromkeys(others, rest / len(others))
        return weights | ({"image": image_weight} if rest < 1 else {})
