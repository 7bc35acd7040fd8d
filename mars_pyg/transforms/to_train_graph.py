"""The graph that PyG's loaders and subgraphs take."""

from __future__ import annotations

from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform
from torch_geometric.utils import is_sparse

from mars_pyg.user_items import EDGE_NAMES, INTERACTS


@functional_transform("to_train_graph")
class ToTrainGraph(BaseTransform):
    r"""Leaves the tensors of a graph, without the interactions of validation and test
    (functional name: :obj:`to_train_graph`).

    PyG's :class:`~torch_geometric.loader.NeighborLoader`,
    :class:`~torch_geometric.loader.LinkNeighborLoader`,
    :meth:`~torch_geometric.data.HeteroData.subgraph` and
    :class:`~torch_geometric.transforms.RemoveIsolatedNodes` slice what has an entry for
    each node, and can't slice lists of texts such as ``id`` and ``title``; and they
    number the nodes of ``edge_index`` anew, but not those of ``val_edge_index``. So
    both are left out, and stay in the graph that is given, where ``n_id`` of a batch
    finds them.

    Samplers follow edges backwards:
    :class:`~torch_geometric.transforms.ToUndirected` lets them go from an item to its
    values, too. See ``examples/link_neighbor_loader.py``.
    """

    def forward(self, data: HeteroData) -> HeteroData:
        """Take the tensors of a graph."""
        for store in (*data.node_stores, *data.edge_stores):
            for name, value in list(store.items()):
                is_tensor = isinstance(value, Tensor) or is_sparse(value)
                if not (is_tensor or name == "num_nodes"):
                    del store[name]
        if INTERACTS in data.edge_types:
            for split in ("val", "test"):
                data[INTERACTS].pop(EDGE_NAMES[split], None)
        return data
