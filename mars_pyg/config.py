"""Everything that a training run depends on, as one flat, checked configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mars_pyg.datasets import (
    AmazonFactorDataset,
    FactorDataset,
    SyntheticFactorDataset,
)
from mars_pyg.datasets.amazon_raw import CATEGORIES
from mars_pyg.errors import DataError
from mars_pyg.files import atomic_path, user_path
from mars_pyg.heads.build import HEADS, build_heads
from mars_pyg.nn import BPR, MARS, LightGCN
from mars_pyg.option_groups import (
    SYNTHETIC,
    AmazonOptions,
    CatalogueOptions,
    DataOptions,
    HeadOptions,
    ModelOptions,
    SyntheticOptions,
    TrainingOptions,
)
from mars_pyg.yaml_keys import read_keys, row_of_key

MODELS: dict[str, type[LightGCN]] = {"mars": MARS, "lightgcn": LightGCN, "bpr": BPR}
#: The name of a model that is none: the heads score alone.
NO_MODEL = "none"
#: Options that only a model that is trained reads.
OF_TRAINING = (
    "num_neighbors",
    *(
        name
        for name in TrainingOptions.model_fields
        if name not in ("k", "chunk_size", "num_eval_users", "seed")
    ),
)


class TrainConfig(
    TrainingOptions,
    HeadOptions,
    ModelOptions,
    AmazonOptions,
    CatalogueOptions,
    SyntheticOptions,
    DataOptions,
):
    r"""The configuration of a training run.

    Keys are flat: the name of a key is that of the command line's flag and of the
    argument of the dataset, the model or :func:`~mars_pyg.training.fit` that it is
    given to. A key that is :obj:`None` leaves that argument at its default;
    :meth:`resolve` fills it in.

    Raises:
        pydantic.ValidationError: If a key is unknown, a value is out of its bounds, or
            a key does not belong to the chosen dataset or model.
    """

    model_config = ConfigDict(
        extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        for options, owner, what in (
            (ModelOptions, self.model_class, f"model {self.model!r}"),
            (SyntheticOptions, self.dataset_class, f"dataset {self.dataset!r}"),
            (CatalogueOptions, self.dataset_class, f"dataset {self.dataset!r}"),
            (AmazonOptions, self.dataset_class, f"dataset {self.dataset!r}"),
        ):
            known = _arguments(owner)
            for name in options.model_fields:
                if (
                    name != "model"
                    and name not in known
                    and getattr(self, name) is not None
                ):
                    raise ValueError(f"{what} has no option {name!r}")
        if self.data_seed is not None and "seed" not in _arguments(self.dataset_class):
            raise ValueError(f"dataset {self.dataset!r} has no option 'data_seed'")
        heads = self.head_names
        unknown = [name for name in heads if name not in HEADS]
        if unknown:
            raise ValueError(f"'heads' are some of {list(HEADS)} (got {unknown[0]!r})")
        if self.model == NO_MODEL and not heads:
            raise ValueError("model 'none' needs 'heads'")
        for name in HeadOptions.model_fields:
            head = name.split("_")[0]
            if head not in ["heads", *heads] and getattr(self, name) is not None:
                raise ValueError(f"there is no head {head!r} for the option {name!r}")
        if self.heads_in_loss and (self.model == NO_MODEL or not heads):
            raise ValueError("'heads_in_loss' needs a model and 'heads'")
        metrics = [f"{name}@{cut}" for name in ("recall", "ndcg") for cut in self.k]
        if self.model != NO_MODEL and self.monitor not in metrics:
            raise ValueError(
                f"'monitor' must be one of {metrics}, of the cuts 'k' "
                f"(got {self.monitor!r})"
            )
        return self

    @property
    def model_class(self) -> type[LightGCN] | None:
        """The class of the model; none where the heads score alone."""
        return MODELS.get(self.model)

    @property
    def head_names(self) -> list[str]:
        """The names of the heads."""
        if self.heads is not None:
            return self.heads
        return list(HEADS) if self.model in ("mars", NO_MODEL) else []

    @property
    def unread(self) -> list[str]:
        """The options that are not at their defaults although nothing reads them."""
        if self.model != NO_MODEL:
            return []
        fields = type(self).model_fields
        return [x for x in OF_TRAINING if getattr(self, x) != fields[x].default]

    @property
    def dataset_class(self) -> type:
        """The class of the dataset."""
        if self.dataset == SYNTHETIC:
            return SyntheticFactorDataset
        return AmazonFactorDataset if self.dataset in CATEGORIES else FactorDataset

    def dataset_arguments(self) -> dict[str, Any]:
        """The arguments of the dataset that are not left at their defaults."""
        arguments = self._given(SyntheticOptions, CatalogueOptions, AmazonOptions)
        if self.data_seed is not None:
            arguments["seed"] = self.data_seed
        if self.dataset in CATEGORIES:
            return {"root": self.root, "name": self.dataset, **arguments}
        if self.dataset == SYNTHETIC:
            return arguments
        return {"root": Path(self.dataset), **arguments}

    def model_arguments(self) -> dict[str, Any]:
        """The arguments of the model that are not left at their defaults."""
        arguments = self._given(ModelOptions)
        del arguments["model"]
        return arguments

    def head_arguments(self) -> dict[str, Any]:
        """The arguments of :func:`~mars_pyg.heads.build_heads`."""
        arguments = self._given(HeadOptions)
        arguments.pop("heads_in_loss", None)
        return {**arguments, "heads": self.head_names}

    def training_arguments(self) -> dict[str, Any]:
        """The arguments of :func:`~mars_pyg.training.fit`."""
        return {name: getattr(self, name) for name in TrainingOptions.model_fields}

    def resolve(self) -> TrainConfig:
        """The same with every default in it, and paths that hold from any folder."""
        defaults = {
            name: default
            for owner in (self.model_class, self.dataset_class)
            for name, default in _arguments(owner).items()
            if name in type(self).model_fields
            and default is not inspect.Parameter.empty
        }
        defaults |= {
            name: default
            for name, default in _arguments(build_heads).items()
            if name.split("_")[0] in self.head_names
        }
        defaults["heads"] = self.head_names
        if "seed" in _arguments(self.dataset_class):
            defaults["data_seed"] = _arguments(self.dataset_class)["seed"]
        missing = {
            name: list(default) if isinstance(default, tuple) else default
            for name, default in defaults.items()
            if getattr(self, name) is None
        }
        return self.model_copy(update={**missing, **self._absolute_paths()})

    def _absolute_paths(self) -> dict[str, Any]:
        """The paths of the data that is used."""
        paths: dict[str, Any] = {}
        text_model = user_path(self.text_model)
        if text_model.is_dir():
            paths["text_model"] = str(text_model.absolute())
        if self.dataset == SYNTHETIC:
            return paths
        if self.dataset in CATEGORIES:
            paths["root"] = user_path(self.root).resolve()
        else:
            paths["dataset"] = str(user_path(self.dataset).resolve())
        if self.profiles is not None:
            paths["profiles"] = user_path(self.profiles).resolve()
        return paths

    def _given(self, *options: type[BaseModel]) -> dict[str, Any]:
        names = (name for option in options for name in option.model_fields)
        return {
            name: getattr(self, name)
            for name in names
            if getattr(self, name) is not None
        }


def groups() -> Iterator[type[BaseModel]]:
    """The groups of options, in the order in which help shows them."""
    yield from (
        DataOptions,
        SyntheticOptions,
        CatalogueOptions,
        AmazonOptions,
        ModelOptions,
        HeadOptions,
        TrainingOptions,
    )


def read_config(path: str | PathLike[str]) -> dict[str, Any]:
    """Read the keys of a yaml file, without checking their values.

    Raises:
        DataError: If the file cannot be read as a flat mapping of known keys.
    """
    return read_keys(path, TrainConfig.model_fields, _suggest)


def make_config(
    keys: dict[str, Any], file: str | PathLike[str] | None = None
) -> TrainConfig:
    """Check keys and values.

    Args:
        keys: The keys and values.
        file: The yaml file that some of them come from, for messages: a wrong value
            is looked up there. (default: :obj:`None`)

    Raises:
        DataError: If a key or a value is wrong.
    """
    try:
        return TrainConfig.model_validate(keys)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else None
        if field is None:
            problem = str(first["ctx"]["error"])
        else:
            problem = f"{first['msg']} (got {first['input']!r})"
        mend = "see 'mars-pyg train --help' for the options"
        if first["type"] == "extra_forbidden":
            problem, mend = "unknown key", _suggest(str(field))
        row = None
        if file is not None and field is not None:
            row = row_of_key(file, field, keys[field])
            if row is None:
                file = None  # The value was given in place of the file's.
        raise DataError(problem, mend=mend, file=file, row=row, field=field) from None


def write_config(config: TrainConfig, path: str | PathLike[str]) -> None:
    """Write the keys that say something, as yaml."""
    keys = config.model_dump(mode="json", exclude_none=True)
    with atomic_path(path) as temporary:
        temporary.write_text(yaml.safe_dump(keys, sort_keys=False), encoding="utf-8")


def _arguments(owner: Callable[..., Any] | None) -> dict[str, Any]:
    if owner is None:
        return {}
    return {
        name: parameter.default
        for name, parameter in inspect.signature(owner).parameters.items()
    }


def _suggest(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, TrainConfig.model_fields, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}see 'mars-pyg train --help' for the options"
