"""Features of the items, and graphs of the items whose features are near."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import coalesce

from mars_pyg.kernels import SparseMatrix
from mars_pyg.modalities import feature_modalities
from mars_pyg.transforms import AddItemKNN


def register_features(module: torch.nn.Module, data: HeteroData) -> list[str]:
    """Make the features of the items buffers ``x_<modality>`` of a module.

    ``known_<modality>`` ``[N]`` is which items have any: a row of zeros is missing.

    Args:
        module: The module.
        data: The graph, with features :obj:`x_<modality>` ``[N, D]`` of the items.

    Returns:
        The modalities, sorted.

    Raises:
        ValueError: If there are no features.
    """
    modalities = feature_modalities(data)
    if not modalities:
        raise ValueError(
            "'data' has no features 'x_<modality>' of the items; apply the transform "
            "AddTextFeatures"
        )
    for modality in modalities:
        x = data["item"][f"x_{modality}"].float()
        module.register_buffer(f"x_{modality}", x, persistent=False)
        known = (x != 0).any(dim=1)
        module.register_buffer(f"known_{modality}", known, persistent=False)
    return modalities


def projections(
    module: torch.nn.Module,
    modalities: list[str],
    embedding_dim: int,
    bias: bool = True,
) -> torch.nn.ModuleDict:
    """A linear map for the features of each modality, from ``[D]`` to ``[d]``."""
    return torch.nn.ModuleDict(
        {
            modality: torch.nn.Linear(
                module.get_buffer(f"x_{modality}").size(1), embedding_dim, bias
            )
            for modality in modalities
        }
    )


def mean_of_known(loss: Tensor, known: Tensor) -> Tensor:
    """The mean of a loss over the rows whose features are known; zero without any.

    Args:
        loss: The loss of each row ``[B]``.
        known: Whether they are known ``[B]``, bool.
    """
    return (loss * known).sum() / known.sum().clamp(min=1)


@torch.no_grad()
def nearest_items(x: Tensor, k: int) -> Tensor:
    """Edges ``[2, E]`` from the ``k`` nearest by cosine to each item, itself included.

    They are sorted by item, then neighbour; see
    :class:`~mars_pyg.transforms.AddItemKNN`, which compares block by block. A row of
    zeros, an item without features, has itself alone.
    """
    data = HeteroData()
    data["item"].num_nodes = x.size(0)
    data["item"].x = x
    edges = AddItemKNN(k, attrs=["x"])(data)["item", "similar", "item"].edge_index
    return coalesce(edges, num_nodes=x.size(0), sort_by_row=False)


def normalized(
    edge_index: Tensor, num_items: int, weight: Tensor | None = None
) -> Tensor:
    r"""The weights of :math:`\mathbf{D}^{-1/2} \mathbf{A} \mathbf{D}^{-1/2}` ``[E]``.

    :math:`\mathbf{D}` are the sums over the neighbours of an item, as PyG's
    ``gcn_norm`` takes them. Without weights all are ones, in float64.
    """
    _, weight = gcn_norm(
        edge_index, weight, num_items, add_self_loops=False, dtype=torch.float64
    )
    return weight


def item_matrix(
    edge_index: Tensor, num_items: int, weight: Tensor | None = None
) -> SparseMatrix:
    """Edges from a neighbour to an item as a matrix of items by neighbours."""
    neighbor, item = edge_index
    return SparseMatrix.from_edges(item, neighbor, num_items, num_items, weight)


def cosine_weights(x: Tensor, matrix: SparseMatrix) -> Tensor:
    """The cosines of the items that a matrix ties, differentiable ``[E]``.

    Negative ones are set to zero, so that no degree can be; that of an item with itself
    is one, also where it has no features. Memory is in ``O(E + N d)``: rows are not
    copied for each edge.
    """
    unit = torch.nn.functional.normalize(x, dim=1)
    cosine = matrix.inner_products(unit, unit).clamp(min=0)
    return cosine.masked_fill(matrix.rows() == matrix.col, 1.0)


def cosine_graph(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The nearest items, and their normalised cosines.

    Args:
        x: Features ``[N, D]``.
        k: Neighbours of an item, itself included.

    Returns:
        The edges of :func:`nearest_items`, and their weights ``[E]``, float64.
    """
    edge_index = nearest_items(x, k)
    cosine = cosine_weights(x.double(), item_matrix(edge_index, x.size(0)))
    return edge_index, normalized(edge_index, x.size(0), cosine)
