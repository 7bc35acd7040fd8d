"""A user's own catalogue and interactions."""

from __future__ import annotations

import html
import logging
import os
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.datasets.build import build_graph
from mars_pyg.datasets.catalogue_files import (
    CATALOGUE,
    check_features,
    column_profiles,
    find_images,
    log_unread,
    parse_times,
)
from mars_pyg.datasets.interactions import SPLITS, k_core, split_interactions
from mars_pyg.datasets.storage import GraphDataset, choose_processed_root, fingerprint
from mars_pyg.errors import DataError
from mars_pyg.factors.profile_folder import SCHEMA, find_profiles, read_profiles
from mars_pyg.features.files import find_features, read_features
from mars_pyg.files import user_path
from mars_pyg.modalities import is_feature_modality
from mars_pyg.names import names_of
from mars_pyg.tables import (
    check_column,
    check_ids,
    check_repeated_header,
    check_unique,
    find_table,
    read_table,
    row_of,
)

if TYPE_CHECKING:
    from pandas import DataFrame, Series

logger = logging.getLogger(__name__)


class FactorDataset(GraphDataset):
    r"""Your own catalogue: interactions, items, and what is known of them.

    The folder holds

    - ``interactions.csv``, ``.tsv`` or ``.parquet``: a row per interaction, with the
      ids of user and item, and optionally a timestamp, a number or an ISO 8601 date;
    - ``items.csv``, ``.tsv`` or ``.parquet``: a row per item, with its id, and
      optionally texts, the path of an image and columns to take for factors;
    - ``<modality>_feat.npy`` or ``.safetensors`` (optional): features, whose row ``i``
      is of the item in record ``i`` of the items;
    - ``factors`` (optional): ``schema.json`` and ``profiles.csv``, ``.tsv`` or
      ``.parquet``, whose ids are in a column named as that of the items, see
      :meth:`~mars_pyg.factors.FactorProfiles.read`; or one such folder for each
      modality inside it.

    Ids are text, kept as they are written. The graph is that of
    :func:`~mars_pyg.datasets.build.build_graph`, with the items in the order of their
    file and the users in that of their first interaction; ``data['item'].image_path``
    lists the images, empty where there is none. Factor columns become profiles of the
    modality ``catalogue``. Columns that are not read are logged.

    What is left out is counted in a warning: interactions that repeat a pair of user
    and item, of which the earliest stays; those outside of the :math:`k`-core; those of
    unknown items, if they are to be dropped; and the users who have none but these.
    Items without interactions stay.

    Args:
        root: The folder.
        user_column: Column of the users' ids. (default: :obj:`"user"`)
        item_column: Column of the items' ids in the interactions.
            (default: :obj:`"item"`)
        timestamp_column: Column of the times of the interactions.
            (default: :obj:`None`)
        id_column: Column of the items' ids in the items; :obj:`None` for
            ``item_column`` if there is such a column, else ``"id"``.
            (default: :obj:`None`)
        title_column: Column of the titles. If there is no column of the default name,
            ids take the place of titles, which is logged, but not of texts.
            (default: :obj:`"title"`)
        text_columns: Columns whose texts, joined, are ``data['item'].text``, of which
            :class:`~mars_pyg.transforms.AddTextFeatures` makes features; :obj:`None`
            for the title. (default: :obj:`None`)
        image_column: Column of the paths of images, relative to ``root``.
            (default: :obj:`None`)
        factor_columns: Columns to take for factors; several values are separated by
            ``|``, an empty cell is a missing one. (default: :obj:`()`)
        profiles: The folder of the profiles; :obj:`None` for ``root/factors``, if it is
            there. (default: :obj:`None`)
        split: :obj:`"random"`, or :obj:`"time"`: the latest interactions of each user
            are for test, those before for validation. (default: :obj:`"random"`)
        ratios: Shares of train, validation and test, see
            :func:`~mars_pyg.datasets.interactions.split_interactions`.
            (default: :obj:`(0.8, 0.1, 0.1)`)
        k_core: Keep only users and items with this many interactions.
            (default: :obj:`None`)
        unknown_items: What to do with an interaction whose item is not in the items:
            :obj:`"error"` or :obj:`"drop"`. (default: :obj:`"error"`)
        seed: Seed of the random split. (default: :obj:`0`)
        transform: Applied to the graph at every access. (default: :obj:`None`)
        pre_transform: Applied to the graph before it is stored.
            (default: :obj:`None`)
        force_reload: Whether to make the graph again if it is stored.
            (default: :obj:`False`)
        processed_root: The folder of the processed graph, by default
            ``root/processed``, or the user's cache folder where ``root`` is read-only.
            (default: :obj:`None`)

    Raises:
        DataError: If a file is missing or not valid, or a split is empty.
        ValueError: If an argument is not valid.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        user_column: str = "user",
        item_column: str = "item",
        timestamp_column: str | None = None,
        id_column: str | None = None,
        title_column: str = "title",
        text_columns: Sequence[str] | None = None,
        image_column: str | None = None,
        factor_columns: Sequence[str] = (),
        profiles: str | os.PathLike[str] | None = None,
        split: str = "random",
        ratios: Sequence[float] = (0.8, 0.1, 0.1),
        k_core: int | None = None,
        unknown_items: str = "error",
        seed: int = 0,
        transform: Callable[[HeteroData], HeteroData] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
        processed_root: str | os.PathLike[str] | None = None,
    ) -> None:
        for name, value, allowed in (
            ("split", split, ("random", "time")),
            ("unknown_items", unknown_items, ("error", "drop")),
        ):
            if value not in allowed:
                raise ValueError(
                    f"'{name}' must be one of {list(allowed)} (got {value!r})"
                )
        if split == "time" and timestamp_column is None:
            raise ValueError("'split=\"time\"' needs 'timestamp_column'")
        factor_columns = names_of("factor_columns", factor_columns)
        if text_columns is not None:
            text_columns = names_of("text_columns", text_columns)
        if len(set(factor_columns)) < len(factor_columns):
            raise ValueError(f"'factor_columns' repeat a column (got {factor_columns})")
        if k_core is not None and k_core < 1:
            raise ValueError(f"'k_core' must be positive (got {k_core})")
        self.folder = user_path(root)
        if not self.folder.is_dir():
            raise DataError(
                "there is no such folder",
                mend="give the folder of interactions and items, or the name of a "
                "dataset",
                file=self.folder,
            )
        self.user_column, self.item_column = user_column, item_column
        self.timestamp_column, self.id_column = timestamp_column, id_column
        self.title_column, self.image_column = title_column, image_column
        self.text_columns = None if text_columns is None else tuple(text_columns)
        self.factor_columns = tuple(factor_columns)
        self.split, self.ratios, self.seed = split, tuple(ratios), seed
        self.k_core, self.unknown_items = k_core, unknown_items
        self.interactions_file = find_table(self.folder, "interactions")
        self.items_file = find_table(self.folder, "items")
        self.profile_folders = find_profiles(self.folder, profiles)
        self.feature_files = find_features(self.folder)

        files = [self.interactions_file, self.items_file, *self.feature_files.values()]
        for folder, table in self.profile_folders:
            files += [folder / SCHEMA, table]
        options = (
            user_column,
            item_column,
            timestamp_column,
            id_column,
            title_column,
            self.text_columns,
            image_column,
            # The paths of images are stored, and are others where the folder is moved.
            None if image_column is None else str(self.folder.absolute()),
            self.factor_columns,
            split,
            self.ratios,
            k_core,
            unknown_items,
            seed,
        )
        digest = fingerprint(files, options, pre_transform)
        processed_root = choose_processed_root(self.folder, processed_root)
        super().__init__(
            processed_root / f"catalogue-{digest}.pt",
            transform,
            pre_transform,
            force_reload,
        )

    def process(self) -> None:
        """Read the files and store the graph."""
        items, id_column = self._read_items()
        item_ids = items[id_column].tolist()
        users, user, item, timestamp = self._read_interactions(item_ids)
        label = split_interactions(
            user,
            item,
            self.ratios,
            self.seed,
            timestamp if self.split == "time" else None,
        )
        for index, (name, ratio) in enumerate(zip(SPLITS, self.ratios, strict=True)):
            if ratio > 0 and not (label == index).any():
                raise DataError(
                    f"the {name} split is empty: no user has interactions enough",
                    mend="bring users with three interactions or more",
                    file=self.interactions_file,
                )
        features = {}
        for modality, file in self.feature_files.items():
            if not is_feature_modality(modality):
                raise DataError(
                    f"{modality!r} cannot be the name of a modality",
                    mend="rename the file to another word of letters, digits and "
                    f"underscores before '_feat{file.suffix}'",
                    file=file,
                )
            x = read_features(file)
            check_features(x, file, self.items_file, len(item_ids))
            features[modality] = x
        profiles = read_profiles(self.profile_folders, item_ids, id_column)
        if self.factor_columns:
            if CATALOGUE in profiles:
                raise DataError(
                    f"there are factor columns and profiles of the modality "
                    f"{CATALOGUE!r}, which is that of factor columns",
                    mend="give the profiles another modality in their schema.json, or "
                    "choose no factor columns",
                    file=self.items_file,
                    field=self.factor_columns[0],
                )
            profiles[CATALOGUE] = column_profiles(
                items, self.factor_columns, id_column, self.items_file
            )
        edge_index = torch.stack([user, item])
        train, val, test = (edge_index[:, label == index] for index in range(3))
        data = build_graph(
            user_ids=users,
            item_ids=item_ids,
            train=train,
            val=val,
            test=test,
            item_text=self._texts(items, item_ids),
            features=features,
            profiles=profiles,
        )
        if self.image_column is not None:
            data["item"].image_path = find_images(
                items[self.image_column], self.folder.absolute(), self.items_file
            )
        self.finish(data)

    def _read_items(self) -> tuple[DataFrame, str]:
        """Read the items, with their ids checked, and the name of the ids' column."""
        file = self.items_file
        table = read_table(file)
        id_column = self.id_column
        if id_column is None:
            id_column = self.item_column if self.item_column in table else "id"
        wanted = [id_column, *(self.text_columns or ()), *self.factor_columns]
        if self.image_column is not None:
            wanted.append(self.image_column)
        for name in wanted:
            check_column(table, name, file)
        check_repeated_header(table, file)
        if table.empty:
            raise DataError(
                "there are no items", mend="write a row per item", file=file
            )
        table[id_column] = check_ids(table[id_column], file)
        check_unique(table, id_column, file)
        log_unread(table, [*wanted, self.title_column], file)
        texts = {self.title_column, *(self.text_columns or ()), *self.factor_columns}
        for name in sorted((texts - {id_column}) & set(table.columns)):
            table[name] = [html.unescape(cell) for cell in table[name]]
        return table, id_column

    def _read_interactions(
        self, item_ids: list[str]
    ) -> tuple[list[str], Tensor, Tensor, Tensor | None]:
        """Read users' ids, and user, item and time of the interactions that count."""
        import pandas as pd

        file = self.interactions_file
        columns = [self.user_column, self.item_column]
        if self.timestamp_column is not None:
            columns.append(self.timestamp_column)
        table = read_table(file)
        for name in columns:
            check_column(table, name, file)
        check_repeated_header(table, file)
        log_unread(table, columns, file)
        user_id, item_id = (check_ids(table[name], file) for name in columns[:2])
        item = pd.Index(item_ids).get_indexer(pd.Index(item_id))
        self._check_unknown(item, item_id)
        frame = pd.DataFrame({"user": user_id, "item": item})
        if self.timestamp_column is not None:
            frame["time"] = parse_times(table[self.timestamp_column], file)
        known = frame[frame["item"] >= 0]
        _warn_left_out(frame, known, "of items that are not in the catalogue")
        frame = known

        earliest = (
            frame.sort_values("time", kind="stable") if "time" in frame else frame
        )
        kept = earliest.drop_duplicates(["user", "item"]).sort_index()
        if len(kept) < len(frame):
            warnings.warn(
                f"{len(frame) - len(kept)} of {len(frame)} interactions repeat a pair "
                "of user and item; the earliest of each pair counts",
                stacklevel=2,
            )
        if self.k_core is not None:
            codes = torch.from_numpy(pd.factorize(kept["user"])[0].astype(np.int64))
            items = torch.from_numpy(kept["item"].to_numpy(np.int64, copy=True))
            inside = kept[k_core(codes, items, self.k_core).numpy()]
            _warn_left_out(kept, inside, f"not in the {self.k_core}-core")
            kept = inside
        if kept.empty:
            raise DataError(
                "no interaction is left",
                mend="bring interactions of items in the catalogue, or lower 'k_core'",
                file=file,
            )
        codes_array, users = pd.factorize(kept["user"])
        timestamp = None
        if "time" in kept:
            timestamp = torch.from_numpy(kept["time"].to_numpy(copy=True))
        return (
            [str(name) for name in users],
            torch.from_numpy(codes_array.astype(np.int64)),
            torch.from_numpy(kept["item"].to_numpy(np.int64, copy=True)),
            timestamp,
        )

    def _check_unknown(self, item: np.ndarray, item_id: Series) -> None:
        unknown = item < 0
        if unknown.any() and self.unknown_items == "error":
            index = int(unknown.argmax())
            raise DataError(
                f"unknown item {item_id.iloc[index]!r}, one of {int(unknown.sum())} "
                "interactions of items that are not in the catalogue",
                mend=f"add the items to {self.items_file.name}, or choose "
                "unknown_items='drop'",
                file=self.interactions_file,
                row=row_of(index, self.interactions_file),
                field=self.item_column,
            )

    def _texts(self, items: DataFrame, item_ids: list[str]) -> dict[str, list[str]]:
        """The titles, and the texts to make features of."""
        texts = {}
        if self.title_column in items:
            # A title is one line, wherever it is shown.
            titles = items[self.title_column].str.split().str.join(" ")
            texts["title"] = titles.tolist()
        elif self.title_column != "title":
            check_column(items, self.title_column, self.items_file)
        if self.text_columns is None:
            # An id says nothing about an item, so it is a title but never a text.
            texts["text"] = texts.get("title", [""] * len(items))
        else:
            rows = items[list(self.text_columns)].to_numpy().tolist()
            texts["text"] = [" ".join(" ".join(row).split()) for row in rows]
        if "title" not in texts:
            logger.info(
                "%s: no column %r; the ids of the items serve as titles",
                self.items_file,
                self.title_column,
            )
            texts["title"] = item_ids
        return texts

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r})"


def _warn_left_out(before: DataFrame, after: DataFrame, reason: str) -> None:
    """Count the interactions that are left out, and the users who go with them."""
    if len(after) == len(before):
        return
    users = before["user"].nunique() - after["user"].nunique()
    warnings.warn(
        f"{len(before) - len(after)} of {len(before)} interactions are {reason} and "
        "are left out" + (f", and with them {users} users" if users else ""),
        stacklevel=2,
    )
