"""The options of a training run, in groups, with their bounds and what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, PositiveInt

from mars_pyg.features import DEFAULT_TEXT_MODEL

SYNTHETIC = "synthetic"


def _split(value: object) -> object:
    """Take ``"a, b"``, as a flag gives it, and a number for a list."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
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

    model: Literal["mars", "lightgcn", "bpr", "none"] = Field(
        "mars", description="the recommender; none for the heads alone"
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


class HeadOptions(BaseModel):
    """Heads, scores beside the model's."""

    heads: Names | None = Field(
        None,
        description="scores read off a user's items: some of affinity,ease,popularity,"
        "similarity, or '' for none; all unless given, for lightgcn and bpr none",
    )
    affinity_smoothing: float | None = Field(
        None, gt=0, description="interactions by which the affinity is shrunk"
    )
    ease_l2: float | None = Field(None, gt=0, description="regularisation of EASE")
    ease_clique_weight: float | None = Field(
        None, ge=0, description="weight of the factor graphs in EASE; 0 for none"
    )
    ease_num_entries: int | None = Field(
        None, ge=1, description="entries of EASE that are kept for an item"
    )
    ease_solver: Literal["auto", "dense", "local"] | None = Field(
        None, description="how EASE is solved; dense for up to 10,000 items"
    )
    heads_in_loss: float | None = Field(
        None,
        ge=0,
        description="what the heads' scores count for in the loss of the model; "
        "unless given it is trained by itself",
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
