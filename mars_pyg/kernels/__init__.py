"""Factor propagation and sparse products, the compute core of the layers."""

from mars_pyg.kernels.factor_graph import FactorGraph
from mars_pyg.kernels.propagate import factor_propagate
from mars_pyg.kernels.sparse import SparseMatrix

__all__ = ["FactorGraph", "SparseMatrix", "factor_propagate"]
