"""Items that come to a catalogue after the training."""

from __future__ import annotations

import difflib
import html
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.data.datapipes import functional_transform
from torch_geometric.transforms import BaseTransform
from torch_geometric.utils import coalesce

from mars_pyg.edge_forms import edges_of
from mars_pyg.errors import DataError
from mars_pyg.factors import Factor, FactorProfiles, FactorSchema
from mars_pyg.factors.schema import SEPARATOR
from mars_pyg.features.text import TFIDF, text_features
from mars_pyg.names import names_in, names_of
from mars_pyg.tables import MAX_WHOLE, row_of, whole_characters
from mars_pyg.transforms.item_rows import append_rows

if TYPE_CHECKING:
    from pandas import DataFrame

#: The column of the rows' numbers; no factor has this name.
ROW = ""


@functional_transform("add_items")
class AddItems(BaseTransform):
    r"""Appends items without interactions, known by their factor values and texts
    (functional name: :obj:`add_items`).

    :meth:`HeadedRecommender.add_items <mars_pyg.HeadedRecommender.add_items>` then
    makes a recommender that ranks them too, without training.

    The items come after those of the graph, whose numbers stay. Values are looked up by
    the names of the factor and the value; those of an open vocabulary that are new
    become nodes, after the others. Text features are made by the encoder of the graph's
    own, of the column ``text``, or ``title`` where there is none. Graphs between items
    stay as they are.

    Args:
        items: A row for each item: a table, or dictionaries. Columns are ``id``, texts
            of the items, such as ``title``, and names of factors. A missing value is an
            empty string or null; several values of a factor are a list, or separated by
            ``|``.
        features: Features ``[M, D]`` of the items by modality; a row of zeros is a
            missing one. (default: :obj:`None`)
        modality: The modality of the values; :obj:`None` for the graph's only one, or
            ``"text"`` among several. (default: :obj:`None`)
        open_factors: Factors that may get new values; :obj:`None` for those of open
            vocabularies. (default: :obj:`None`)
        text_model: The model of the text features; :obj:`None` for the graph's own.
            (default: :obj:`None`)

    Raises:
        DataError: If an id is missing or there already, a column or a value unknown,
            or a feature does not fit.
        TypeError: If ``open_factors`` is one name.
    """

    def __init__(
        self,
        items: DataFrame | Sequence[Mapping[str, Any]],
        features: Mapping[str, Tensor] | None = None,
        modality: str | None = None,
        open_factors: Sequence[str] | None = None,
        text_model: str | None = None,
    ) -> None:
        import pandas as pd

        # As objects: whole numbers beside missing ones would become fractions.
        self.items = pd.DataFrame(items, dtype=object).reset_index(drop=True)
        self.features = dict(features or {})
        self.modality = modality
        self.open_factors = None
        if open_factors is not None:
            self.open_factors = names_of("open_factors", open_factors)
        self.text_model = text_model

    def forward(self, data: HeteroData) -> HeteroData:
        """Append the items to a graph."""
        if self.items.empty:
            return data
        self._check_columns(data)
        self._check_ids(data)
        texts = self._texts(data)
        features = self._features(data, texts)
        num_items = data["item"].num_nodes
        if any(name in texts for name in _factor_names(data)):
            relation = data["item", f"{self._modality(data)}_value", "value"]
            edges = self._edges(data, texts)
            edges[0] += num_items
            known = edges_of(relation)
            relation.edge_index = torch.cat([known, edges.to(known.device)], dim=1)
            # After PyG's ToSparseTensor: it is of the items before.
            relation.pop("adj_t", None)
        append_rows(data["item"], num_items, len(self.items), texts, features)
        return data

    def _check_columns(self, data: HeteroData) -> None:
        known = [
            name for name, value in data["item"].items() if isinstance(value, list)
        ]
        # Where the catalogue has no titles yet, its new items need none.
        known = list(dict.fromkeys(["id", *known, *_factor_names(data)]))
        for name in self.items.columns:
            if name not in known:
                close = difflib.get_close_matches(str(name), known)
                raise DataError(
                    "the items have no such text or factor",
                    mend=f"name it one of {close}"
                    if close
                    else f"take the column out; there are {', '.join(known)}",
                    field=str(name),
                )

    def _check_ids(self, data: HeteroData) -> None:
        if "id" not in data["item"]:
            return
        if "id" not in self.items:
            raise DataError(
                "the new items have no ids", mend="add the column 'id'", field="id"
            )
        seen = set(data["item"].id)
        for row, cell in enumerate(self.items["id"].tolist()):
            name = SEPARATOR.join(_values(cell))
            if not name or name in seen:
                raise DataError(
                    f"there already is an item {name!r}" if name else "the id is empty",
                    mend="give every new item an id of its own",
                    row=row_of(row),
                    field="id",
                )
            seen.add(name)

    def _texts(self, data: HeteroData) -> dict[str, list[str]]:
        """The columns as texts, in the form of those of a catalogue."""
        factors = _factor_names(data)
        known = set(data["value"].name) if factors else set()
        short = {_shortened(value): value for value in sorted(known)}
        texts = {}
        for name in self.items.columns:
            column = self.items[name].tolist()
            cells = [_values(cell) for cell in column]
            if name != "id":
                own = known if name in factors else set()
                cells = [
                    # A text "1.9" may be a version, and another one than "1.90".
                    [
                        _written(value, own, short if isinstance(cell, Real) else {})
                        for value in values
                    ]
                    for cell, values in zip(column, cells, strict=True)
                ]
            texts[name] = [SEPARATOR.join(values) for values in cells]
        if "title" in texts:
            # A title is one line, wherever it is shown.
            texts["title"] = [" ".join(title.split()) for title in texts["title"]]
            if "text" in data["item"] and "text" not in factors:
                # For features that are made later, as they are made here.
                texts.setdefault("text", texts["title"])
        return texts

    def _features(
        self, data: HeteroData, texts: Mapping[str, Sequence[str]]
    ) -> dict[str, Tensor]:
        """The features of the new items that are given, or made of their texts."""
        features = {f"x_{name}": x for name, x in self.features.items()}
        text = texts.get("text", texts.get("title", []))
        store = data["item"]
        if "x_text" not in store or "x_text" in features or not any(text):
            return features
        model = self.text_model or store.get("text_encoder")
        if model is None:
            raise DataError(
                "the model that made the items' text features is not known",
                mend="give its name or path as 'text_model', or 'features' of the "
                "modality 'text', or leave out the texts",
                field="text",
            )
        if model == TFIDF:
            raise DataError(
                "the items' text features cannot be made of one text alone",
                mend="give 'features' of the modality 'text', or leave out the texts",
                field="text",
            )
        found, features["x_text"] = text_features(text, model)
        if found != model:
            raise DataError(
                f"the model {model!r} of the items' text features cannot be loaded",
                mend="give its path as 'text_model', or 'features' of the modality "
                "'text'",
                field="text",
            )
        return features

    def _edges(self, data: HeteroData, texts: Mapping[str, Sequence[str]]) -> Tensor:
        """Edges from the new items to their values ``[2, E]``; new values are added."""
        import pandas as pd

        store = data["value"]
        opened = store.get("open_factors", [])
        opened = opened if self.open_factors is None else self.open_factors
        names, factor = list(store.name), store.factor.tolist()
        known: dict[str, list[str]] = {name: [] for name in store.factor_name}
        for owner, value in zip(factor, names, strict=True):
            known[store.factor_name[owner]].append(value)
        columns = [name for name in known if name in texts]
        schema = FactorSchema(
            factors=[
                Factor(
                    name=name,
                    values=None if name in opened else known[name] or None,
                    multiple=not any(SEPARATOR in value for value in known[name]),
                )
                for name in columns
            ]
        )
        rows = [str(row) for row in range(len(self.items))]
        table = pd.DataFrame({ROW: rows, **{name: texts[name] for name in columns}})
        profiles = FactorProfiles.from_table(table, schema, rows, id_column=ROW)
        # Only values that some new item has become nodes.
        used = profiles.value_index.unique().tolist()
        index = {key: node for node, key in enumerate(zip(factor, names, strict=True))}
        node = torch.zeros(len(profiles.value_names), dtype=torch.int64)
        for value in used:
            owner = store.factor_name.index(columns[profiles.value_factor[value]])
            name = profiles.value_names[value]
            if (owner, name) not in index:
                index[owner, name] = len(names)
                names.append(name)
                factor.append(owner)
            node[value] = index[owner, name]
        store.num_nodes, store.name = len(names), names
        store.factor = torch.tensor(factor, dtype=torch.int64)
        edges: Tensor = coalesce(
            torch.stack([profiles.item_index, node[profiles.value_index]])
        )
        return edges

    def _modality(self, data: HeteroData) -> str:
        found = [
            kind[1].removesuffix("_value")
            for kind in data.edge_types
            if (kind[0], kind[2]) == ("item", "value")
        ]
        modality = self.modality
        if modality is None:
            modality = found[0] if len(found) == 1 else "text"
        if modality not in found:
            raise DataError(
                f"there are no values of the modality {modality!r}",
                mend=f"choose one of {found}",
                field="modality",
            )
        return modality

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_items={len(self.items)})"


