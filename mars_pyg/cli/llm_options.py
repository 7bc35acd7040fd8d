"""What commands that ask a language model take, and what they make of it."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import typer
from pydantic import BaseModel, Field, ValidationError

from mars_pyg.cli.options import _parameter as make_parameter
from mars_pyg.factors.assignment_options import AssignmentOptions
from mars_pyg.factors.catalogue import ID_COLUMNS, ItemCatalogue
from mars_pyg.factors.client import ClientOptions
from mars_pyg.factors.content import ContentReader
from mars_pyg.factors.llm_reasoner import LLMReasoner
from mars_pyg.factors.pricing import PRICES, Price, find_price, read_prices
from mars_pyg.factors.schema import FactorSchema
from mars_pyg.features.text import DEFAULT_TEXT_MODEL


class ItemOptions(BaseModel):
    """Items."""

    id_column: str | None = Field(
        None, description=f"column of the item ids; else {', '.join(ID_COLUMNS)}"
    )
    text_columns: str | None = Field(
        None,
        description="columns that are shown, a,b,...; else title, description, brand, "
        "category; the caption for image factors without --image-column",
    )
    image_column: str | None = Field(
        None, description="column of the paths or URLs of pictures"
    )
    image_size: int = Field(
        512, ge=16, description="longest side to which pictures are reduced, in pixels"
    )
    max_characters: int = Field(
        2000, ge=1, description="length at which a column's text is cut"
    )


class ServerOptions(BaseModel):
    """Server; its key is read from OPENAI_API_KEY."""

    model: str | None = Field(
        None, description="name of the model; else MARS_PYG_MODEL"
    )
    base_url: str | None = Field(
        None, description="address of an OpenAI-compatible server; else OPENAI_BASE_URL"
    )
    mode: Literal["json_schema", "json_object", "plain"] | None = Field(
        None, description="how json is asked for; else found out"
    )
    temperature: float | None = Field(
        None, ge=0, description="temperature of the answers; else the server's"
    )
    timeout: float = Field(
        120.0, gt=0, description="seconds until an answer is given up"
    )
    max_retries: int = Field(
        8, ge=0, description="times that a failed request is sent again"
    )


class CostOptions(BaseModel):
    """Costs."""

    prices: Path | None = Field(
        None, description="yaml or json file {model: {input: PRICE, output: PRICE}}"
    )
    input_price: float | None = Field(
        None, ge=0, description="price of a million input tokens"
    )
    output_price: float | None = Field(
        None, ge=0, description="price of a million output tokens"
    )
    max_cost: float | None = Field(
        None, ge=0, description="most that all requests on the store may cost together"
    )


class RequestOptions(BaseModel):
    """Requests."""

    concurrency: int = Field(16, ge=1, description="number of requests at once")
    items_per_request: int = Field(
        1, ge=1, description="number of items that are asked together"
    )
    examples: int = Field(
        0, ge=0, description="number of near assigned items that are shown as examples"
    )
    text_model: str = Field(
        DEFAULT_TEXT_MODEL, description="model that finds examples, or tfidf"
    )
    max_reasks: int = Field(
        2, ge=0, description="times that a value outside the schema is asked again"
    )
    max_output_tokens: int | None = Field(
        None, ge=1, description="limit of an answer's tokens; models that think need it"
    )


class Settings(ItemOptions, ServerOptions, CostOptions, RequestOptions):
    """All of them."""

    def price_table(self) -> dict[str, Price]:
        """The prices, with those of the flags over those of the file."""
        prices = dict(PRICES) if self.prices is None else read_prices(self.prices)
        if self.input_price is None and self.output_price is None:
            return prices
        model = self.model or ""
        known = find_price(model, prices)
        if known is None and (self.input_price is None or self.output_price is None):
            raise typer.BadParameter("give both --input-price and --output-price")
        entry = known.model_dump() if known is not None else {}
        if self.input_price is not None:
            entry |= {"input": self.input_price, "cached_input": None}
        if self.output_price is not None:
            entry |= {"output": self.output_price}
        prices[model] = Price.model_validate(entry)
        return prices

    def client(self) -> ClientOptions:
        """How the server is asked."""
        model = self.model or os.environ.get("MARS_PYG_MODEL")
        if not model:
            raise typer.BadParameter("name the model by --model or MARS_PYG_MODEL")
        return ClientOptions(
            model=model,
            base_url=self.base_url,
            timeout=self.timeout,
            max_retries=self.max_retries,
            temperature=self.temperature,
            mode=self.mode,
        )

    def reader(self, items: Path, modality: str) -> ContentReader:
        """What is shown of an item."""
        if modality != "image" and self.image_column is not None:
            # Texts would be judged, and paid for, in place of the pictures.
            raise typer.BadParameter(
                f"--image-column is for the modality 'image', not {modality!r}: that "
                "of the schema, or --modality of 'induce'"
            )
        columns = split_names(self.text_columns)
        if modality == "image" and self.image_column is not None:
            columns = None
        return ContentReader(
            modality, columns, self.max_characters, items.parent, self.image_size
        )

    def catalogue(self, items: Path) -> ItemCatalogue:
        """Read the items."""
        columns = split_names(self.text_columns)
        return ItemCatalogue.from_table(
            items, self.id_column, columns, self.image_column
        )

    def reasoner(self, items: Path, schema: Path, store: Path | None) -> LLMReasoner:
        """The language model, ready to be asked."""
        entry = FactorSchema.read(schema)
        return LLMReasoner(
            entry,
            self.client(),
            store=store_path(items, store),
            reader=self.reader(items, entry.modality),
            items_per_request=self.items_per_request,
            options=AssignmentOptions(
                concurrency=self.concurrency,
                max_reasks=self.max_reasks,
                max_cost=self.max_cost,
                max_output_tokens=self.max_output_tokens,
                image_size=self.image_size,
                num_examples=self.examples,
            ),
            prices=self.price_table(),
            text_model=self.text_model,
        )


def with_groups(
    *groups: type[BaseModel],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the flags of some groups, in the place of ``**flags``."""

    def wrap(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        parameters = list(signature.parameters.values())
        parameters.pop()  # **flags, in whose place they stand
        for group in groups:
            for name, field in group.model_fields.items():
                flag = make_parameter(name, field, group, field.default)
                parameters.append(flag)
        arguments = [p for p in parameters if p.default is inspect.Parameter.empty]
        options = [p for p in parameters if p.default is not inspect.Parameter.empty]
        function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [
                *arguments,
                *(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in options),
            ]
        )
        function.__annotations__ = {p.name: p.annotation for p in parameters}
        return function

    return wrap


def make_settings(flags: dict[str, Any]) -> Settings:
    """Check flags."""
    given = {name: value for name, value in flags.items() if value is not None}
    if "model" not in given and os.environ.get("MARS_PYG_MODEL"):
        given["model"] = os.environ["MARS_PYG_MODEL"]
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + str(first["loc"][0]).replace("_", "-")
        raise typer.BadParameter(f"{flag}: {first['msg']}") from None


def store_path(items: Path, store: Path | None) -> Path:
    """The file of the answers, beside the items by default."""
    return items.parent / "factors.sqlite" if store is None else store


def split_names(text: str | None) -> list[str] | None:
    """Take ``"a, b"``, as a flag gives it, for a list."""
    if text is None:
        return None
    return [part.strip() for part in text.split(",") if part.strip()]
