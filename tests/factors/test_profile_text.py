from __future__ import annotations

import torch

from mars_pyg.factors import Factor, FactorProfiles, FactorSchema
from mars_pyg.factors.profile_text import format_profiles


def test_an_item_counts_for_each_of_its_values() -> None:
    schema = FactorSchema(
        factors=[
            Factor(name="use", values=["home", "travel"], multiple=True),
            Factor(name="brand"),
        ]
    )
    profiles = FactorProfiles.from_assignments(
        schema,
        4,
        torch.tensor([0, 0, 1, 2]),
        torch.zeros(4, dtype=torch.int64),
        ["home", "travel", "travel", "home"],
    )
    rows = [line.split() for line in format_profiles(profiles).split("\n")[3:]]
    assert rows == [
        ["use", "3", "2", "of", "2", "2", "home"],
        ["brand", "0", "0", "(open)"],
    ]
