"""The items of a catalogue, as factor reasoners read them."""

from __future__ import annotations

import html
from collections.abc import Sequence, Sized
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Self

from torch import Tensor
from torch_geometric.data import HeteroData

from mars_pyg.errors import DataError
from mars_pyg.tables import (
    check_column,
    check_ids,
    check_repeated_header,
    check_unique,
    read_table,
)

#: Columns of ids; the first one that a table has counts.
ID_COLUMNS = ("asin", "item", "id", "itemID")
#: Names under which graphs hold images; the first one there counts.
IMAGE_NAMES = ("image_path", "image_url")


@dataclass(frozen=True, eq=False)
class ItemCatalogue:
    r"""The items of a catalogue: their ids, and what is known of them.

    Args:
        ids: The ``N`` ids, distinct and not empty.
        fields: Texts by name, such as ``title``, ``description`` or ``brand``: one
            string per item, empty where it is missing. (default: :obj:`{}`)
        images: The path or URL of each item's image, empty where it is missing; an
            empty list where there are none. (default: :obj:`[]`)
        features: Features ``[N, D]`` by modality, of which rows of zeros are missing.
            (default: :obj:`{}`)
        id_column: The name of the column of the ids, for the files that are made of
            this catalogue. (default: :obj:`"id"`)

    Raises:
        DataError: If an id is empty or repeated, or there is not one entry per item.
    """

    ids: list[str]
    fields: dict[str, list[str]] = field(default_factory=dict)
    images: list[str] = field(default_factory=list)
    features: dict[str, Tensor] = field(default_factory=dict)
    id_column: str = "id"

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for position, name in enumerate(self.ids):
            if not name or name in seen:
                problem = "is there twice" if name else "is empty"
                raise DataError(
                    f"the id {name!r} of item {position} {problem}",
                    mend="give every item an id of its own",
                    field="ids",
                )
            seen.add(name)
        entries: dict[str, Sized] = {**self.fields, **self.features}
        if self.images:
            entries["images"] = self.images
        for name, entry in entries.items():
            if len(entry) != len(self.ids):
                raise DataError(
                    f"expected {len(self.ids)} entries, one per item, got {len(entry)}",
                    mend="give an empty string or a row of zeros for what is missing",
                    field=name,
                )

    @classmethod
    def from_table(
        cls,
        path: str | PathLike[str],
        id_column: str | None = None,
        text_columns: Sequence[str] | None = None,
        image_column: str | None = None,
    ) -> Self:
        r"""Read a catalogue from a csv, tsv or parquet file with a row per item.

        HTML entities in texts are resolved. Items are in the order in which a dataset
        has them: that of the file, and beside prepared Amazon data, a file
        ``<name>.inter``, that of their numbers ``itemID``.

        Args:
            path: The file to read, see :func:`~mars_pyg.tables.read_table`.
            id_column: The column of the ids; :obj:`None` for the first of ``asin``,
                ``item``, ``id`` and ``itemID`` that is there. (default: :obj:`None`)
            text_columns: The columns to take for fields; :obj:`None` for all but those
                named as ids or images are: ``asin``, ``item``, ``id``, ``itemID``,
                ``image_path`` and ``image_url``. (default: :obj:`None`)
            image_column: The column of the paths or URLs of images.
                (default: :obj:`None`)

        Returns:
            The catalogue.

        Raises:
            DataError: If the file, a column or an id is not valid.
        """
        table = read_table(path)
        if id_column is None:
            found = [name for name in ID_COLUMNS if name in table.columns]
            if not found:
                raise DataError(
                    f"no column of ids; there are {', '.join(table.columns)}",
                    mend=f"name it {' or '.join(ID_COLUMNS)}, or say which it is",
                    file=path,
                )
            id_column = found[0]
        if text_columns is None:
            others = {id_column, image_column, *ID_COLUMNS, *IMAGE_NAMES}
            text_columns = [name for name in table.columns if name not in others]
        images = [] if image_column is None else [image_column]
        for name in [id_column, *text_columns, *images]:
            check_column(table, name, path)
        check_repeated_header(table, path)
        table[id_column] = check_ids(table[id_column], path)
        check_unique(table, id_column, path)
        is_prepared = any(Path(path).parent.glob("*.inter"))
        if is_prepared and "itemID" in table.columns:
            number = table["itemID"]
            if number.str.fullmatch(r"\d{1,18}").all():
                table = table.iloc[number.astype("int64").argsort(kind="stable")]
        return cls(
            table[id_column].tolist(),
            {
                name: [html.unescape(cell).strip() for cell in table[name]]
                for name in text_columns
            },
            table[images[0]].str.strip().tolist() if images else [],
            id_column=id_column,
        )

    @classmethod
    def from_data(cls, data: HeteroData, id_column: str = "id") -> Self:
        r"""Take the catalogue out of a graph, as datasets return it.

        Args:
            data: The graph, with ``data['item'].id``. Its lists of texts become fields,
                ``image_path`` or ``image_url`` the images, and ``x_<modality>`` the
                features.
            id_column: The name of the column of the ids in files.
                (default: :obj:`"id"`)

        Returns:
            The catalogue.

        Raises:
            DataError: If the graph has no ids of items.
        """
        store = data["item"].to_dict()
        if "id" not in store:
            raise DataError(
                "the graph has no ids of items",
                mend="set data['item'].id to a list of strings",
                field="id",
            )
        ids = list(store["id"])
        texts = {
            name: list(entry)
            for name, entry in store.items()
            if name != "id"
            and isinstance(entry, list | tuple)
            # Ids that take the place of titles say nothing.
            and list(entry) != ids
            and len(entry) == len(ids)
            and all(isinstance(text, str) for text in entry)
        }
        images = [texts.pop(name) for name in IMAGE_NAMES if name in texts]
        features = {
            name.removeprefix("x_"): x
            for name, x in store.items()
            if name.startswith("x_") and isinstance(x, Tensor)
        }
        return cls(ids, texts, images[0] if images else [], features, id_column)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(num_items={len(self)}, "
            f"fields={list(self.fields)}, images={sum(map(bool, self.images))}, "
            f"features={list(self.features)})"
        )
