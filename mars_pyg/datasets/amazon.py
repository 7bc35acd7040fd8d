"""The Amazon review datasets of 2014."""

from __future__ import annotations

import html
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.datasets.amazon_raw import CATEGORIES, URL, prepare_amazon
from mars_pyg.datasets.build import build_graph, is_reserved
from mars_pyg.datasets.catalogue_files import (
    CATALOGUE,
    check_features,
    column_profiles,
)
from mars_pyg.datasets.interactions import read_inter
from mars_pyg.datasets.shipped_profiles import read_shipped_profiles, shipped_files
from mars_pyg.datasets.storage import (
    GraphDataset,
    choose_processed_root,
    fingerprint,
)
from mars_pyg.errors import DataError
from mars_pyg.factors.profile_folder import SCHEMA, find_profiles, read_profiles
from mars_pyg.features.chunks import model_identity
from mars_pyg.features.files import find_features, read_features
from mars_pyg.files import user_path
from mars_pyg.names import names_of
from mars_pyg.tables import check_repeated_header, check_unique, read_table, row_of
from mars_pyg.transforms import AddTextFeatures

if TYPE_CHECKING:
    from pandas import DataFrame

#: Columns of items.tsv that features may be made from; the first one there counts.
TEXT_COLUMNS = ("text", "brand_and_categories", "title")
#: Columns of items.tsv to show to people; the first one there counts.
TITLE_COLUMNS = ("title", "idgenrec_text")
#: Columns of items.tsv that are factors where there are no profiles.
FACTOR_COLUMNS = ("brand", "categories")


