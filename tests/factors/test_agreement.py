from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from mars_pyg.errors import DataError
from mars_pyg.factors import FactorProfiles
from mars_pyg.factors.agreement import factor_agreement, worst_factor


def profiles(**columns: list[str]) -> FactorProfiles:
    table = pd.DataFrame(columns)
    ids = [str(number) for number in range(len(table))]
    table["id"] = ids
    return FactorProfiles.from_columns(
        table, list(columns), ids, "id", multiple=list(columns)
    )


def test_by_hand() -> None:
    # Of four items with both: three equal; a: 3/4 and 2/4, b: 1/4 and 2/4, so that
    # chance is 1/2 and kappa (3/4 - 1/2) / (1 - 1/2).
    first = profiles(use=["a", "a", "a", "b", "a", ""], tags=["x|y"] * 6, own=["a"] * 6)
    second = profiles(tags=["y|x"] * 5 + ["x"], use=["a", "a", "b", "b", "", "b"])
    use, tags = factor_agreement(first, second)
    assert (use.factor, use.both, use.only_first, use.only_second) == ("use", 4, 1, 1)
    assert use.equal == 0.75
    assert use.kappa == 0.5
    assert use.confusion == [("a", "b", 1)]
    # All the values of an item count, in any order.
    assert tags.equal == pytest.approx(5 / 6)
    assert tags.confusion == [("x|y", "x", 1)]
    assert worst_factor([use, tags]) == tags


labels = st.sampled_from(["", "a", "b", "c"])


@settings(deadline=None)
@given(st.lists(st.tuples(labels, labels), min_size=1, max_size=30))
def test_equals_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    first, second = map(list, zip(*pairs, strict=True))
    (found,) = factor_agreement(profiles(use=first), profiles(use=second))
    known = [(a, b) for a, b in pairs if a and b]
    assert found.both == len(known)
    assert found.only_first == sum(bool(a and not b) for a, b in pairs)
    assert found.only_second == sum(bool(b and not a) for a, b in pairs)
    if not known:
        assert math.isnan(found.equal)
        assert math.isnan(found.kappa)
        return
    one, other = zip(*known, strict=True)
    assert found.equal == pytest.approx(np.mean([a == b for a, b in known]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = cohen_kappa_score(one, other)
    np.testing.assert_allclose(found.kappa, expected, atol=1e-12)
    assert sum(count for _, _, count in found.confusion) == sum(
        a != b for a, b in known
    )
    for a, b, count in found.confusion:
        assert count == known.count((a, b))


def test_profiles_that_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="of 1 and 2 items"):
        factor_agreement(profiles(use=["a"]), profiles(use=["a", "b"]))
    with pytest.raises(DataError, match="no common factor: use and color"):
        factor_agreement(profiles(use=["a"]), profiles(color=["a"]))
    assert (
        worst_factor(factor_agreement(profiles(use=["a"]), profiles(use=["a"]))) is None
    )
