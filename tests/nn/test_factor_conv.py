from __future__ import annotations

import copy

import pytest
import torch
from dense_oracle import (
    adjacencies,
    assert_equal_with_gradients,
    dense_factor_conv,
    factor_graphs,
    random,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.explain.algorithm.utils import clear_masks, set_masks
from torch_geometric.nn import MessagePassing
from torch_geometric.testing import withPackage

from mars_pyg.kernels import FactorGraph
from mars_pyg.nn import FactorConv

# Six items, two factors of three and two values. Item 3 has no value in factor 0,
# item 4 none at all, item 5 is alone with value 2; value 4 has no items.
EDGES = torch.tensor([[0, 1, 2, 5, 0, 1, 2, 3], [0, 0, 1, 2, 3, 3, 3, 3]])
FACTOR = torch.tensor([0, 0, 0, 1, 1])
# The same with several values: items 0 and 2 have two in factor 0, item 3 two in 1.
MANY = torch.tensor([[0, 0, 1, 2, 2, 5, 0, 1, 3, 3], [0, 1, 0, 1, 2, 2, 3, 3, 3, 4]])


def test_hand_worked() -> None:
    x = torch.tensor([[1.0], [3.0], [5.0], [7.0], [9.0], [11.0]])
    out = FactorConv(2)(x, EDGES, FACTOR)
    expected = [[2, 4], [2, 4], [5, 4], [0, 4], [0, 0], [11, 0]]
    assert out.squeeze(-1).tolist() == expected
    gate = torch.tensor([[0.25, 0.75]]).repeat(6, 1)
    fused = FactorConv(2)(x, EDGES, FACTOR, gate)
    assert fused.squeeze(-1).tolist() == [3.5, 3.5, 4.25, 3, 0, 2.75]


def test_hand_worked_several_values() -> None:
    # Item 0 has values {0, 1}, item 1 {0}: D_i = (2, 1), D_v = (2, 1).
    x = torch.tensor([[2.0], [6.0]], dtype=torch.float64)
    edges, factor = torch.tensor([[0, 0, 1], [0, 1, 0]]), torch.tensor([0, 0])
    out = FactorConv(1)(x, edges, factor).view(-1)
    root = 2**0.5
    expected = [2 / 4 + 2 / 2 + 6 / (2 * root), 2 / (2 * root) + 6 / 2]
    torch.testing.assert_close(out, torch.tensor(expected, dtype=torch.float64))
    clique = FactorConv(1, mode="clique")(x, edges, factor).view(-1)
    assert clique.tolist() == pytest.approx([4, 4])


@given(graph=factor_graphs(single=True), gated=st.booleans(), width=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_single_values_equal_dense_cliques(
    graph: tuple, gated: bool, width: int
) -> None:
    num_items, num_factors, edges, factor = graph
    x = random(num_items, width)
    gate = random(num_items, num_factors, seed=1) if gated else None
    inputs = [x] if gate is None else [x, gate]
    expected = dense_factor_conv(x, edges, factor, num_factors, gate, "clique")
    for mode, engine in (
        ("hypergraph", "torch"),
        ("hypergraph", "auto"),
        ("hypergraph", "reference"),
        ("clique", "auto"),
        ("clique", "reference"),
    ):
        conv = FactorConv(num_factors, mode=mode, engine=engine)
        assert_equal_with_gradients(conv(x, edges, factor, gate), expected, inputs)


@given(graph=factor_graphs(), gated=st.booleans(), width=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_several_values_equal_dense_operators(
    graph: tuple, gated: bool, width: int
) -> None:
    num_items, num_factors, edges, factor = graph
    x = random(num_items, width)
    gate = random(num_items, num_factors, seed=1) if gated else None
    inputs = [x] if gate is None else [x, gate]
    for mode, engine in (
        ("hypergraph", "torch"),
        ("hypergraph", "reference"),
        ("clique", "auto"),
    ):
        conv = FactorConv(num_factors, mode=mode, engine=engine)
        expected = dense_factor_conv(x, edges, factor, num_factors, gate, mode)
        assert_equal_with_gradients(conv(x, edges, factor, gate), expected, inputs)


@given(graph=factor_graphs(), gated=st.booleans(), width=st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_plain_messages_equal_fused(graph: tuple, gated: bool, width: int) -> None:
    num_items, num_factors, edges, factor = graph
    x = random(num_items, width)
    gate = random(num_items, num_factors, seed=1) if gated else None
    inputs = [x] if gate is None else [x, gate]
    conv = FactorConv(num_factors)
    fused = conv(x, edges, factor, gate)
    conv.fuse = False
    assert_equal_with_gradients(conv(x, edges, factor, gate), fused, inputs)
    prepared = conv.prepare(edges, factor, num_items)
    assert_equal_with_gradients(conv(x, prepared, gate=gate), fused, inputs)


@given(graph=factor_graphs(), seed=st.integers(0, 10))
@settings(max_examples=30, deadline=None)
def test_repeats_and_order_of_edges_do_not_count(graph: tuple, seed: int) -> None:
    num_items, num_factors, edges, factor = graph
    x, gate = random(num_items, 2), random(num_items, num_factors, seed=1)
    conv = FactorConv(num_factors)
    once = conv(x, edges.unique(dim=1), factor, gate)
    twice = torch.cat([edges, edges.flip(1)], dim=1)
    generator = torch.Generator().manual_seed(seed)
    twice = twice[:, torch.randperm(twice.size(1), generator=generator)]
    assert_equal_with_gradients(conv(x, twice, factor, gate), once, [x, gate])
    # Another numbering of the values is the same graph.
    order = torch.randperm(factor.numel(), generator=generator)
    renamed = torch.stack([edges[0], order[edges[1]]])
    moved = torch.empty_like(factor).index_copy_(0, order, factor)
    assert_equal_with_gradients(conv(x, renamed, moved, gate), once, [x, gate])


@given(graph=factor_graphs())
@settings(max_examples=20, deadline=None)
def test_prepared_graph_equals_raw_edges(graph: tuple) -> None:
    num_items, num_factors, edges, factor = graph
    x, gate = random(num_items, 2), random(num_items, num_factors, seed=1)
    conv = FactorConv(num_factors)
    prepared = conv.prepare(edges, factor, num_items)
    assert isinstance(prepared, FactorGraph)
    assert prepared.num_items == num_items
    assert prepared.num_factors == num_factors
    assert prepared.num_values == factor.numel()
    for g in (None, gate):
        assert torch.equal(conv(x, prepared, gate=g), conv(x, edges, factor, g))
        assert torch.equal(conv(x, prepared, factor, g), conv(x, edges, factor, g))
    assert conv.prepare(prepared, None, num_items) is prepared


def test_known_special_items() -> None:
    x = random(6, 3)
    for edges in (EDGES, MANY):
        out = FactorConv(2)(x, edges, FACTOR)
        assert not out[4].any()
        assert not out[3, 0].any()
        assert not out[5, 1].any()
    out = FactorConv(2)(x, EDGES, FACTOR)
    assert torch.equal(out[5, 0], x[5])
    assert torch.equal(out[2, 0], x[2])
    # An item without values gives nothing to others, whatever it is.
    changed = x.detach().clone()
    changed[4] = float("inf")
    assert torch.equal(FactorConv(2)(changed, EDGES, FACTOR), out)


@pytest.mark.parametrize("engine", ["torch", "reference"])
@pytest.mark.parametrize("edges", [EDGES, MANY])
def test_gradcheck(engine: str, edges: Tensor) -> None:
    conv = FactorConv(2, engine=engine)
    x, gate = random(6, 2), random(6, 2, seed=1)
    assert torch.autograd.gradcheck(lambda x: conv(x, edges, FACTOR), [x])
    assert torch.autograd.gradcheck(
        lambda x, gate: conv(x, edges, FACTOR, gate), [x, gate]
    )
    assert torch.autograd.gradcheck(
        lambda gate: conv(x.detach(), edges, FACTOR, gate), [gate]
    )
    assert torch.autograd.gradcheck(
        lambda x: conv(x, edges, FACTOR, gate.detach()), [x]
    )


@pytest.mark.parametrize("engine", ["torch", "reference"])
@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_precision(dtype: torch.dtype, fuse: bool, engine: str) -> None:
    # Value 0 has 600 items, far more than half precision can add one by one.
    generator = torch.Generator().manual_seed(0)
    n = 1000
    factor = torch.tensor([0, 0, 1, 1, 1])
    value = torch.stack(
        [
            (torch.rand(n, generator=generator) > 0.6).long(),
            torch.randint(2, 5, (n,), generator=generator),
        ]
    )
    edges = torch.stack([torch.arange(n).repeat(2), value.view(-1)])
    extra = torch.randint(0, n, (300,), generator=generator)
    edges = torch.cat([edges, torch.stack([extra, extra % 5])], dim=1)
    x = (torch.randn(n, 3, generator=generator) + 4).to(dtype).requires_grad_()
    gate = torch.rand(n, 2, generator=generator).to(dtype).requires_grad_()
    conv, exact_conv = FactorConv(2, engine=engine), FactorConv(2, engine="reference")
    conv.fuse = fuse
    exact_x = x.detach().double().requires_grad_()
    exact_gate = gate.detach().double().requires_grad_()
    for gated in (False, True):
        out = conv(x, edges, factor, gate if gated else None)
        exact = exact_conv(exact_x, edges, factor, exact_gate if gated else None)
        assert out.dtype == dtype
        tolerance = {
            torch.float32: 2e-6,
            torch.bfloat16: 2**-8,  # one unit in the last place
            torch.float16: 2**-10,
        }[dtype]
        torch.testing.assert_close(
            out.double(), exact, rtol=tolerance, atol=tolerance * 1e-2
        )
        inputs = [x, gate][: 1 + gated]
        exact_inputs = [exact_x, exact_gate][: 1 + gated]
        got = torch.autograd.grad(out.sum(), inputs)
        want = torch.autograd.grad(exact.sum(), exact_inputs)
        for one, other in zip(got, want, strict=True):
            assert one.dtype == dtype
            torch.testing.assert_close(
                one.double(), other, rtol=tolerance, atol=tolerance * 1e-2
            )


def test_gate_of_another_dtype() -> None:
    x, gate = random(6, 2), random(6, 2, seed=1).float().detach().requires_grad_()
    out = FactorConv(2)(x, EDGES, FACTOR, gate)
    assert out.dtype == torch.float64
    expected = dense_factor_conv(x, EDGES, FACTOR, 2, gate.double())
    torch.testing.assert_close(out, expected, atol=1e-10, rtol=0)
    out.sum().backward()
    assert gate.grad is not None
    assert gate.grad.dtype == torch.float32


def test_gradient_of_a_view_and_of_an_expanded_output() -> None:
    # sum() has an expanded gradient, t() and slices an input that is not contiguous.
    base = random(3, 12)
    conv = FactorConv(2)
    for x in (base.t()[::2], base.t()[:6], base[:1].expand(6, 12)):
        out = conv(x, MANY, FACTOR)
        expected = dense_factor_conv(x, MANY, FACTOR, 2)
        torch.testing.assert_close(out, expected, atol=1e-10, rtol=0)
        (got,) = torch.autograd.grad(out.sum(), base, retain_graph=True)
        (want,) = torch.autograd.grad(expected.sum(), base, retain_graph=True)
        torch.testing.assert_close(got, want, atol=1e-10, rtol=0)
    gate = random(2, 6).t()
    fused = conv(base.t()[:6], MANY, FACTOR, gate)
    expected = dense_factor_conv(base.t()[:6], MANY, FACTOR, 2, gate)
    torch.testing.assert_close(fused, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("prepared", [False, True])
def test_compile_without_graph_breaks(prepared: bool, gated: bool) -> None:
    torch.compiler.reset()
    conv = FactorConv(2)
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager")
    x = random(6, 3)
    gate = random(6, 2, seed=1) if gated else None
    inputs = [x] if gate is None else [x, gate]
    edges = conv.prepare(MANY, FACTOR, 6) if prepared else MANY
    factor = None if prepared else FACTOR
    expected = dense_factor_conv(x, MANY, FACTOR, 2, gate)
    assert_equal_with_gradients(compiled(x, edges, factor, gate), expected, inputs)


def test_compile_with_repeated_edges_and_other_sizes() -> None:
    torch.compiler.reset()
    conv = FactorConv(2)
    compiled = torch.compile(conv, fullgraph=True, backend="aot_eager", dynamic=True)
    for n in (6, 9, 12):
        x, gate = random(n, 3), random(n, 2, seed=1)
        edges = torch.cat([MANY, MANY[:, : n // 2], EDGES + n - 6], dim=1)
        edges[1].clamp_(max=4)
        expected = dense_factor_conv(x, edges, FACTOR, 2, gate)
        assert_equal_with_gradients(
            compiled(x, edges, FACTOR, gate), expected, [x, gate]
        )


def masked_naively(x: Tensor, gate: Tensor | None, mask: Tensor) -> Tensor:
    """Both rounds of messages along the edges EDGES, weighed by a mask."""
    factors = int(FACTOR.max()) + 1
    rows = [[torch.zeros(x.size(1)).double() for _ in range(factors)] for _ in x]
    edges = EDGES.t().tolist()
    for e, (item, value) in enumerate(edges):
        holders = [other for other, same in edges if same == value]
        mean = torch.zeros(x.size(1)).double()
        for other_e, (other, same) in enumerate(edges):
            if same == value:
                mean = mean + mask[other_e] * x[other] / len(holders)
        k = int(FACTOR[value])
        rows[item][k] = rows[item][k] + mask[e] * mean
    out = torch.stack([torch.stack(row) for row in rows])
    return out if gate is None else (gate[..., None] * out).sum(dim=1)


@pytest.mark.parametrize("gated", [False, True])
def test_edge_masks_weigh_messages(gated: bool) -> None:
    conv = FactorConv(2)
    x, gate = random(6, 2), random(6, 2, seed=1) if gated else None
    before = conv(x, EDGES, FACTOR, gate)
    logits = random(EDGES.size(1), seed=2)
    parameter = torch.nn.Parameter(logits.detach().clone())
    set_masks(conv, parameter, EDGES, apply_sigmoid=True)
    out = conv(x, EDGES, FACTOR, gate)
    inputs = [x] if gate is None else [x, gate]
    expected = masked_naively(x, gate, logits.sigmoid())
    assert_equal_with_gradients(out, expected, inputs)
    (got,) = torch.autograd.grad(conv(x, EDGES, FACTOR, gate).square().sum(), parameter)
    (want,) = torch.autograd.grad(
        masked_naively(x, gate, logits.sigmoid()).square().sum(), logits
    )
    torch.testing.assert_close(got, want, atol=1e-10, rtol=0)
    clear_masks(conv)
    assert torch.equal(conv(x, EDGES, FACTOR, gate), before)


def test_edge_mask_keeps_the_order_of_the_given_edges() -> None:
    conv = FactorConv(2)
    x = random(6, 2)
    order = torch.tensor([5, 2, 7, 0, 1, 6, 3, 4])
    logits = random(EDGES.size(1), seed=2).detach()
    set_masks(conv, torch.nn.Parameter(logits[order]), EDGES[:, order])
    out = conv(x, EDGES[:, order], FACTOR)
    expected = masked_naively(x, None, logits.sigmoid())
    torch.testing.assert_close(out, expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("edge", range(8))
def test_infinite_logit_silences_an_edge(edge: int) -> None:
    conv = FactorConv(2)
    x = random(6, 2)
    logits = torch.full((8,), float("inf"))
    logits[edge] = -float("inf")
    set_masks(conv, torch.nn.Parameter(logits), EDGES)
    mask = torch.ones(8).double()
    mask[edge] = 0
    out = conv(x, EDGES, FACTOR)
    expected = masked_naively(x, None, mask)
    torch.testing.assert_close(out, expected, atol=1e-10, rtol=0)
    item, value = EDGES[:, edge].tolist()
    assert not out[item, FACTOR[value]].any()


@pytest.mark.parametrize(
    "layout", [torch.sparse_csr, torch.sparse_csc, torch.sparse_coo]
)
@pytest.mark.parametrize("fuse", [True, False])
def test_torch_sparse_tensors(layout: torch.layout, fuse: bool) -> None:
    x, gate = random(6, 2), random(6, 2, seed=1)
    conv = FactorConv(2)
    expected = conv(x, MANY, FACTOR, gate)
    adj_t = torch.zeros(5, 6)
    adj_t[MANY[1], MANY[0]] = 2.0
    adj_t = adj_t.to_sparse(layout=layout)
    conv.fuse = fuse
    assert_equal_with_gradients(conv(x, adj_t, FACTOR, gate), expected, [x, gate])


def test_a_sparse_tensor_is_left_as_it_is() -> None:
    adj_t = torch.sparse_coo_tensor(MANY.flip(0).flip(1), torch.ones(10), (5, 6))
    dense = adj_t.to_dense()
    FactorConv(2)(random(6, 2), adj_t, FACTOR)
    assert not adj_t.is_coalesced()
    assert torch.equal(adj_t.to_sparse_csr().to_dense(), dense)


def test_edge_index_class() -> None:
    x, gate = random(6, 2), random(6, 2, seed=1)
    conv = FactorConv(2)
    edges = EdgeIndex(MANY, sparse_size=(6, 5))
    for fuse in (True, False):
        conv.fuse = fuse
        out = conv(x, edges, FACTOR, gate)
        assert type(out) is Tensor
        assert_equal_with_gradients(
            out, dense_factor_conv(x, MANY, FACTOR, 2, gate), [x, gate]
        )


@withPackage("torch_sparse")
@pytest.mark.parametrize("fuse", [True, False])
def test_sparse_tensor_of_torch_sparse(fuse: bool) -> None:
    from torch_sparse import SparseTensor

    x, gate = random(6, 2), random(6, 2, seed=1)
    conv = FactorConv(2)
    expected = conv(x, MANY, FACTOR, gate)
    adj_t = SparseTensor(row=MANY[1], col=MANY[0], sparse_sizes=(5, 6))
    conv.fuse = fuse
    assert_equal_with_gradients(conv(x, adj_t, FACTOR, gate), expected, [x, gate])


def test_runs_are_bitwise_equal() -> None:
    x, gate = random(6, 5).float(), random(6, 2, seed=1).float()
    conv = FactorConv(2)
    for g in (None, gate):
        runs = []
        for _ in range(3):
            out = conv(x, MANY, FACTOR, g)
            runs.append((out, *torch.autograd.grad(out.square().sum(), [x])))
        for run in runs[1:]:
            assert all(map(torch.equal, run, runs[0]))


def test_is_a_message_passing_layer_without_state() -> None:
    conv = FactorConv(3)
    assert isinstance(conv, MessagePassing)
    assert not list(conv.parameters())
    assert not conv.state_dict()
    assert repr(conv) == "FactorConv(num_factors=3)"
    conv.reset_parameters()
    twin = copy.deepcopy(conv)
    x = random(4, 2)
    edges, factor = torch.tensor([[0, 1], [0, 0]]), torch.tensor([1])
    assert torch.equal(twin(x, edges, factor), conv(x, edges, factor))


def edge(item: int, value: int) -> Tensor:
    return torch.tensor([[item], [value]])


@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize(
    ("edges", "factor", "message"),
    [
        (edge(6, 0), FACTOR, "6 items"),
        (edge(-1, 0), FACTOR, "items -1"),
        (edge(0, 5), FACTOR, "5 values"),
        (edge(0, -1), FACTOR, "values -1"),
        (edge(0, 0), torch.tensor([2]), "2 factors"),
        (edge(0, 0), torch.tensor([-1]), "factors -1"),
        (edge(0, 0), None, "'factor'"),
        (edge(0, 0).double(), FACTOR, "int64"),
        (edge(0, 0), FACTOR.int(), "int64"),
        (edge(0, 0), FACTOR[None], r"\[V\]"),
        (edge(0, 0).t(), FACTOR, r"\[2, E\]"),
        (torch.tensor([0, 0]), FACTOR, r"\[2, E\]"),
    ],
)
def test_wrong_edges_are_refused(
    edges: Tensor, factor: Tensor | None, message: str, fuse: bool
) -> None:
    conv = FactorConv(2)
    conv.fuse = fuse
    with pytest.raises(ValueError, match=message):
        conv(random(6, 2), edges, factor)


def test_edges_of_32_bits() -> None:
    conv, x = FactorConv(2), random(6, 2)
    assert torch.equal(conv(x, EDGES.int(), FACTOR), conv(x, EDGES, FACTOR))


@pytest.mark.parametrize("fuse", [True, False])
def test_wrong_shapes_are_refused(fuse: bool) -> None:
    conv = FactorConv(2)
    conv.fuse = fuse
    prepared = conv.prepare(EDGES, FACTOR, 6)
    with pytest.raises(ValueError, match="'x'"):
        conv(random(7, 2), prepared)
    with pytest.raises(ValueError, match="'x'"):
        conv(random(6, 2, 2), EDGES, FACTOR)
    for shape in ((6, 3), (6, 1), (5, 2), (7, 2), (6,), (6, 2, 1)):
        with pytest.raises(ValueError, match="'gate'"):
            conv(random(6, 2), EDGES, FACTOR, random(*shape))
    with pytest.raises(ValueError, match="2 factors"):
        FactorConv(3)(random(6, 2), prepared)


@pytest.mark.parametrize("fuse", [False, True])
def test_items_of_whole_numbers_are_refused(fuse: bool) -> None:
    """The plain path would weigh them by whole numbers, and give zeros."""
    conv = FactorConv(1)
    conv.fuse = fuse
    x, edge_index = torch.tensor([[1], [2]]), torch.tensor([[0, 1], [0, 0]])
    with pytest.raises(ValueError, match="'x' must be floating point"):
        conv(x, edge_index, torch.tensor([0]))


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="'num_factors'"):
        FactorConv(-1)
    with pytest.raises(ValueError, match="'mode'"):
        FactorConv(1, mode="cliques")
    with pytest.raises(ValueError, match="'engine'"):
        FactorConv(1, engine="cuda")
    with pytest.raises(ValueError, match="clique"):
        FactorConv(1, mode="clique", engine="torch")
    conv = FactorConv(2, mode="clique")
    conv.fuse = False
    with pytest.raises(ValueError, match="clique"):
        conv(random(6, 2), EDGES, FACTOR)


@pytest.mark.parametrize(
    "option", [{"aggr": "mean"}, {"aggr": "max"}, {"flow": "target_to_source"}]
)
def test_message_passing_options_mean_the_same_on_both_paths(option: dict) -> None:
    x, gate = random(6, 2), random(6, 2, seed=1)
    try:
        conv = FactorConv(2, **option)
    except (ValueError, TypeError):
        return
    fused = conv(x, EDGES, FACTOR, gate)
    conv.fuse = False
    assert_equal_with_gradients(conv(x, EDGES, FACTOR, gate), fused, [x, gate])


def test_oracle_agrees_with_a_mean() -> None:
    (first, _) = adjacencies(EDGES, FACTOR, 6, 2, "clique")
    assert first[0].tolist() == pytest.approx([0.5, 0.5, 0, 0, 0, 0])
    assert first[5].tolist() == [0, 0, 0, 0, 0, 1]
    assert not first[3].any()
