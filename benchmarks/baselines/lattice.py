"""LATTICE: graphs of near items that are learned from their content."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import HeteroData

from baselines.content import (
    cosine_graph,
    cosine_weights,
    item_matrix,
    nearest_items,
    normalized,
    projections,
    register_features,
)
from mars_pyg.kernels import SparseMatrix
from mars_pyg.nn import LightGCN


class LATTICE(LightGCN):
    r"""LATTICE, from `"Mining Latent Structures for Multimedia Recommendation"
    <https://arxiv.org/abs/2104.09036>`_ (Zhang et al., ACM MM 2021), over LightGCN.

    .. math::
        \mathbf{A} = \sum_m \alpha_m \left( \lambda \, \mathrm{norm}
        (\mathrm{top}_k \, \mathbf{S}(\mathbf{X}_m)) + (1 - \lambda) \, \mathrm{norm}
        (\mathrm{top}_k \, \mathbf{S}(\mathbf{X}_m \mathbf{W}_m + \mathbf{b}_m))
        \right), \qquad \alpha = \mathrm{softmax}(\mathbf{w})

    with :math:`\mathbf{S}(\mathbf{Z})_{ij} = \max (\cos (\mathbf{z}_i, \mathbf{z}_j),
    0)`, the largest :math:`k` of each row, and :math:`\mathrm{norm} (\mathbf{S}) =
    \mathbf{D}^{-1/2} \mathbf{S} \mathbf{D}^{-1/2}`; and

    .. math::
        \mathbf{H} = \mathbf{A}^{L'} \mathbf{E}, \qquad
        \mathbf{g}_i = \mathbf{e}_i + \frac{\mathbf{h}_i}{\| \mathbf{h}_i \|}, \qquad
        s(u, i) = \langle \mathbf{e}_u, \mathbf{g}_i \rangle

    for the items' embeddings :math:`\mathbf{E}` and LightGCN's :math:`\mathbf{e}`,
    trained with the BPR loss.

    **Departures.** The neighbours by learned features are found once an epoch, as in
    the authors' code, but the weights of their edges at every step, so that every
    step's gradient reaches :math:`\mathbf{W}_m`; theirs does in an epoch's first step
    alone. In evaluation the neighbours are those of the current weights, as theirs are.
    The features are fixed, which their code trains on; an item without features is its
    own only neighbour. LightGCN has its own normalisation, where their code takes the
    mean over a node and its neighbours, and the L2 regularisation is that of
    :class:`~mars_pyg.nn.LightGCN`.

    Args:
        data (HeteroData): The graph, with features :obj:`x_<modality>` of the items.
        embedding_dim (int, optional): Embedding width, also of the learned features.
            (default: :obj:`64`)
        num_layers (int, optional): Layers of LightGCN. (default: :obj:`2`)
        num_item_layers (int, optional): :math:`L'`. (default: :obj:`1`)
        num_neighbors (int, optional): :math:`k`, the item included.
            (default: :obj:`10`)
        skip_weight (float, optional): :math:`\lambda`. (default: :obj:`0.9`)
        regularization (float, optional): See :class:`~mars_pyg.nn.LightGCN`.
            (default: :obj:`1e-5`)

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
        skip_weight: float = 0.9,
        regularization: float = 1e-5,
    ) -> None:
        super().__init__(data, embedding_dim, num_layers, regularization)
        self.modalities = register_features(self, data)
        self.num_item_layers = num_item_layers
        self.num_neighbors = num_neighbors
        self.skip_weight = skip_weight
        self.projections = projections(self, self.modalities, embedding_dim)
        self.modality_logits = torch.nn.Parameter(torch.zeros(len(self.modalities)))
        self._graphs["original"] = {}
        for modality in self.modalities:
            edges, weight = cosine_graph(
                self.get_buffer(f"x_{modality}"), num_neighbors
            )
            matrix = item_matrix(edges, self.num_items, weight)
            self._graphs["original"][modality] = matrix
        self._learned: dict[str, tuple[Tensor, SparseMatrix]] | None = None

    def start_epoch(self, generator: torch.Generator) -> None:
        """Find the neighbours by the features that have been learned so far."""
        super().start_epoch(generator)
        self._learned = self._find_neighbors()

    def forward(self) -> tuple[Tensor, Tensor]:
        """Compute the users ``[U, d]`` and the items ``[N, d]``."""
        users, items = super().forward()
        learned = self._learned
        if learned is None or not self.training:
            learned = self._find_neighbors()
        original = self.graphs()["original"]
        share = self.modality_logits.softmax(dim=0)
        graphs: list[tuple[SparseMatrix, Tensor | None, Tensor]] = []
        for modality, alpha in zip(self.modalities, share, strict=True):
            edge_index, matrix = learned[modality]
            cosine = cosine_weights(self._project(modality), matrix)
            weight = normalized(edge_index, self.num_items, cosine)
            graphs += [
                (original[modality], None, self.skip_weight * alpha),
                (matrix, weight, (1 - self.skip_weight) * alpha),
            ]
        h = self.item_embedding.weight
        for _ in range(self.num_item_layers):
            out = torch.zeros_like(h)
            for graph, entries, scale in graphs:
                out = out + scale * graph.matmul(h, entries)
            h = out
        return users, items + F.normalize(h, dim=1)

    def _project(self, modality: str) -> Tensor:
        """The learned features of a modality ``[N, d]``."""
        return self.projections[modality](self.get_buffer(f"x_{modality}"))

    @torch.no_grad()
    def _find_neighbors(self) -> dict[str, tuple[Tensor, SparseMatrix]]:
        """The edges of each modality, and the same as a matrix."""
        found = {}
        for modality in self.modalities:
            known = self.get_buffer(f"known_{modality}")
            # The bias alone would make items without features near to each other.
            x = torch.where(known[:, None], self._project(modality), 0.0)
            edge_index = nearest_items(x, self.num_neighbors)
            found[modality] = edge_index, item_matrix(edge_index, self.num_items)
        return found

    def _apply(self, fn: Any, recurse: bool = True) -> LATTICE:
        super()._apply(fn, recurse)
        self._learned = None  # They may be on another device.
        return self