class AmazonFactorDataset(GraphDataset):
    r"""The Amazon 2014 5-core review data of a category, with factor profiles.

    The files are looked for in ``root``, ``root/amazon-<name>`` and ``root/<name>``:

    - ``<name>.inter``: interactions with their split, see
      :func:`~mars_pyg.datasets.interactions.read_inter`;
    - ``users.tsv`` (optional): ``userID`` as in the interactions and ``reviewerID``;
    - ``items.tsv`` (optional): ``itemID`` as in the interactions, ``asin``, and texts,
      in which HTML entities are resolved and an empty field is a missing one;
    - ``factors`` (optional): ``schema.json`` and ``profiles.tsv``, ``.csv`` or
      ``.parquet``, see :meth:`~mars_pyg.factors.FactorProfiles.read`, or one such
      folder for each modality inside it;
    - ``<modality>_feat.npy`` or ``.safetensors`` (optional): features, whose row ``i``
      is of the item numbered ``i``.

    Where they are not, they are made in ``root/amazon-<name>`` from the files as
    published, which are looked for in ``root/raw`` and else downloaded, see
    :func:`~mars_pyg.datasets.amazon_raw.prepare_amazon`.

    The graph is that of :func:`~mars_pyg.datasets.build.build_graph`. An item's id is
    its ASIN, or its number where there is no ``items.tsv``, and likewise a user's.
    ``data['item'].text`` is the text that features may be made from: the column
    ``text`` if there is one, else ``brand_and_categories``, else ``title``. The column
    ``idgenrec_text`` is a title to show where there is none, and nothing else.

    For Baby and Sports, profiles come with the package; a card beside them says how
    they were made. They are used where there is no folder of profiles, for the items
    whose ASIN they hold.

    Args:
        root: The folder of the data.
        name: ``"baby"``, ``"sports"`` or ``"clothing"``. (default: :obj:`"baby"`)
        text_model: The model that makes ``x_text`` where there are no features of
            texts, see :class:`~mars_pyg.transforms.AddTextFeatures`, or
            :obj:`None` to do without. (default: :obj:`None`)
        factor_columns: Columns of ``items.tsv`` to take for factors, as profiles of the
            modality ``catalogue``; several values are separated by ``|``. :obj:`None`
            takes ``brand`` and ``categories``, as far as they are there, where there
            are no profiles. (default: :obj:`None`)
        profiles: The folder of the profiles; :obj:`None` for ``factors``, if it is
            there. (default: :obj:`None`)
        shipped_profiles: Whether the profiles that come with the package are used
            where there are no others. (default: :obj:`True`)
        transform: Applied to the graph at every access. (default: :obj:`None`)
        pre_transform: Applied to the graph before it is stored.
            (default: :obj:`None`)
        force_reload: Whether to make the graph again if it is stored.
            (default: :obj:`False`)
        processed_root: The folder of the processed graph, by default
            ``root/processed``, or the user's cache folder where ``root`` is read-only.
            (default: :obj:`None`)
        url: Where published files are downloaded from.
            (default: the project that published them)

    Raises:
        DataError: If a file is missing or not valid, or cannot be downloaded.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        name: str = "baby",
        text_model: str | None = None,
        factor_columns: Sequence[str] | None = None,
        profiles: str | os.PathLike[str] | None = None,
        shipped_profiles: bool = True,
        transform: Callable[[HeteroData], HeteroData] | None = None,
        pre_transform: Callable[[HeteroData], HeteroData] | None = None,
        force_reload: bool = False,
        processed_root: str | os.PathLike[str] | None = None,
        url: str = URL,
    ) -> None:
        if name not in CATEGORIES:
            raise ValueError(
                f"name must be one of {', '.join(CATEGORIES)}, got {name!r}"
            )
        self.name = name
        root = user_path(root)
        folder = find_prepared(root, name)
        if folder is None:
            folder = root / f"amazon-{name}"
            prepare_amazon(root / "raw", folder, name, url)
        self.folder = folder
        self.text_model = text_model
        self.factor_columns = None
        if factor_columns is not None:
            self.factor_columns = tuple(names_of("factor_columns", factor_columns))
        self.profile_folders = find_profiles(folder, profiles)
        self.shipped_profiles = shipped_profiles and not self.profile_folders
        encoder = None if text_model is None else model_identity(text_model)
        digest = fingerprint(
            self._input_files(),
            (name, encoder, self.factor_columns, self.shipped_profiles),
            pre_transform,
        )
        processed_root = choose_processed_root(root, processed_root)
        processed_file = processed_root / f"amazon-{name}-{digest}.pt"
        super().__init__(processed_file, transform, pre_transform, force_reload)

    def text_models(self) -> list[str]:
        """The models that were asked for to make text features."""
        models = [] if self.text_model is None else [self.text_model]
        return models + super().text_models()

    def process(self) -> None:
        """Read the files and store the graph."""
        data = read_prepared(
            self.folder,
            self.name,
            self.factor_columns,
            self.profile_folders,
            self.shipped_profiles,
        )
        if self.text_model is not None:
            data = AddTextFeatures(self.text_model, self.processed_dir)(data)
        self.finish(data)

    def _input_files(self) -> list[Path]:
        names = [f"{self.name}.inter", "users.tsv", "items.tsv"]
        files = [self.folder / name for name in names]
        files += find_features(self.folder).values()
        for folder, table in self.profile_folders:
            files += [folder / SCHEMA, table]
        if self.shipped_profiles:
            files += shipped_files(self.name) or ()
        return [file for file in files if file.is_file()]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


def find_prepared(root: Path, name: str) -> Path | None:
    """Find the folder of the prepared files of a category, if there is one."""
    for folder in (root, root / f"amazon-{name}", root / name):
        if (folder / f"{name}.inter").is_file():
            return folder
    return None


def read_prepared(
    folder: Path,
    name: str,
    factor_columns: Sequence[str] | None = None,
    profile_folders: Sequence[tuple[Path, Path]] = (),
    shipped_profiles: bool = False,
) -> HeteroData:
    """Make the graph of the prepared files in a folder.

    Args:
        folder: The folder of the files.
        name: The name of the interactions, without suffix.
        factor_columns: See :class:`AmazonFactorDataset`. (default: :obj:`None`)
        profile_folders: The folders of profiles, and the table in each.
            (default: :obj:`()`)
        shipped_profiles: Whether to use the profiles that come with the package.
            (default: :obj:`False`)

    Returns:
        The graph.

    Raises:
        DataError: If a file is missing or not valid.
    """
    inter = folder / f"{name}.inter"
    user, item, label = read_inter(inter)
    feature_files = find_features(folder)
    features = {
        modality: read_features(file) for modality, file in feature_files.items()
    }
    item_text: dict[str, list[str]] = {}
    if (folder / "items.tsv").is_file():
        numbers, item_ids, item_text = _read_items(folder / "items.tsv")
        id_column = "asin"
    else:
        rows = {len(x) for x in features.values()}
        numbers = torch.arange(max(rows)) if rows else item.unique()
        item_ids = [str(number) for number in numbers.tolist()]
        id_column = "itemID"
    if features and not torch.equal(numbers, torch.arange(len(numbers))):
        raise DataError(
            "items are not numbered from 0 without gaps, so that the rows of the "
            "features cannot be told",
            mend="number the items by the rows of the features",
            file=folder,
            field="itemID",
        )
    if not item_ids:
        raise DataError(
            "there are no items", mend="bring a row for every item", file=folder
        )
    for modality, file in feature_files.items():
        check_features(features[modality], file, folder / "items.tsv", len(item_ids))
    position = torch.searchsorted(numbers, item).clamp(max=len(numbers) - 1)
    unknown = numbers[position] != item
    if unknown.any():
        index = int(unknown.nonzero()[0])
        raise DataError(
            f"unknown item {int(item[index])}",
            mend="add the item to items.tsv and the features, or remove the row",
            file=inter,
            row=row_of(index, inter),
            field="itemID",
        )
    profiles = read_profiles(profile_folders, item_ids, id_column)
    if shipped_profiles and id_column == "asin":
        profiles = read_shipped_profiles(name, item_ids)
    if factor_columns is None:
        found = [column for column in FACTOR_COLUMNS if column in item_text]
        factor_columns = [] if profiles else found
    if factor_columns:
        import pandas as pd

        if CATALOGUE in profiles:
            raise DataError(
                f"there are profiles of the modality {CATALOGUE!r} already",
                mend="give them another name in schema.json, or take no columns",
                file=folder,
                field="factor_columns",
            )
        table = pd.DataFrame({"asin": item_ids, **item_text})
        profiles[CATALOGUE] = column_profiles(
            table, factor_columns, "asin", folder / "items.tsv"
        )
    users, user = user.unique(return_inverse=True)
    edge_index = torch.stack([user, position])
    return build_graph(
        user_ids=_user_ids(folder / "users.tsv", users.tolist()),
        item_ids=item_ids,
        train=edge_index[:, label == 0],
        val=edge_index[:, label == 1],
        test=edge_index[:, label == 2],
        item_text=item_text,
        features=features,
        profiles=profiles,
    )


def _user_ids(file: Path, numbers: list[int]) -> list[str]:
    """The ids of users, which are their numbers where there is no file of them."""
    if not file.is_file():
        return [str(number) for number in numbers]
    table = read_table(file, ["userID", "reviewerID"])
    check_repeated_header(table, file)
    for column in ("userID", "reviewerID"):
        check_unique(table, column, file)
    names = dict(zip(table["userID"], table["reviewerID"].str.strip(), strict=True))
    missing = [number for number in numbers if not names.get(str(number))]
    if missing:
        raise DataError(
            f"user {missing[0]} of the interactions has no id, one of {len(missing)}",
            mend="add a row for each user, or take the file away",
            file=file,
            field="userID",
        )
    return [names[str(number)] for number in numbers]


def _read_items(file: Path) -> tuple[Tensor, list[str], dict[str, list[str]]]:
    """Read the numbers, ids and texts of the items, sorted by number."""
    table = read_table(file, ["itemID", "asin"])
    check_repeated_header(table, file)
    _check_cells(table, "itemID", file, pattern=r"\d{1,18}")
    _check_cells(table, "asin", file, pattern=r".*\S.*")
    table["itemID"] = table["itemID"].astype("int64")
    # The same number may have been written in two ways.
    check_unique(table, "itemID", file)
    table = table.sort_values("itemID")
    text = {}
    for name in table.columns:
        if is_reserved(name):
            warnings.warn(
                f"the column {name!r} of {file} is left out, since a graph has this "
                "name for something else; give it another name to keep it",
                stacklevel=2,
            )
        elif name not in ("itemID", "asin"):
            text[name] = [html.unescape(cell).strip() for cell in table[name]]
    # The text first: a title to show is no text to make features from.
    for name, columns in [("text", TEXT_COLUMNS), ("title", TITLE_COLUMNS)]:
        found = [column for column in columns if column in text]
        if found:
            text[name] = text[found[0]]
    # An unknown brand leaves the bar behind it.
    text["text"] = [entry.strip(" |") for entry in text.get("text", [])]
    text = {
        name: entries
        for name, entries in text.items()
        if entries and name != "idgenrec_text"
    }
    numbers = torch.from_numpy(table["itemID"].to_numpy().copy())
    return numbers, table["asin"].str.strip().tolist(), text


def _check_cells(table: DataFrame, name: str, file: Path, pattern: str) -> None:
    fault = ~table[name].str.fullmatch(pattern).to_numpy(dtype=bool)
    if fault.any():
        index = int(fault.argmax())
        raise DataError(
            f"the id {table[name].iloc[index]!r} is not valid",
            mend="give every item a whole number from 0 and an ASIN",
            file=file,
            row=row_of(index, file),
            field=name,
        )
    check_unique(table, name, file)
