from __future__ import annotations

import copy
import io
import shutil

import pytest
import torch
from dense_oracle import (
    assert_equal_with_gradients,
    dense_factor_conv,
    dense_mars_conv,
    factor_graphs,
    random,
    structure_adjacency,
    structure_graphs,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks
from torch_geometric.nn import GCNConv, MessagePassing
from torch_geometric.testing import withPackage

from mars_pyg.kernels import SparseMatrix
from mars_pyg.nn import FactorConv, MARSConv
from mars_pyg.nn.adjacency import normalized_adjacency
from mars_pyg.nn.mars_conv import _row_softmax

# Item 3 has no value in factor 0, item 4 none at all, item 5 is alone with value 2.
EDGES = torch.tensor([[0, 1, 2, 5, 0, 1, 2, 3], [0, 0, 1, 2, 3, 3, 3, 3]])
MANY = torch.tensor([[0, 0, 1, 2, 2, 5, 0, 1, 3, 3], [0, 1, 0, 1, 2, 2, 3, 3, 3, 4]])
FACTOR = torch.tensor([0, 0, 0, 1, 1])
# Not symmetric, with a loop; nobody informs item 5, and item 4 informs nobody.
STRUCT = torch.tensor([[0, 1, 2, 3, 5, 0, 0], [1, 0, 0, 4, 3, 3, 0]])


def layer(in_channels: int, out_channels: int, factors: int, **kwargs) -> MARSConv:
    torch.manual_seed(1)
    return MARSConv(in_channels, out_channels, factors, **kwargs).double()


def oracle(
    conv: MARSConv,
    z: Tensor,
    edges: Tensor,
    factor: Tensor,
    struct: Tensor | None,
    mode: str = "hypergraph",
) -> tuple[Tensor, Tensor]:
    w_0 = None if conv.lin is None else conv.lin.weight
    return dense_mars_conv(
        z, w_0, conv.gate.weight, edges, factor, conv.num_factors, struct, mode
    )


def variables(conv: MARSConv, z: Tensor) -> list[Tensor]:
    # An explainer's mask is a parameter too, while it is set.
    weights = (
        [conv.gate.weight] if conv.lin is None else [conv.lin.weight, conv.gate.weight]
    )
    return [z, *weights]


def test_hand_worked() -> None:
    # With W_0 = I and W_g = 0 the gate is uniform over the terms that an item has.
    conv = MARSConv(1, 1, 2, project=False)
    torch.nn.init.zeros_(conv.gate.weight)
    x = torch.tensor([[1.0], [3.0], [5.0], [7.0], [9.0], [11.0]])
    out, gate = conv(x, EDGES, FACTOR, return_gate=True)
    half = 0.5
    assert out.view(-1).tolist() == pytest.approx([3, 3, 4.5, 4, 0, 11])
    assert gate.tolist() == [
        [0, half, half],
        [0, half, half],
        [0, half, half],
        [0, 0, 1],
        [0, 0, 0],
        [0, 1, 0],
    ]
    # A nearest-neighbour graph of K = 2, itself among them, is a plain mean.
    struct = torch.tensor([[0, 1, 1, 2, 2, 0], [0, 0, 1, 1, 2, 2]])
    edges, factor = torch.tensor([[0], [0]]), torch.tensor([0])
    conv = MARSConv(1, 1, 1, project=False)
    torch.nn.init.zeros_(conv.gate.weight)
    out, gate = conv(x[:3], edges, factor, struct, return_gate=True)
    assert gate.tolist() == [[half, half], [1, 0], [1, 0]]
    assert out.view(-1).tolist() == pytest.approx([1.5, 4, 3])


@given(data=st.data(), width=st.integers(1, 3), project=st.booleans())
@settings(max_examples=50, deadline=None)
def test_single_values_equal_dense_cliques(
    data: st.DataObject, width: int, project: bool
) -> None:
    n, k, edges, factor = data.draw(factor_graphs(single=True, max_items=6))
    struct = data.draw(structure_graphs(n))
    z = random(n, width)
    for mode, engine in (
        ("hypergraph", "torch"),
        ("hypergraph", "reference"),
        ("clique", "auto"),
    ):
        conv = layer(width, 2 if project else width, k, project=project, mode=mode,
                     engine=engine)  # fmt: skip
        out, gate = conv(z, edges, factor, struct, return_gate=True)
        expected, expected_gate = oracle(conv, z, edges, factor, struct, "clique")
        assert gate.shape == (n, k + 1)
        torch.testing.assert_close(gate, expected_gate, atol=1e-10, rtol=0)
        assert_equal_with_gradients(out, expected, variables(conv, z))


@given(data=st.data(), width=st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_several_values_equal_dense_operators(data: st.DataObject, width: int) -> None:
    n, k, edges, factor = data.draw(factor_graphs(max_items=6))
    struct = data.draw(structure_graphs(n))
    z = random(n, width)
    for mode, fuse in (("hypergraph", True), ("hypergraph", False), ("clique", True)):
        conv = layer(width, 2, k, mode=mode)
        conv.fuse = fuse
        out, gate = conv(z, edges, factor, struct, return_gate=True)
        expected, expected_gate = oracle(conv, z, edges, factor, struct, mode)
        torch.testing.assert_close(gate, expected_gate, atol=1e-10, rtol=0)
        assert_equal_with_gradients(out, expected, variables(conv, z))


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_prepared_graphs_equal_raw_edges(data: st.DataObject) -> None:
    n, k, edges, factor = data.draw(factor_graphs())
    struct = data.draw(structure_graphs(n))
    z = random(n, 2)
    conv = layer(2, 3, k)
    graph = conv.factor_conv.prepare(edges, factor, n)
    matrix = None if struct is None else normalized_adjacency(struct, n)
    expected = conv(z, edges, factor, struct)
    for fuse in (True, False):
        conv.fuse = fuse
        for args in (
            (edges, factor, matrix),
            (graph, None, struct),
            (graph, factor, matrix),
        ):
            assert_equal_with_gradients(conv(z, *args), expected, variables(conv, z))


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_normalized_adjacency_is_gcn_norm(data: st.DataObject) -> None:
    n = data.draw(st.integers(0, 6))
    struct = data.draw(structure_graphs(n))
    if struct is None:
        return
    x = random(n, 2)
    matrix = normalized_adjacency(struct, n)
    assert isinstance(matrix, SparseMatrix)
    assert (matrix.num_rows, matrix.num_cols) == (n, n)
    expected = structure_adjacency(struct, n) @ x
    assert_equal_with_gradients(matrix.matmul(x), expected, [x])
    gcn = GCNConv(2, 2, add_self_loops=False, bias=False).double()
    torch.nn.init.eye_(gcn.lin.weight.detach())
    torch.testing.assert_close(matrix.matmul(x), gcn(x, struct), atol=1e-10, rtol=0)


def test_nearest_neighbours_are_averaged() -> None:
    generator = torch.Generator().manual_seed(0)
    n, k = 30, 5
    near = torch.rand(n, n, generator=generator).topk(k, dim=1).indices
    struct = torch.stack([near.flatten(), torch.arange(n).repeat_interleave(k)])
    x = random(n, 2)
    conv = layer(2, 2, 0, project=False)
    out = conv(x, torch.empty(2, 0).long(), torch.empty(0).long(), struct)
    torch.testing.assert_close(out, x[near].mean(dim=1), atol=1e-10, rtol=0)


@pytest.mark.parametrize("struct", [None, STRUCT])
@pytest.mark.parametrize("edges", [EDGES, MANY])
def test_gradcheck(edges: Tensor, struct: Tensor | None) -> None:
    conv = layer(3, 2, 2)
    z = random(6, 3)

    def run(z: Tensor, w_0: Tensor, w_g: Tensor) -> Tensor:
        state = {"lin.weight": w_0, "gate.weight": w_g}
        return torch.func.functional_call(conv, state, (z, edges, FACTOR, struct))

    parameters = [p.detach().clone().requires_grad_() for p in conv.parameters()]
    assert torch.autograd.gradcheck(run, [z, *parameters])


def test_items_without_anything() -> None:
    z = random(6, 3)
    conv = layer(3, 2, 2)
    out, gate = conv(z, EDGES, FACTOR, return_gate=True)
    assert not out[4].any()
    assert not gate[4].any()
    (gradient,) = torch.autograd.grad(out.sum(), z)
    assert not gradient[4].any()
    assert gradient.isfinite().all()
    torch.testing.assert_close(
        gate.sum(dim=1), torch.tensor([1, 1, 1, 1, 0, 1.0]).double()
    )
    # Alone with its value, an item is read back as it is.
    torch.testing.assert_close(out[5], conv.lin(z)[5])
    out, gate = conv(z, EDGES, FACTOR, STRUCT, return_gate=True)
    assert gate[4].tolist() == [1, 0, 0]
    torch.testing.assert_close(gate.sum(dim=1), torch.ones(6).double())


def test_huge_logits_do_not_overflow() -> None:
    conv = layer(2, 2, 2, project=False)
    for scale in (1e4, 1e30, 1e300):
        x = (random(6, 2).detach() * scale).requires_grad_()
        out, gate = conv(x, EDGES, FACTOR, STRUCT, return_gate=True)
        assert out.isfinite().all()
        torch.testing.assert_close(gate.sum(dim=1), torch.ones(6).double())
        (gradient,) = torch.autograd.grad(gate.sum() + out.sum(), x)
        assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("uniform", [True, False])
def test_precision(dtype: torch.dtype, fuse: bool, uniform: bool) -> None:
    # Value 0 has most of the items, and item 0 is everybody's neighbour.
    generator = torch.Generator().manual_seed(0)
    n = 600
    value = torch.stack(
        [
            (torch.rand(n, generator=generator) > 0.7).long(),
            torch.randint(2, 5, (n,), generator=generator),
        ]
    )
    edges = torch.stack([torch.arange(n).repeat(2), value.view(-1)])
    factor = torch.tensor([0, 0, 1, 1, 1])
    source = torch.randint(0, n, (40 * n,), generator=generator)
    struct = torch.stack([source, torch.arange(n).repeat(40)])
    conv = layer(4, 4, 2, project=False).to(dtype)
    if uniform:
        torch.nn.init.zeros_(conv.gate.weight)
    x = (torch.randn(n, 4, generator=generator) + 2).to(dtype).requires_grad_()
    exact_conv = copy.deepcopy(conv).double()
    exact_x = x.detach().double().requires_grad_()
    conv.fuse = fuse
    out, gate = conv(x, edges, factor, struct, return_gate=True)
    exact = exact_conv(exact_x, edges, factor, struct)
    assert out.dtype == gate.dtype == dtype
    # The gate, two terms, a product and their sum are each rounded once, by half a
    # unit; a gate that is not uniform comes from logits that are rounded too.
    # Float32 sums of hundreds of terms carry a rounding error of their own.
    unit = torch.finfo(dtype).eps
    rtol = 2 * unit if uniform else 4 * unit
    if dtype == torch.float32:
        rtol = 2e-6
    torch.testing.assert_close(out.double(), exact, rtol=rtol, atol=0)
    (got,) = torch.autograd.grad(out.float().sum(), x)
    (want,) = torch.autograd.grad(exact.sum(), exact_x)
    assert got.dtype == dtype
    error = (got.double() - want).abs().max() / want.abs().max()
    assert float(error) < (2e-6 if dtype == torch.float32 else 4 * unit)


@pytest.mark.parametrize("num_columns", [1, 3, 16, 20])
def test_softmax_of_short_and_long_rows(num_columns: int) -> None:
    x = random(5, num_columns).requires_grad_()
    expected = x.exp() / x.exp().sum(dim=1, keepdim=True)
    torch.testing.assert_close(_row_softmax(x), expected)
    assert torch.autograd.gradcheck(_row_softmax, x)


def test_autocast() -> None:
    conv = layer(3, 2, 2).float()
    z = random(6, 3).float().detach().requires_grad_()
    expected = conv(z, EDGES, FACTOR, STRUCT)
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(z, EDGES, FACTOR, STRUCT)
    torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.02)
    out.float().sum().backward()
    assert z.grad is not None
    assert z.grad.dtype == torch.float32
    assert conv.lin.weight.grad.isfinite().all()


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("structured", [False, True])
def test_compile_without_graph_breaks(prepared: bool, structured: bool) -> None:
    torch.compiler.reset()
    conv = layer(3, 2, 2)
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager")
    z = random(6, 3)
    struct = STRUCT if structured else None
    expected, _ = oracle(conv, z, MANY, FACTOR, struct)
    if prepared:
        graph = conv.factor_conv.prepare(MANY, FACTOR, 6)
        matrix = None if struct is None else normalized_adjacency(struct, 6)
        out = compiled(z, graph, None, matrix)
    else:
        out = compiled(z, MANY, FACTOR, struct)
    assert_equal_with_gradients(out, expected, variables(conv, z))


def test_what_is_prepared_in_inference_mode_is_trained_with() -> None:
    """Lightning validates in it before the first step."""
    conv = layer(3, 2, 2)
    z = random(6, 3)
    expected, _ = oracle(conv, z, MANY, FACTOR, STRUCT)
    with torch.inference_mode():
        # A batch may have been moved to a device in it.
        edges, factor, struct = MANY.clone(), FACTOR.clone(), STRUCT.clone()
        graph = conv.factor_conv.prepare(edges, factor, 6)
        matrix = normalized_adjacency(struct, 6)
    out = conv(z, graph, None, matrix)
    assert_equal_with_gradients(out, expected, variables(conv, z))


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compile_with_inductor() -> None:
    torch.compiler.reset()
    conv = layer(3, 2, 2)
    z = random(6, 3)
    expected, _ = oracle(conv, z, MANY, FACTOR, STRUCT)
    graph = conv.factor_conv.prepare(MANY, FACTOR, 6)
    matrix = normalized_adjacency(STRUCT, 6)
    compiled = torch.compile(conv, fullgraph=True)
    assert_equal_with_gradients(
        compiled(z, graph, None, matrix), expected, variables(conv, z)
    )


def test_a_structure_without_weights() -> None:
    z = random(6, 3)
    conv = layer(3, 2, 2)
    matrix = SparseMatrix.from_edges(STRUCT[1], STRUCT[0], 6, 6)
    fused = conv(z, MANY, FACTOR, matrix)
    conv.fuse = False
    assert_equal_with_gradients(
        conv(z, MANY, FACTOR, matrix), fused, variables(conv, z)
    )


def test_plain_path_is_left_again() -> None:
    conv = layer(3, 2, 2)
    z = random(6, 3)
    fused = conv(z, MANY, FACTOR, STRUCT)
    parameter = torch.nn.Parameter(torch.full((MANY.size(1),), 100.0))
    set_masks(conv, parameter, MANY)
    assert_equal_with_gradients(
        conv(z, MANY, FACTOR, STRUCT), fused, variables(conv, z)
    )
    clear_masks(conv)
    assert torch.equal(conv(z, MANY, FACTOR, STRUCT), fused)


def test_fuse_of_the_inner_layer_is_kept() -> None:
    conv = layer(3, 2, 2)
    conv.factor_conv.fuse = False
    conv(random(6, 3), EDGES, FACTOR)
    assert conv.factor_conv.fuse is False


@pytest.mark.parametrize("struct", [None, STRUCT])
def test_edge_mask_weighs_the_factor_edges_only(struct: Tensor | None) -> None:
    conv = layer(3, 2, 2)
    z = random(6, 3)
    logits = random(EDGES.size(1), seed=2).detach()
    logits[2] = -float("inf")
    _, gate = conv(z, EDGES, FACTOR, struct, return_gate=True)
    set_masks(conv, torch.nn.Parameter(logits), EDGES)
    out, masked_gate = conv(z, EDGES, FACTOR, struct, return_gate=True)
    torch.testing.assert_close(masked_gate, gate, atol=1e-10, rtol=0)
    # Weighted both ways over unmasked counts; the structure term is untouched.
    x = conv.lin(z)
    expected = x * 0
    if struct is not None:
        expected = gate[:, :1] * (structure_adjacency(struct, 6) @ x)
    weight, edges = logits.sigmoid(), EDGES.t().tolist()
    for e, (item, value) in enumerate(edges):
        holders = [f for f, (_, other) in enumerate(edges) if other == value]
        mean = sum(weight[f] * x[edges[f][0]] for f in holders) / len(holders)
        k = int(FACTOR[value]) + 1
        one = torch.zeros(6, 1).double()
        one[item] = 1
        expected = expected + one * weight[e] * gate[item, k] * mean
    assert_equal_with_gradients(out, expected, variables(conv, z))


class Classifier(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = MARSConv(4, 8, 2)
        self.lin = torch.nn.Linear(8, 2)

    def forward(
        self, x: Tensor, edge_index: Tensor, factor: Tensor, struct_edge_index: Tensor
    ) -> Tensor:
        h = self.conv(x, edge_index, factor, struct_edge_index)
        return self.lin(h.relu())


@pytest.mark.parametrize("index", [None, 0])
def test_explainer(index: int | None) -> None:
    torch.manual_seed(0)
    model = Classifier()
    x = torch.randn(6, 4)
    before = model(x, EDGES, FACTOR, STRUCT)
    explainer = Explainer(
        model,
        algorithm=GNNExplainer(epochs=3),
        explanation_type="model",
        node_mask_type="attributes",
        edge_mask_type="object",
        model_config={
            "mode": "multiclass_classification",
            "task_level": "node",
            "return_type": "raw",
        },
    )
    explanation = explainer(
        x, EDGES, index=index, factor=FACTOR, struct_edge_index=STRUCT
    )
    assert explanation.edge_mask.shape == (EDGES.size(1),)
    assert explanation.edge_mask.isfinite().all()
    assert explanation.edge_mask.any()
    assert explanation.node_mask.shape == x.shape
    if index is not None:
        # Edges whose value item 0 has not cannot matter to it.
        far = ~torch.isin(EDGES[1], EDGES[1, EDGES[0] == index])
        assert not explanation.edge_mask[far].any()
    assert torch.equal(model(x, EDGES, FACTOR, STRUCT), before)


@pytest.mark.parametrize(
    "layout", [torch.sparse_csr, torch.sparse_csc, torch.sparse_coo]
)
@pytest.mark.parametrize("fuse", [True, False])
def test_torch_sparse_tensors(layout: torch.layout, fuse: bool) -> None:
    conv = layer(3, 2, 2)
    conv.fuse = fuse
    z = random(6, 3)
    values, struct = torch.zeros(5, 6), torch.zeros(6, 6)
    values[MANY[1], MANY[0]] = 0.5
    struct[STRUCT[1], STRUCT[0]] = 3.0
    out = conv(
        z, values.to_sparse(layout=layout), FACTOR, struct.to_sparse(layout=layout)
    )
    expected, _ = oracle(conv, z, MANY, FACTOR, STRUCT)
    assert_equal_with_gradients(out, expected, variables(conv, z))


@withPackage("torch_sparse")
@pytest.mark.parametrize("fuse", [True, False])
def test_sparse_tensor_of_torch_sparse(fuse: bool) -> None:
    from torch_sparse import SparseTensor

    conv = layer(3, 2, 2)
    conv.fuse = fuse
    z = random(6, 3)
    values = SparseTensor(row=MANY[1], col=MANY[0], sparse_sizes=(5, 6))
    struct = SparseTensor(row=STRUCT[1], col=STRUCT[0], sparse_sizes=(6, 6))
    expected, _ = oracle(conv, z, MANY, FACTOR, STRUCT)
    assert_equal_with_gradients(
        conv(z, values, FACTOR, struct), expected, variables(conv, z)
    )


def test_same_seed_same_bits() -> None:
    runs = []
    for _ in range(2):
        torch.manual_seed(7)
        conv = MARSConv(3, 4, 2)
        z = torch.randn(6, 3, requires_grad=True)
        out = conv(z, MANY, FACTOR, STRUCT)
        out.square().sum().backward()
        runs.append([out, z.grad, *(p.grad for p in conv.parameters())])
    assert all(map(torch.equal, *runs))


def test_lazy_input_size() -> None:
    conv = MARSConv(-1, 4, 2)
    copied = copy.deepcopy(conv)
    out = conv(random(6, 5).float(), EDGES, FACTOR)
    assert out.shape == (6, 4)
    assert conv.lin.weight.shape == (4, 5)
    assert copied(random(6, 7).float(), EDGES, FACTOR).shape == (6, 4)
    assert copied.lin.weight.shape == (4, 7)
    assert MARSConv(-1, 4, 2, project=False).lin is None


def test_parameters_and_reset() -> None:
    conv = MARSConv(5, 4, 2)
    assert isinstance(conv, MessagePassing)
    shapes = {name: tuple(p.shape) for name, p in conv.named_parameters()}
    assert shapes == {"lin.weight": (4, 5), "gate.weight": (3, 4)}
    assert repr(conv) == "MARSConv(5, 4, num_factors=2)"
    before = [p.detach().clone() for p in conv.parameters()]
    conv.reset_parameters()
    assert not any(map(torch.equal, before, conv.parameters()))
    torch.manual_seed(3)
    conv.reset_parameters()
    first = [p.detach().clone() for p in conv.parameters()]
    torch.manual_seed(3)
    conv.reset_parameters()
    assert all(map(torch.equal, first, conv.parameters()))
    names = {n for n, _ in MARSConv(4, 4, 2, project=False).named_parameters()}
    assert names == {"gate.weight"}


def test_state_copies_and_dtypes() -> None:
    conv = MARSConv(3, 2, 2)
    z = random(6, 3).float()
    expected = conv(z, EDGES, FACTOR, STRUCT)
    twin = MARSConv(3, 2, 2)
    buffer = io.BytesIO()
    torch.save(conv.state_dict(), buffer)
    buffer.seek(0)
    twin.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(twin(z, EDGES, FACTOR, STRUCT), expected)
    copied = copy.deepcopy(conv)
    assert torch.equal(copied(z, EDGES, FACTOR, STRUCT), expected)
    torch.nn.init.zeros_(copied.lin.weight)
    assert torch.equal(conv(z, EDGES, FACTOR, STRUCT), expected)
    for converted in (copy.deepcopy(conv).to(torch.float64), conv.double()):
        out = converted(z.double(), EDGES, FACTOR, STRUCT)
        assert out.dtype == torch.float64
        torch.testing.assert_close(out.float(), expected)


@pytest.mark.parametrize("fuse", [True, False])
def test_shapes_are_known_without_numbers(fuse: bool) -> None:
    conv = MARSConv(3, 2, 2).to("meta")
    conv.fuse = fuse
    z = torch.empty(6, 3, device="meta", requires_grad=True)
    edges, factor, struct = (t.to("meta") for t in (MANY, FACTOR, STRUCT))
    out = conv(z, edges, factor, struct)
    out.sum().backward()
    assert (out.shape, out.device.type) == ((6, 2), "meta")
    assert z.grad is not None
    assert z.grad.shape == z.shape


def test_several_layers() -> None:
    first, second = layer(3, 2, 2), layer(2, 2, 2, project=False)
    z = random(6, 3)
    out = second(first(z, MANY, FACTOR, STRUCT), MANY, FACTOR, STRUCT)
    hidden, _ = oracle(first, z, MANY, FACTOR, STRUCT)
    expected, _ = oracle(second, hidden, MANY, FACTOR, STRUCT)
    inputs = [*variables(first, z), *second.parameters()]
    assert_equal_with_gradients(out, expected, inputs)


def test_gate_agrees_with_factor_conv() -> None:
    conv = layer(3, 2, 2)
    z = random(6, 3)
    out, gate = conv(z, MANY, FACTOR, return_gate=True)
    x = conv.lin(z)
    again = FactorConv(2)(x, MANY, FACTOR, gate[:, 1:])
    torch.testing.assert_close(out, again, atol=1e-10, rtol=0)
    again = dense_factor_conv(x, MANY, FACTOR, 2, gate[:, 1:])
    torch.testing.assert_close(out, again, atol=1e-10, rtol=0)


def edge(source: int, target: int) -> Tensor:
    return torch.tensor([[source], [target]])


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize(
    "struct",
    [
        edge(0, 6),
        edge(6, 0),
        edge(-1, 0),
        edge(0, -1),
        edge(0, 0).double(),
        torch.zeros(3, 1).long(),
        torch.zeros(2).long(),
        normalized_adjacency(STRUCT, 7),
        normalized_adjacency(edge(0, 0), 1),
    ],
)
def test_wrong_structure_is_refused(struct: Tensor | SparseMatrix, fuse: bool) -> None:
    conv = layer(3, 2, 2)
    conv.fuse = fuse
    with pytest.raises(ValueError, match="'struct_edge_index"):
        conv(random(6, 3), EDGES, FACTOR, struct)


@pytest.mark.parametrize("fuse", [True, False])
def test_wrong_factors_are_refused(fuse: bool) -> None:
    conv = layer(3, 2, 2)
    conv.fuse = fuse
    graph = conv.factor_conv.prepare(EDGES, FACTOR, 6)
    for wrong in (5, 7, 1):
        with pytest.raises(ValueError, match=r"\[6|6 items"):
            conv(random(wrong, 3), graph)
    with pytest.raises(ValueError, match="items"):
        conv(random(5, 3), EDGES, FACTOR)
    with pytest.raises(ValueError, match="'factor'"):
        conv(random(6, 3), EDGES)
    with pytest.raises(ValueError, match="2 factors"):
        layer(3, 2, 3)(random(6, 3), graph)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="'in_channels'"):
        MARSConv(3, 2, 2, project=False)
    with pytest.raises(ValueError, match="'mode'"):
        MARSConv(3, 2, 2, mode="none")
    with pytest.raises(ValueError, match="'engine'"):
        MARSConv(3, 2, 2, engine="none")
    with pytest.raises(ValueError, match="'num_factors'"):
        MARSConv(3, 2, -1)


@pytest.mark.parametrize("option", [{"aggr": "mean"}, {"flow": "target_to_source"}])
def test_message_passing_options_mean_the_same_on_both_paths(option: dict) -> None:
    try:
        conv = layer(3, 2, 2, **option)
    except (ValueError, TypeError):
        return
    z = random(6, 3)
    fused = conv(z, EDGES, FACTOR, STRUCT)
    conv.fuse = False
    assert_equal_with_gradients(
        conv(z, EDGES, FACTOR, STRUCT), fused, variables(conv, z)
    )
