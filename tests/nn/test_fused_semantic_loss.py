"""The semantic loss in blocks, against the loss of all logits."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mars_pyg import SemanticFactorLoss
from mars_pyg.nn import fused_semantic_loss as module
from mars_pyg.nn.fused_semantic_loss import fused_semantic_loss


def problem(
    num_items: int, num_values: int, num_factors: int, seed: int
) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """The inputs of the linear layer, multi-hot labels, known factors, factors."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    inputs = [normal(num_items, 3), normal(num_values, 3), normal(num_values)]
    factor = torch.randint(num_factors, (num_values,), generator=generator)
    target = normal(num_items, num_values) > 0.5
    known = torch.zeros(num_items, num_factors, dtype=torch.bool)
    row, value = target.nonzero().unbind(1)
    known[row, factor[value]] = True
    return inputs, target, known, factor


@given(
    num_items=st.integers(0, 9),
    num_values=st.integers(0, 6),
    num_factors=st.integers(1, 3),
    most=st.integers(1, 40),
    group=st.integers(1, 4),
    scale=st.sampled_from([0.0, 1.0, 300.0]),
    seed=st.integers(0, 100),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_loss_of_all_logits(
    num_items: int,
    num_values: int,
    num_factors: int,
    most: int,
    group: int,
    scale: float,
    seed: int,
) -> None:
    inputs, target, known, factor = problem(num_items, num_values, num_factors, seed)
    leaves = [(scale * x).requires_grad_() for x in inputs]
    x, weight, bias = leaves
    dense = SemanticFactorLoss()(
        x @ weight.t() + bias, target.double(), known[:, factor]
    )
    dense = dense * max(num_items, 1)
    with pytest.MonkeyPatch.context() as patch:
        # Blocks of any number of items, products of any number of values.
        patch.setattr(module, "MAX_LOGITS", {"cpu": most, "cuda": most})
        patch.setattr(module, "LOG_GROUP", group)
        label = target.nonzero().unbind(1)
        found = fused_semantic_loss(*leaves, label, known, factor)
    torch.testing.assert_close(found, dense, rtol=1e-10, atol=1e-10)
    expected = torch.autograd.grad(2 * dense, leaves)
    gradients = torch.autograd.grad(2 * found, leaves)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_gradients_are_right() -> None:
    inputs, target, known, factor = problem(5, 4, 2, seed=0)
    label = target.nonzero().unbind(1)
    assert torch.autograd.gradcheck(
        lambda *leaves: fused_semantic_loss(*leaves, label, known, factor),
        [x.requires_grad_() for x in inputs],
    )


def test_half_precision_rounds_the_inputs_alone() -> None:
    inputs, target, known, factor = problem(5, 4, 2, seed=1)
    label = target.nonzero().unbind(1)
    expected = fused_semantic_loss(*inputs, label, known, factor)
    half = [p.bfloat16().requires_grad_() for p in inputs]
    found = fused_semantic_loss(*half, label, known, factor)
    rounded = [p.detach().float() for p in half]
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.detach(), fused_semantic_loss(*rounded, label, known, factor)
    )
    assert {g.dtype for g in torch.autograd.grad(found, half)} == {torch.bfloat16}
    assert float(found.detach()) == pytest.approx(float(expected), rel=0.05)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fused_semantic_loss(*half, label, known, factor)
        same = fused_semantic_loss(*rounded, label, known, factor)
    assert torch.equal(found, same)
    assert {g.dtype for g in torch.autograd.grad(found, half)} == {torch.bfloat16}
    assert float(found.detach()) == pytest.approx(float(expected), rel=0.05)


def test_autocast_takes_products_as_a_linear_layer_does() -> None:
    inputs, target, known, factor = problem(5, 4, 2, seed=1)
    label = target.nonzero().unbind(1)
    leaves = [p.float().requires_grad_() for p in inputs]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fused_semantic_loss(*leaves, label, known, factor)
        logits = torch.nn.functional.linear(*leaves)
    assert logits.dtype == torch.bfloat16
    expected = 5 * SemanticFactorLoss()(
        logits.float(), target.float(), known[:, factor]
    )
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    assert float(found) != float(fused_semantic_loss(*leaves, label, known, factor))
    for one, other in zip(
        torch.autograd.grad(found, leaves),
        torch.autograd.grad(expected, leaves),
        strict=True,
    ):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.01, atol=0.02)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = fused_semantic_loss(*inputs, label, known, factor)
    assert float(found) == float(fused_semantic_loss(*inputs, label, known, factor))


def test_logits_of_which_nothing_is_known_may_be_infinite() -> None:
    inputs, target, known, factor = problem(5, 4, 2, seed=1)
    x, weight, bias = (x.float() for x in inputs)
    label = target.nonzero().unbind(1)
    label = (label[0][factor[label[1]] == 0], label[1][factor[label[1]] == 0])
    bias = bias.masked_fill(factor == 1, torch.inf).requires_grad_()
    known = torch.stack([known[:, 0], torch.zeros(5, dtype=torch.bool)], dim=1)
    loss = fused_semantic_loss(x, weight, bias, label, known, factor)
    (gradient,) = torch.autograd.grad(loss, bias)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert not gradient[factor == 1].any()
