"""Other recommenders, over the graph, layers, trainer and evaluation of this package.

Each has its paper's equations and hyper-parameters, and says where it departs; the
width of the embeddings is 64 in all, as MARS has it, and what the trainer's options say
of optimiser, batches and stopping holds for all.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from torch_geometric.data import HeteroData

from baselines.bm3 import BM3
from baselines.freedom import FREEDOM
from baselines.lattice import LATTICE
from baselines.smore import SMORE
from baselines.vbpr import VBPR
from mars_pyg.heads import EASE, HeadedRecommender
from mars_pyg.nn import BPR, LightGCN, Recommender

__all__ = ["BASELINES", "BM3", "FREEDOM", "LATTICE", "SMORE", "VBPR", "Baseline"]


@dataclass(frozen=True)
class Baseline:
    """How a recommender is made.

    Args:
        make: Its class, or a function, which takes the graph and the arguments.
        needs_content: Whether it needs features :obj:`x_<modality>` of the items.
        is_trained: Whether it is trained; else it is ready when it is made.
    """

    make: Callable[..., Recommender]
    needs_content: bool = False
    is_trained: bool = True

    @property
    def arguments(self) -> dict[str, object]:
        """Its arguments, at their defaults."""
        parameters = list(inspect.signature(self.make).parameters.values())
        return {parameter.name: parameter.default for parameter in parameters[1:]}


def make_ease(data: HeteroData, l2: float = 300.0) -> HeadedRecommender:
    """:class:`~mars_pyg.heads.EASE` without factor cliques, and alone.

    The paper's ``l2`` are from 200 to 1,000. Of each item the 256 largest entries are
    kept, where the paper keeps all.
    """
    head = EASE(data["item"].num_nodes, l2, clique_weight=0.0).fit(data)
    return HeadedRecommender(None, data, [head])


BASELINES: dict[str, Baseline] = {
    "bpr": Baseline(BPR),
    "lightgcn": Baseline(LightGCN),
    "ease": Baseline(make_ease, is_trained=False),
    "vbpr": Baseline(VBPR, needs_content=True),
    "lattice": Baseline(LATTICE, needs_content=True),
    "freedom": Baseline(FREEDOM, needs_content=True),
    "bm3": Baseline(BM3, needs_content=True),
    "smore": Baseline(SMORE, needs_content=True),
}
