"""Everything that a training run depends on, as one flat, checked configuration."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from mars_pyg.datasets import (
    AmazonFactorDataset,
    FactorDataset,
    SyntheticFactorDataset,
)
from mars_pyg.datasets.amazon_raw import CATEGORIES
from mars_pyg.errors import DataError
from mars_pyg.features import DEFAULT_TEXT_MODEL
from mars_pyg.files import atomic_path
from mars_pyg.nn import BPR, MARS, LightGCN
from mars_pyg.yaml_keys import read_keys, row_of_key

MODELS: dict[str, type[LightGCN]] = {"mars": MARS, "lightgcn": LightGCN, "bpr": BPR}
SYNTHETIC = "synthetic"


def _split(value: object) -> object:
    """Take ``"a, b"``, as a flag gives it, for a list."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


Names = Annotated[list[str], BeforeValidator(_split)]
Integers = Annotated[list[PositiveInt], BeforeValidator(_split)]
Numbers = Annotated[list[float], BeforeValidator(_split)]


class DataOptions(BaseModel):
    """Data."""

    dataset: str = Field(
        SYNTHETIC,
        description="synthetic, baby, sports, clothing, or the folder of a catalogue "
        "of your own",
    )
    root: Path = Field(
        Path("data"), description="folder of the Amazon data; downloaded when absent"
    )
    data_seed: int | None = Field(
        None,
        ge=0,
        description="seed of generated data, or of the split of your catalogue",
    )
    text_model: str = Field(
        DEFAULT_TEXT_MODEL,
        description="sentence-transformers model, name or folder, that makes text "
        "features where there are none; tfidf for TF-IDF",
    )
    num_neighbors: int = Field(
        10, ge=1, description="neighbours of an item in the structure graph"
    )


class SyntheticOptions(BaseModel):
    """Synthetic data."""

    num_users: int | None = Field(None, ge=1, description="number of users")
    num_items: int | None = Field(None, ge=2, description="number of items")
    num_interactions: int | None = Field(
        None, ge=1, description="about how many interactions; 16 a user unless given"
    )
    num_factors: int | None = Field(
        None, ge=1, le=6, description="number of factors, 1 to 6"
    )
    taste_strength: float | None = Field(
        None, ge=0, le=1, description="how much users follow their tastes, 0 to 1"
    )
    tastes_per_user: int | None = Field(
        None, ge=1, description="number of values that a user likes"
    )
    popularity_exponent: float | None = Field(
        None, ge=0, le=1, description="how skewed the popularity of items is, 0 to 1"
    )
    missing_rate: float | None = Field(
        None, ge=0, le=1, description="share of the values that profiles miss"
    )
    error_rate: float | None = Field(
        None, ge=0, le=1, description="share of the values that profiles have wrong"
    )
    multiple_rate: float | None = Field(
        None, ge=0, le=1, description="share of the items with a second value"
    )
    no_text_rate: float | None = Field(
        None, ge=0, le=1, description="share of the items without text"
    )


class CatalogueOptions(BaseModel):
    """Your own catalogue."""

    user_column: str | None = Field(None, description="column of the user ids")
    item_column: str | None = Field(
        None, description="column of the item ids among the interactions"
    )
    timestamp_column: str | None = Field(None, description="column of the times")
    id_column: str | None = Field(
        None, description="column of the item ids among the items"
    )
    title_column: str | None = Field(None, description="column of the titles")
    text_columns: Names | None = Field(
        None, description="columns that the text features read, a,b,..."
    )
    image_column: str | None = Field(None, description="column of the image paths")
    factor_columns: Names | None = Field(
        None,
        description="columns of the items that are factors already, a,b,...; also for "
        "Amazon data, where it is brand,categories unless there are profiles",
    )
    profiles: Path | None = Field(
        None,
        description="folder of factor profiles, schema.json and profiles.tsv; also for "
        "Amazon data",
    )
    split: Literal["random", "time"] | None = Field(
        None, description="split each user's interactions at random, or by time"
    )
    ratios: Numbers | None = Field(
        None, description="shares of train, validation and test, as 0.8,0.1,0.1"
    )
    k_core: int | None = Field(
        None,
        ge=1,
        description="keep users and items with at least so many interactions",
    )
    unknown_items: Literal["error", "drop"] | None = Field(
        None, description="what to do with interactions of items that are not there"
    )


class AmazonOptions(BaseModel):
    """Amazon data."""

    shipped_profiles: bool | None = Field(
        None,
        description="whether factor profiles that come with mars_pyg are used where "
        "the data has none",
    )


