"""What tokens cost."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from types import MappingProxyType

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mars_pyg.errors import DataError
from mars_pyg.factors.tokens import IMAGE_TOKENS


class Price(BaseModel):
    r"""The price of a model.

    Args:
        input: Of a million input tokens.
        output: Of a million output tokens.
        cached_input: Of a million input tokens that the server still had from an
            earlier request; :obj:`None` for as much as others. (default: :obj:`None`)
        batch_factor: What a batch costs, as a share of the same requests made one by
            one. (default: :obj:`0.5`)
        image_tokens: Input tokens of a picture. (default: :obj:`85`)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    cached_input: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    batch_factor: float = Field(default=0.5, ge=0, le=1)
    image_tokens: int = Field(default=IMAGE_TOKENS, ge=0)

    def cost(
        self,
        input_tokens: float,
        output_tokens: float,
        cached_tokens: float = 0,
        batch: bool = False,
    ) -> float:
        r"""Work out a cost, in the currency of the table.

        .. math::
            \frac{(t_{in} - t_{cached}) p_{in} + t_{cached} p_{cached} + t_{out}
            p_{out}}{10^6}
        """
        cached = self.input if self.cached_input is None else self.cached_input
        cost = (input_tokens - cached_tokens) * self.input + cached_tokens * cached
        cost = (cost + output_tokens * self.output) / 1e6
        return cost * self.batch_factor if batch else cost


#: List prices in US dollars, as known in 2025. They change: check those of your
#: account, and give a table of your own where they differ.
PRICES: Mapping[str, Price] = MappingProxyType(
    {
        "gpt-4o": Price(input=2.5, cached_input=1.25, output=10),
        "gpt-4o-mini": Price(
            input=0.15, cached_input=0.075, output=0.6, image_tokens=2833
        ),
        "gpt-4.1": Price(input=2, cached_input=0.5, output=8),
        "gpt-4.1-mini": Price(
            input=0.4, cached_input=0.1, output=1.6, image_tokens=415
        ),
        "gpt-4.1-nano": Price(
            input=0.1, cached_input=0.025, output=0.4, image_tokens=630
        ),
        "gpt-5": Price(input=1.25, cached_input=0.125, output=10),
        "gpt-5-mini": Price(input=0.25, cached_input=0.025, output=2, image_tokens=415),
        "gpt-5-nano": Price(
            input=0.05, cached_input=0.005, output=0.4, image_tokens=630
        ),
    }
)


def read_prices(path: str | PathLike[str]) -> dict[str, Price]:
    r"""Read a price table, which goes over the one that comes with the package.

    Args:
        path: A yaml or json file of the form
            ``{model: {input: 0.15, output: 0.6, cached_input: 0.075}}``. How many
            tokens a picture takes, and what a batch costs, are those of the package
            where the file does not say.

    Returns:
        The prices of the file and of the package, by model.

    Raises:
        DataError: If the file is missing or not such a table.
    """
    file = Path(path)
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            "there is no such file", mend="check the path of the prices", file=file
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(
            f"the file is neither yaml nor json: {error}", mend="correct it", file=file
        ) from error
    if not isinstance(content, dict):
        raise DataError(
            "the file holds no table of prices",
            mend="write {model: {input: PRICE, output: PRICE}}, per million tokens",
            file=file,
        )
    prices = dict(PRICES)
    for model, entry in content.items():
        known = find_price(str(model))
        if known is not None and isinstance(entry, dict):
            # They are of the model, whatever its tokens cost.
            kept = {"batch_factor", "image_tokens"}
            entry = known.model_dump(include=kept) | entry
        try:
            prices[str(model)] = Price.model_validate(entry)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join([str(model), *(str(part) for part in first["loc"])])
            raise DataError(
                first["msg"],
                mend="give input and output as prices of a million tokens",
                file=file,
                field=where,
            ) from error
    return prices


def find_price(model: str, prices: Mapping[str, Price] | None = None) -> Price | None:
    """Find the price of a model; a dated name has that of the name without date."""
    prices = PRICES if prices is None else prices
    found = [
        name
        for name in prices
        if model == name or model.startswith((f"{name}-20", f"{name}:"))
    ]
    return prices[max(found, key=len)] if found else None
