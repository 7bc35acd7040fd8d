"""SMORE: modalities that are filtered and fused as spectra."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fft import irfft, rfft
from torch.nn import Linear, ModuleDict
from torch_geometric.data import HeteroData
from torch_geometric.utils import coalesce

from baselines.content import (
    cosine_graph,
    item_matrix,
    projections,
    register_features,
)
from mars_pyg.kernels import SparseMatrix
from mars_pyg.nn import LightGCN

#: Neighbours of an item by each modality, for Baby.
NUM_NEIGHBORS = {"image": 40, "text": 15}
#: Below it the exponentials of InfoNCE may not be finite.
MIN_TEMPERATURE = 0.02
#: The name of the fused modality, which no modality can have.
FUSED = "fused modalities"


class SMORE(LightGCN):
    r"""SMORE, from `"Spectrum-based Modality Representation Fusion Graph Convolutional
    Network for Multimodal Recommendation" <https://arxiv.org/abs/2412.14978>`_ (Ong and
    Khong, WSDM 2025).

    The projected features :math:`\mathbf{Z}_m = \mathbf{X}_m \mathbf{W}_m +
    \mathbf{b}_m` are filtered, and fused, in the frequencies along their width,

    .. math::
        \hat{\mathbf{Z}}_m = \mathcal{F}^{-1} (\mathcal{F}(\mathbf{Z}_m) \odot
        \mathbf{\Theta}_m), \qquad
        \hat{\mathbf{Z}}_f = \mathcal{F}^{-1} (\textstyle \prod_m
        \mathcal{F}(\mathbf{Z}_m) \odot \mathbf{\Theta}_f),

    with complex weights :math:`\mathbf{\Theta}`. Each of them, :math:`c \in \{m, f\}`,
    gates the items' embeddings, and runs over a graph of near items,

    .. math::
        \mathbf{H}_c = \mathbf{A}_c^{L'} (\mathbf{E} \odot
        \sigma (\hat{\mathbf{Z}}_c \mathbf{W}^g_c + \mathbf{b}^g_c)), \qquad
        \mathbf{H}_c^U = \hat{\mathbf{R}} \mathbf{H}_c

    where :math:`\mathbf{A}_m` has the cosines of the :math:`k_m` nearest items by a
    modality, normalised, and :math:`\mathbf{A}_f` the largest entry of any
    :math:`\mathbf{A}_m`. For users and items alike, with LightGCN's
    :math:`\mathbf{e}`,

    .. math::
        \mathbf{s} = \mathrm{mean} \Big( \ldots, p_m(\mathbf{e}) \odot \mathrm{softmax}
        (q_m (\mathbf{h}_f)) \odot \mathbf{h}_m, \ldots, p_f(\mathbf{e}) \odot
        \mathbf{h}_f \Big), \qquad
        \mathbf{g} = \mathbf{e} + \mathbf{s}, \qquad
        s(u, i) = \langle \mathbf{g}_u, \mathbf{g}_i \rangle

    with preferences :math:`p_c(\mathbf{e}) = \mathrm{dropout} (\sigma (\mathbf{e}
    \mathbf{W}^p_c + \mathbf{b}^p_c))` and attentions :math:`q_m` of one hidden layer
    (tanh). To the BPR loss is added, weighed by :math:`\mu`, InfoNCE between
    :math:`\mathbf{s}` and :math:`\mathbf{e}` over the users and the positives of a
    batch, with a temperature of 0.2.

    **Departures.** Any number of modalities will do; with one, the fused spectrum is
    its own under another filter. A batch is contrasted in groups of 2,048, the authors'
    batch size, so that the negatives are as many as theirs and memory does not grow
    with the square of a batch. The features are fixed, which their code trains on; an
    item without features is its own only neighbour, and its gate that of the bias;
    negative cosines are zero. The L2
    regularisation is that of :class:`~mars_pyg.nn.LightGCN`, of embeddings, where
    theirs is of what comes out of the layers.

    Args:
        data (HeteroData): The graph, with features :obj:`x_<modality>` of the items.
        embedding_dim (int, optional): Embedding width. (default: :obj:`64`)
        num_layers (int, optional): Layers of LightGCN. (default: :obj:`4`)
        num_item_layers (int, optional): :math:`L'`. (default: :obj:`1`)
        num_neighbors (int, optional): :math:`k_m`, the item included; :obj:`None` for
            the authors' on Baby, 40 by images and 15 by text and by anything else.
            (default: :obj:`None`)
        dropout (float, optional): Dropout of the preferences. (default: :obj:`0.1`)
        contrastive_weight (float, optional): :math:`\mu`. (default: :obj:`0.01`)
        temperature (float, optional): Temperature of InfoNCE, at least 0.02.
            (default: :obj:`0.2`)
        contrastive_batch_size (int, optional): Size of the groups that are contrasted.
            (default: :obj:`2048`)
        regularization (float, optional): See :class:`~mars_pyg.nn.LightGCN`.
            (default: :obj:`1e-4`)

    Raises:
        ValueError: If there are no features, or an argument is out of its bounds.
    """

    def __init__(
        self,
        data: HeteroData,
        embedding_dim: int = 64,
        num_layers: int = 4,
        num_item_layers: int = 1,
        num_neighbors: int | None = None,
        dropout: float = 0.1,
        contrastive_weight: float = 0.01,
        temperature: float = 0.2,
        contrastive_batch_size: int = 2048,
        regularization: float = 1e-4,
    ) -> None:
        if temperature < MIN_TEMPERATURE:
            raise ValueError(
                f"'temperature' must be at least {MIN_TEMPERATURE} (got {temperature})"
            )
        super().__init__(data, embedding_dim, num_layers, regularization)
        self.modalities = register_features(self, data)
        self.num_item_layers = num_item_layers
        self.contrastive_weight = contrastive_weight
        self.temperature = temperature
        self.contrastive_batch_size = contrastive_batch_size
        self.projections = projections(self, self.modalities, embedding_dim)
        channels = [*self.modalities, FUSED]
        # Real and imaginary parts side by side: optimisers know real numbers.
        self.filters = torch.nn.ParameterDict(
            {name: torch.randn(embedding_dim // 2 + 1, 2) for name in channels}
        )
        size = embedding_dim, embedding_dim
        self.gates = ModuleDict({name: Linear(*size) for name in channels})
        self.preferences = ModuleDict({name: Linear(*size) for name in channels})
        self.attentions = ModuleDict(
            {
                modality: torch.nn.Sequential(
                    Linear(*size), torch.nn.Tanh(), Linear(*size, bias=False)
                )
                for modality in self.modalities
            }
        )
        self.dropout = torch.nn.Dropout(dropout)
        self._graphs["items"] = self._item_graphs(num_neighbors)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Compute the users ``[U, d]`` and the items ``[N, d]``."""
        behavior = super().forward()
        users, items = (
            e + s for e, s in zip(behavior, self._side(behavior), strict=True)
        )
        return users, items

    def loss(
        self, user: Tensor, positive: Tensor, negative: Tensor
    ) -> dict[str, Tensor]:
        """The losses of a batch of triplets; see :class:`~mars_pyg.nn.Recommender`."""
        behavior = super().forward()
        # The scores of a batch read no other users, who are most of the rows.
        side = self._side(behavior, user.unique())
        users, items = (e + s for e, s in zip(behavior, side, strict=True))
        tables = [self.item_embedding.weight]
        bpr = self._bpr_loss((users, items), user, positive, negative, tables)
        contrastive = self._contrast(side[1], behavior[1], positive) + self._contrast(
            side[0], behavior[0], user
        )
        loss = bpr + self.contrastive_weight * contrastive
        return {"loss": loss, "bpr": bpr, "contrastive": contrastive}

    def fuse(self) -> dict[str, Tensor]:
        """The filtered features of each modality, and the fused ones ``[N, d]``."""
        spectra = {
            modality: rfft(
                projection(self.get_buffer(f"x_{modality}")), dim=1, norm="ortho"
            )
            for modality, projection in self.projections.items()
        }
        product = torch.stack(list(spectra.values())).prod(dim=0)
        return {
            name: irfft(
                spectrum * torch.view_as_complex(self.filters[name]),
                n=self.embedding_dim,
                dim=1,
                norm="ortho",
            )
            for name, spectrum in {**spectra, FUSED: product}.items()
        }

    def _side(
        self, behavior: tuple[Tensor, Tensor], user: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        r"""What content adds, :math:`\mathbf{s}`, ``[U, d]`` and ``[N, d]``.

        With distinct users ``user`` it is computed for these, and zero for others.
        """
        graphs, interactions = self.graphs()["items"], self._interactions()
        if user is None:
            user = torch.arange(self.num_users, device=behavior[0].device)
        both = {}
        for name, z in self.fuse().items():
            h = self.item_embedding.weight * self.gates[name](z).sigmoid()
            for _ in range(self.num_item_layers):
                h = graphs[name].matmul(h)
            both[name] = torch.cat([interactions.matmul(h)[user], h])
        e, fused = torch.cat([behavior[0][user], behavior[1]]), both[FUSED]
        side = torch.zeros_like(fused)
        for name, h in both.items():
            if name != FUSED:
                h = self.attentions[name](fused).softmax(dim=1) * h
            side = side + self.dropout(self.preferences[name](e).sigmoid()) * h
        rows, items = (side / len(both)).split([user.numel(), self.num_items])
        return torch.zeros_like(behavior[0]).index_copy(0, user, rows), items

    def _contrast(self, side: Tensor, behavior: Tensor, index: Tensor) -> Tensor:
        """InfoNCE over the rows of a batch, which is taken in groups."""
        total = side.new_zeros(())
        for group in index.split(self.contrastive_batch_size):
            first = F.normalize(side[group], dim=1) / self.temperature
            second = F.normalize(behavior[group], dim=1)
            # No logit is above 1 / temperature: no largest has to be subtracted.
            others = (first @ second.t()).exp().sum(dim=1).log()
            total = total + (others - (first * second).sum(dim=1)).sum()
        return total / max(index.numel(), 1)

    def _item_graphs(self, num_neighbors: int | None) -> dict[str, SparseMatrix]:
        """The graph of each modality, and the largest entry of any of them."""
        edges, weights, graphs = [], [], {}
        for modality in self.modalities:
            x = self.get_buffer(f"x_{modality}")
            k = num_neighbors or NUM_NEIGHBORS.get(modality, NUM_NEIGHBORS["text"])
            edge_index, weight = cosine_graph(x, k)
            graphs[modality] = item_matrix(edge_index, self.num_items, weight)
            edges.append(edge_index)
            weights.append(weight)
        union, largest = coalesce(
            torch.cat(edges, dim=1), torch.cat(weights), self.num_items, reduce="max"
        )
        return {**graphs, FUSED: item_matrix(union, self.num_items, largest)}
