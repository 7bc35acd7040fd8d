"""The ways in which the server can fail."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

#: Faults before there is an answer: it is neither paid for nor counted.
REFUSALS = (
    "rate_limit",
    "rate_limit_with_headers",
    "error_500",
    "error_503",
    "hang",
    "cut_connection",
)
#: Answers that hold nothing of use, or not all that was asked for.
BROKEN = (
    "broken_body",
    "broken_json",
    "truncated_json",
    "outside_schema",
    "empty_choices",
    "wrong_ids",
)
FAULTS = (*REFUSALS, *BROKEN, "slow")


@dataclass
class FaultPlan:
    """Which requests fail, and how.

    Args:
        rate: Share of the requests that fail.
        kinds: The faults to choose among.
        seed: Seed of the choice.
        script: Faults of the first requests, in order; ``None`` is none.
    """

    rate: float = 0.0
    kinds: tuple[str, ...] = FAULTS
    seed: int = 0
    script: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def draw(self) -> str | None:
        """Choose the fault of the next request."""
        if self.script:
            return self.script.pop(0)
        if self.rate and self._random.random() < self.rate:
            return self._random.choice(self.kinds)
        return None