def _factor_names(data: HeteroData) -> list[str]:
    if "value" not in data.node_types:
        return []
    return names_in(data, "value", "factor_name")


def _written(value: str, known: set[str], short: Mapping[str, str]) -> str:
    """A text as catalogues have it.

    Booleans are small letters in what is read of parquet files, whole numbers beside
    missing ones are fractions in csv files that tables were written to, and numbers
    that a table has read of a csv file have lost the zeros at their end.

    Args:
        value: The text.
        known: The values of the catalogue.
        short: Those that numbers may be, by the form without zeros.
    """
    others = [value]
    if value in ("True", "False"):
        others.append(value.lower())
    if value.removeprefix("-").isdecimal():
        others.append(f"{value}.0")
    others.append(short.get(value, value))
    return next((other for other in others if other in known), html.unescape(value))


def _shortened(value: str) -> str:
    """A decimal fraction without zeros at its end, any other text as it is."""
    whole, point, part = value.removeprefix("-").partition(".")
    is_fraction = point and whole.isdecimal() and part.isdecimal()
    return value.rstrip("0").rstrip(".") if is_fraction else value


def _values(cell: Any) -> list[str]:
    """The texts of a cell, none where it is empty or null."""
    import pandas as pd

    # A list in a parquet file is an array in its table.
    if isinstance(cell, list | tuple | set | np.ndarray):
        return [text for part in cell for text in _values(part)]
    if pd.isna(cell):
        return []
    is_fraction = isinstance(cell, float | np.floating)
    if is_fraction and cell.is_integer() and abs(cell) < MAX_WHOLE:
        # As catalogues in parquet files have them; tables make them of whole numbers.
        cell = int(cell)
    text = whole_characters(str(cell)).strip()
    return [text] if text else []
