"""The data of the scaling benchmark, and what a factor propagation of it gives."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from mars_pyg.kernels import FactorGraph
from mars_pyg.kernels.reference import reference_propagate

#: What differs from even values, as many as asked for, one for each item and factor.
SCENARIOS = {
    "even": "every value alike",
    "half": "one value of each factor holds half of the items",
    "100k": "10^5 values in all",
    "pairs": "a value for each two items, in every factor",
    "k50": "50 factors",
    "several": "one to three values for an item and factor",
}


class Problem(NamedTuple):
    """A view's data: items, gates, the gradient of the output, and edges to values."""

    x: Tensor
    gate: Tensor
    gradient: Tensor
    edge_index: Tensor
    factor: Tensor

    @property
    def num_items(self) -> int:
        """Number of items."""
        return self.x.size(0)

    @property
    def num_factors(self) -> int:
        """Number of factors."""
        return self.gate.size(1)

    @property
    def num_edges(self) -> int:
        """Number of edges."""
        return self.edge_index.size(1)

    def graph(self) -> FactorGraph:
        """The prepared form of the edges."""
        return FactorGraph.from_edge_index(
            self.edge_index, self.factor, self.num_items, self.num_factors
        )

    def factors(self) -> list[tuple[Tensor, Tensor, int]]:
        """Items and values of the edges of each factor, and its number of values."""
        item, value = self.edge_index
        result = []
        for k in range(self.num_factors):
            (values,) = torch.where(self.factor == k)
            place = torch.full_like(self.factor, -1)
            place[values] = torch.arange(values.numel(), device=values.device)
            mask = place[value] >= 0
            result.append((item[mask], place[value[mask]], values.numel()))
        return result


def make_problem(
    scenario: str,
    num_items: int,
    channels: int,
    num_factors: int,
    num_values: int,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Problem:
    """Draw the data of a scenario, the same each time."""
    rng = np.random.default_rng(0)
    if scenario == "k50":
        num_factors = 50
    if scenario == "100k":
        num_values = max(10**5 // num_factors, 1)
    if scenario == "pairs":
        num_values = max(num_items // 2, 1)
    draws = 3 if scenario == "several" else 1
    values = rng.integers(0, num_values, (num_items, num_factors, draws))
    if scenario == "half":
        values[rng.random(values.shape) < 0.5] = 0
    values += np.arange(num_factors)[:, None] * num_values
    keep = np.ones(values.shape, dtype=bool)
    if draws > 1:
        # One to three values, none of them twice.
        keep = np.arange(draws) < rng.integers(1, draws + 1, (*values.shape[:2], 1))
        values.sort(axis=2)
        keep[..., 1:] &= values[..., 1:] != values[..., :-1]
        keep[..., 0] |= ~keep.any(axis=2)
    item = np.broadcast_to(np.arange(num_items)[:, None, None], values.shape)
    edges = torch.from_numpy(np.stack([item[keep], values[keep]]))
    generator = torch.Generator().manual_seed(0)
    x, gradient = torch.randn(2, num_items, channels, generator=generator)
    gate = torch.randn(num_items, num_factors, generator=generator).softmax(dim=1)
    return Problem(
        x.to(device, dtype).requires_grad_(),
        gate.to(device, dtype).requires_grad_(),
        gradient.to(device, dtype),
        edges.to(device),
        torch.arange(num_factors, device=device).repeat_interleave(num_values),
    )


def dense_result(problem: Problem) -> list[Tensor]:
    """Output and gradients by dense matrices in float64, for a small problem."""
    x, gate = problem.x, problem.gate
    out = reference_propagate(x, problem.graph(), gate)
    return [out.detach(), *torch.autograd.grad(out, (x, gate), problem.gradient)]


def sparse_result(problem: Problem, rows: np.ndarray) -> list[Tensor]:
    """Some rows of the output and the gradients, by scipy in float64."""
    item, value = problem.edge_index.cpu().numpy()
    factor = problem.factor.cpu().numpy()
    x, gate, gradient = (
        tensor.detach().double().cpu().numpy()
        for tensor in (problem.x, problem.gate, problem.gradient)
    )
    num_factors, shape = problem.num_factors, (len(x), len(factor))
    group = item * num_factors + factor[value]
    weight = np.bincount(group, minlength=gate.size)[group] ** -0.5
    gated = weight * gate.reshape(-1)[group]
    scale = 1 / np.maximum(np.bincount(value, minlength=len(factor)), 1)[:, None]
    incidence = csr_matrix((weight, (item, value)), shape)
    gated_incidence = csr_matrix((gated, (item, value)), shape)
    mean = scale * (incidence.T @ x)
    gradient_mean = scale * (gated_incidence.T @ gradient)
    own = incidence[rows]
    gradient_gate = [
        (own[:, factor == k] @ mean[factor == k] * gradient[rows]).sum(axis=1)
        for k in range(num_factors)
    ]
    return [
        torch.from_numpy(array)
        for array in (
            gated_incidence[rows] @ mean,
            own @ gradient_mean,
            np.stack(gradient_gate, axis=1),
        )
    ]
