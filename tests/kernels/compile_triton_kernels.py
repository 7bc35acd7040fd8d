"""Compiles every kernel of the triton engine for an H100, which need not be there.

The interpreter takes much that the compiler refuses. It can't be switched off in the
process of the tests, so that this is a program: it runs a forward and a backward pass
in each dtype with launches that compile and do nothing, and prints a line a kernel.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mars_pyg.kernels import FactorGraph, factor_propagate, triton_engine

TARGET = GPUTarget("cuda", 90, 32)
NAMES = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.bfloat16: "*bf16",
    torch.int32: "*i32",
    torch.int64: "*i64",
}


def compile_only(
    kernel: Any, grid: tuple[int, ...], *args: Any, **options: Any
) -> None:
    warps = options.pop("num_warps")
    values = dict(zip(kernel.arg_names, args, strict=False)) | options
    constants = {k: v for k, v in values.items() if v is None or k in options}
    signature = {
        name: "constexpr"
        if name in constants
        else NAMES[value.dtype]
        if isinstance(value, torch.Tensor)
        else "i32"
        for name, value in values.items()
    }
    # As a launch does for addresses, and sizes, that are multiples of 16.
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(values)
        if signature[name][0] == "*" or name == "num_columns"
    }
    source = ASTSource(kernel, signature, constants, aligned)
    binary = triton.compile(source, target=TARGET, options={"num_warps": warps})
    assert len(binary.asm["cubin"]) > 0
    print(kernel.__name__, binary.metadata.shared, flush=True)


def main() -> None:
    assert not triton_engine.kernels.is_interpreted(triton_engine.kernels.sum_chunks)
    triton_engine._launch = compile_only
    triton_engine.kernels.is_interpreted = lambda kernel: True
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for factor in ([0, 1], [0, 0]):  # one value per factor, and two
            edges = torch.tensor([[0, 0, 1], [0, 1, 1]])
            graph = FactorGraph.from_edge_index(edges, torch.tensor(factor), 2, 2)
            x = torch.randn(2, 64).to(dtype).requires_grad_()
            gate = torch.randn(2, 3, requires_grad=True)
            structure = torch.randn(2, 64).to(dtype)
            out = factor_propagate(x, graph, gate, structure, engine="triton")
            out.sum().backward()


if __name__ == "__main__":
    main()
