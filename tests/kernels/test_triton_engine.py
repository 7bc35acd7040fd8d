"""The triton engine: what the compiler says, and what only a GPU can show."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch_geometric.testing import onlyCUDA

from mars_pyg.kernels import FactorGraph, factor_propagate, value_chunks

triton_engine = pytest.importorskip("mars_pyg.kernels.triton_engine")

#: Enough for tiles.
NUM_ITEMS = value_chunks.MIN_TILED_ITEMS + 1000


def test_compiles_for_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    program = Path(__file__).with_name("compile_triton_kernels.py")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kernels = {line.split()[0] for line in done.stdout.splitlines()}
    assert kernels == {
        "sum_chunks",
        "sum_values",
        "read_values",
        "gate_gradients",
        "sum_products",
    }


def test_needs_a_gpu_or_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_engine.kernels, "is_interpreted", lambda kernel: False)
    graph = skewed_graph("cpu", 10)
    with pytest.raises(ValueError, match="needs a GPU, but 'x' is on the CPU"):
        factor_propagate(torch.ones(10, 2), graph, torch.ones(10, 3), engine="triton")


def skewed_graph(
    device: str, num_items: int = NUM_ITEMS, several: bool = False
) -> FactorGraph:
    """Three factors: a value with half of the items, 50 values, and many rare ones."""
    generator = torch.Generator().manual_seed(0)
    item = torch.arange(num_items).repeat(4 if several else 3)
    draw = torch.rand(item.shape, generator=generator)
    block = torch.arange(len(item)) // num_items
    half = torch.where(draw < 0.5, 0, (draw * 20).long())
    rare = 70 + (draw * (num_items // 5)).long()
    value = torch.where(block == 0, half, 20 + (draw * 50).long())
    value = torch.where(block == 2, rare, value)
    if several:
        value = torch.where(block == 3, (draw * 20).long(), value)
    factor = torch.full((70 + num_items // 5,), 2)
    factor[:20], factor[20:70] = 0, 1
    known = torch.rand(item.shape, generator=generator) < 0.9
    edge_index = torch.stack([item, value])[:, known].to(device)
    return FactorGraph.from_edge_index(edge_index, factor.to(device), num_items, 3)


def results(
    graph: FactorGraph, inputs: list[Tensor], engine: str, dtype: torch.dtype
) -> Iterator[Tensor]:
    """The output and every gradient."""
    given = [tensor.to(dtype).requires_grad_() for tensor in inputs]
    x, gate, structure = given
    out = factor_propagate(x, graph, gate, structure, engine=engine)
    yield out
    # A gradient that does not depend on how the output was rounded.
    yield from torch.autograd.grad(out, given, inputs[2].to(dtype))


def random_inputs(width: int, dtype: torch.dtype) -> list[Tensor]:
    torch.manual_seed(0)
    return [
        torch.randn(NUM_ITEMS, columns, device="cuda").to(dtype).double()
        for columns in (width, 4, width)
    ]


@onlyCUDA
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-10), (torch.float32, 1e-4), (torch.bfloat16, 5e-2)],
)
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("width", [20, 64, 200])
def test_equals_the_torch_engine(
    dtype: torch.dtype, tolerance: float, several: bool, width: int
) -> None:
    graph = skewed_graph("cuda", several=several)
    inputs = random_inputs(width, dtype)
    want = results(graph, inputs, "torch", torch.float64)
    got = results(graph, inputs, "triton", dtype)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one.double(), other, atol=tolerance, rtol=tolerance)


@onlyCUDA
@pytest.mark.parametrize("several", [False, True])
def test_same_bits_on_a_gpu(several: bool) -> None:
    graph = skewed_graph("cuda", several=several)
    inputs = random_inputs(64, torch.float32)
    first = list(results(graph, inputs, "triton", torch.float32))
    for _ in range(5):
        again = results(graph, inputs, "triton", torch.float32)
        assert all(map(torch.equal, first, again))


@onlyCUDA
def test_bfloat16_rounds_to_nearest() -> None:
    graph = FactorGraph.from_edge_index(
        torch.zeros(2, 1, dtype=torch.int64, device="cuda"),
        torch.zeros(1, dtype=torch.int64, device="cuda"),
        1,
        1,
    )
    x = torch.randn(1, 200, device="cuda").to(torch.bfloat16)
    gate = torch.full((1, 1), 1 / 3, device="cuda")
    out = factor_propagate(x, graph, gate, engine="triton")
    assert torch.equal(out, (x.float() * gate).to(torch.bfloat16))


@onlyCUDA
def test_auto_compiles_on_a_gpu() -> None:
    graph = skewed_graph("cuda")
    x, gate, structure = (t.float() for t in random_inputs(32, torch.float32))
    x.requires_grad_()

    def run(x: Tensor) -> Tensor:
        return factor_propagate(x.sin(), graph, gate, structure).square()

    out = torch.compile(run, fullgraph=True)(x)
    want = run(x)
    torch.testing.assert_close(out, want)
    torch.testing.assert_close(
        torch.autograd.grad(out.sum(), x), torch.autograd.grad(want.sum(), x)
    )
