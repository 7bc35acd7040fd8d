from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.nn.models.lightgcn import BPRLoss as PyGBPRLoss

from mars_pyg import BPRLoss, MARSLoss, SemanticFactorLoss, ViewConsistencyLoss


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@given(
    num_items=st.integers(0, 5),
    num_values=st.integers(0, 4),
    masked=st.booleans(),
    seed=st.integers(0, 100),
)
@settings(max_examples=40, deadline=None)
def test_semantic_loss_equals_a_loop(
    num_items: int, num_values: int, masked: bool, seed: int
) -> None:
    logits = normal(num_items, num_values, seed=seed)
    target = (normal(num_items, num_values, seed=seed + 1) > 0).double()
    mask = normal(num_items, num_values, seed=seed + 2) > 0 if masked else None
    expected = 0.0
    for i in range(num_items):
        for j in range(num_values):
            if mask is None or mask[i, j]:
                probability = 1 / (1 + math.exp(-float(logits[i, j])))
                hit = float(target[i, j])
                expected -= hit * math.log(probability)
                expected -= (1 - hit) * math.log(1 - probability)
    loss = SemanticFactorLoss()(logits, target, mask)
    assert float(loss) == pytest.approx(expected / max(num_items, 1), abs=1e-10)


def test_semantic_loss_gradient_and_masked_infinities() -> None:
    logits = normal(3, 4).requires_grad_()
    target = (normal(3, 4, seed=1) > 0).double()
    mask = normal(3, 4, seed=2) > 0
    assert torch.autograd.gradcheck(
        lambda x: SemanticFactorLoss()(x, target, mask), logits
    )
    broken = logits.detach().clone().masked_fill(~mask, torch.inf)
    loss = SemanticFactorLoss()(broken.requires_grad_(), target, mask)
    (gradient,) = torch.autograd.grad(loss, broken)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert not gradient[~mask].any()


def test_semantic_loss_of_a_sure_decoder_is_zero() -> None:
    target = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert float(SemanticFactorLoss()(200 * target - 100, target)) < 1e-40


@pytest.mark.parametrize("num_views", [1, 2, 3, 4])
def test_view_loss_equals_a_loop(num_views: int) -> None:
    views = [normal(5, 3, seed=seed).requires_grad_() for seed in range(num_views)]
    expected = sum(
        float((views[a][i] - views[b][i]).detach().norm()) ** 2
        for i in range(5)
        for a in range(num_views)
        for b in range(a + 1, num_views)
    )
    loss = ViewConsistencyLoss()(views)
    assert float(loss.detach()) == pytest.approx(expected / 5, abs=1e-10)
    if num_views > 1:
        assert torch.autograd.gradcheck(
            lambda *views: ViewConsistencyLoss()(views), tuple(views)
        )


def test_view_loss_without_items() -> None:
    assert float(ViewConsistencyLoss()([torch.empty(0, 3), torch.empty(0, 3)])) == 0


def test_half_precision_is_finite() -> None:
    x = normal(4, 3).to(torch.bfloat16)
    assert SemanticFactorLoss()(x, (x > 0)).isfinite()
    assert ViewConsistencyLoss()([x, -x]).isfinite()


def test_sum_of_the_losses() -> None:
    parts = torch.tensor(2.0), torch.tensor(3.0), torch.tensor(5.0)
    assert float(MARSLoss(0.1, 0.01)(*parts)) == pytest.approx(2 + 0.3 + 0.05)
    assert float(MARSLoss()(parts[0])) == 2
    assert float(MARSLoss(0.5, 0.5)(parts[0], view=parts[2])) == 4.5
    assert repr(MARSLoss()) == "MARSLoss(semantic_weight=0.001, view_weight=0.01)"


def test_bpr_loss_is_that_of_pyg() -> None:
    assert BPRLoss is PyGBPRLoss


def test_wrong_input_is_refused() -> None:
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="'target'"):
        SemanticFactorLoss()(x, x[:1])
    with pytest.raises(ValueError, match="'mask'"):
        SemanticFactorLoss()(x, x, x[:1].bool())
    with pytest.raises(ValueError, match="'views'"):
        ViewConsistencyLoss()([])
    with pytest.raises(ValueError, match="one shape"):
        ViewConsistencyLoss()([x, x[:1]])
    for weights in ((-1, 0), (0, -1), (math.nan, 0)):
        with pytest.raises(ValueError, match="must not be negative"):
            MARSLoss(*weights)