class ModelOptions(BaseModel):
    """Model."""

    model: Literal["mars", "lightgcn", "bpr"] = Field(
        "mars", description="the recommender"
    )
    embedding_dim: int | None = Field(None, ge=1, description="embedding width")
    num_layers: int | None = Field(
        None, ge=0, description="layers of the user-item propagation; 3 for lightgcn"
    )
    regularization: float | None = Field(
        None, ge=0, description="weight of the L2 norm of the embeddings"
    )
    edge_dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="share of the interactions left out of an epoch's graph",
    )
    num_item_layers: int | None = Field(
        None, ge=1, description="layers of the item convolution"
    )
    modalities: Names | None = Field(
        None, description="views to use, as text,image,id; all unless given"
    )
    item_graphs: (
        Literal["factors+structure", "factors", "structure", "concat", "none"] | None
    ) = Field(None, description="graphs between items")
    item_input: Literal["features", "id"] | None = Field(
        None, description="what the item convolution reads"
    )
    fusion: Literal["joint", "mean", "gated"] | None = Field(
        None, description="how the views are merged"
    )
    factor_source: Literal["profiles", "clusters"] | None = Field(
        None, description="where the factors come from"
    )
    cooccurrence: bool | None = Field(
        None, description="whether the ID view has a graph of joint interactions"
    )
    semantic_weight: float | None = Field(
        None, ge=0, description="weight of the semantic loss, lambda"
    )
    view_weight: float | None = Field(
        None, ge=0, description="weight of the view consistency loss, eta"
    )
    semantic_items: Literal["batch", "all"] | None = Field(
        None, description="items whose values a step predicts"
    )
    decoder_hidden_channels: int | None = Field(
        None,
        ge=1,
        description="hidden width of the semantic decoder; linear unless given",
    )
    engine: Literal["auto", "triton", "numba", "torch", "reference"] | None = Field(
        None, description="engine of the factor propagation"
    )


class TrainingOptions(BaseModel):
    """Training."""

    max_epochs: int = Field(500, ge=1, description="largest number of epochs")
    batch_size: int = Field(8192, ge=1, description="triplets in a batch")
    max_steps: int = Field(
        32, ge=1, description="most steps of an epoch, for which batches grow"
    )
    learning_rate: float = Field(4e-3, gt=0, description="learning rate of Adam")
    weight_decay: float = Field(0.0, ge=0, description="weight decay of Adam")
    validate_every: int = Field(5, ge=1, description="epochs between validations")
    patience: int = Field(
        8, ge=1, description="validations without improvement before training stops"
    )
    monitor: str = Field(
        "recall@20", description="validation metric that picks the best epoch"
    )
    k: Integers = Field(
        [10, 20], min_length=1, description="cuts of the metrics, as 10,20"
    )
    chunk_size: int = Field(
        1024, ge=1, description="users that an evaluation scores at once"
    )
    num_eval_users: int | None = Field(
        None,
        ge=1,
        description="users that an evaluation averages over; all unless given",
    )
    seed: int = Field(
        0, ge=0, lt=2**32, description="seed of the model and the training"
    )
    accelerator: str = Field("auto", description="device: auto, cpu, gpu, ...")
    precision: str = Field(
        "32-true", description="precision of Lightning's Trainer, as bf16-mixed"
    )
    deterministic: bool = Field(
        False, description="whether to refuse operations that are not deterministic"
    )


class TrainConfig(
    TrainingOptions,
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
            known = inspect.signature(owner).parameters
            for name in options.model_fields:
                if (
                    name != "model"
                    and name not in known
                    and getattr(self, name) is not None
                ):
                    raise ValueError(f"{what} has no option {name!r}")
        if self.data_seed is not None and "seed" not in _arguments(self.dataset_class):
            raise ValueError(f"dataset {self.dataset!r} has no option 'data_seed'")
        metrics = [f"{name}@{cut}" for name in ("recall", "ndcg") for cut in self.k]
        if self.monitor not in metrics:
            raise ValueError(
                f"'monitor' must be one of {metrics}, of the cuts 'k' "
                f"(got {self.monitor!r})"
            )
        return self

    @property
    def model_class(self) -> type[LightGCN]:
        """The class of the model."""
        return MODELS[self.model]

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
        if self.dataset == SYNTHETIC:
            return {}
        paths: dict[str, Any] = {}
        if self.dataset in CATEGORIES:
            paths["root"] = self.root.expanduser().resolve()
        else:
            paths["dataset"] = str(Path(self.dataset).expanduser().resolve())
        if self.profiles is not None:
            paths["profiles"] = self.profiles.expanduser().resolve()
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


def _arguments(owner: type) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in inspect.signature(owner).parameters.items()
    }


def _suggest(name: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, TrainConfig.model_fields, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}see 'mars-pyg train --help' for the options"
