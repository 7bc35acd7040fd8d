"""What requests may cost together."""

from __future__ import annotations

import asyncio

from mars_pyg.errors import DataError
from mars_pyg.factors.committing import Committer
from mars_pyg.factors.pricing import Price


class BudgetReached(Exception):  # noqa: N818 (it ends a run as planned)
    """The next request could cost more than is left."""


class Budget:
    r"""Sets aside what requests may cost, so that all together keep to a sum.

    Args:
        committer: The store, in which all costs count.
        model: The model that is asked.
        price: Its price, or :obj:`None`.
        max_cost: What all requests may cost; :obj:`None` for no limit.
    """

    def __init__(
        self,
        committer: Committer,
        model: str,
        price: Price | None,
        max_cost: float | None,
    ) -> None:
        self.committer, self.model = committer, model
        self.price, self.max_cost = price, max_cost
        # Costs are set aside by the worst ratio of true to expected tokens.
        self._input_ratio = 1.3

    async def reserve(self, expected: int, limit: int) -> float:
        r"""Set aside what a request may cost; wait for others that may cost less.

        Args:
            expected: Its input tokens, as counted here.
            limit: The most tokens of its answer.

        Returns:
            What is set aside, to be given back with what the request has cost.

        Raises:
            BudgetReached: If it may cost more than is left.
        """
        if self.max_cost is None or self.price is None:
            return 0.0
        amount = self.price.cost(expected * self._input_ratio, limit)
        while True:
            granted, under_way = await self.committer.call(
                self.committer.store.reserve, self.model, amount, self.max_cost
            )
            if granted:
                return amount
            if not under_way:
                raise BudgetReached
            await asyncio.sleep(0.05)

    def learn(self, expected: int, input_tokens: int) -> None:
        """Note how many input tokens the server counted in a request."""
        ratio = input_tokens / max(expected, 1)
        self._input_ratio = max(self._input_ratio, 1.1 * ratio)


def check_priced(model: str, price: Price | None, max_cost: float | None) -> None:
    """Refuse a budget for a model without a price.

    Raises:
        DataError: If there is a budget and no price is known.
    """
    if max_cost is not None and price is None:
        raise DataError(
            f"no price of the model {model!r} is known, so no cost can be kept",
            mend="give its prices, or no largest cost",
            field="max_cost",
        )
