"""A flag for every key of a training's configuration."""

from __future__ import annotations

import inspect
import os
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mars_pyg.config import TrainConfig, groups


def with_configuration(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command a flag for every key of the configuration."""
    parameters = list(inspect.signature(function, eval_str=True).parameters.values())
    parameters.pop()  # **flags, in whose place they stand
    defaults = _shown_defaults()
    for group in groups():
        for name, field in group.model_fields.items():
            parameters.append(_parameter(name, field, group, defaults.get(name)))
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    )
    function.__annotations__ = {p.name: p.annotation for p in parameters}
    return function


def _parameter(
    name: str, field: FieldInfo, group: type[BaseModel], default: object
) -> inspect.Parameter:
    """A flag for a key of the configuration, unset unless given."""
    options: dict[str, Any] = {
        "help": field.description,
        "rich_help_panel": (group.__doc__ or "").rstrip("."),
        "show_default": False if default is None else str(default),
    }
    kind: Any = field.annotation
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    declarations: list[str] = []
    if kind is bool:
        flag = name.replace("_", "-")
        declarations = [f"--{flag}/--no-{flag}"]
    elif kind not in (int, float, Path) and get_origin(kind) is not Literal:
        kind = str
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, typer.Option(*declarations, **options)],
    )


def _shown_defaults() -> dict[str, object]:
    """The default of each key, of the model or dataset where the key has none."""
    defaults: dict[str, object] = {}
    # The last one wins: what the default model and dataset do is shown first.
    for keys in ({"dataset": os.curdir}, {"model": "lightgcn"}, {}):
        resolved = TrainConfig.model_validate(keys).resolve().model_dump()
        defaults |= {
            name: ",".join(map(str, value)) if isinstance(value, list) else value
            for name, value in resolved.items()
            if value is not None
        }
    return defaults
