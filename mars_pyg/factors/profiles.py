"""Factor profiles: which values the items of a catalogue have."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from mars_pyg.errors import DataError
from mars_pyg.factors.schema import SEPARATOR, Factor, FactorSchema
from mars_pyg.tables import (
    check_repeated_header,
    check_text,
    read_table,
    row_of,
    write_table,
)

if TYPE_CHECKING:
    from pandas import DataFrame, Series


@dataclass(frozen=True, eq=False)
class FactorProfiles:
    r"""The factor values of items, as seen in one modality.

    Assignment ``e`` says that item ``item_index[e]`` has the value
    ``value_names[value_index[e]]``, which belongs to the factor
    ``schema.factors[factor_index[e]]``. No assignment means that the value cannot be
    told. Make profiles with :meth:`read`, :meth:`from_table`, :meth:`from_columns` or
    :meth:`from_assignments`.

    Args:
        schema: The factors.
        num_items: Number of items of the catalogue.
        item_index: The item of each assignment ``[E]``, int64.
        value_index: The value of each assignment ``[E]``, int64.
        value_factor: The factor of each value ``[V]``, int64, ascending.
        value_names: The ``V`` names of the values: per factor in the order of the
            schema, or sorted where the vocabulary is open.
    """

    schema: FactorSchema
    num_items: int
    item_index: Tensor
    value_index: Tensor
    value_factor: Tensor
    value_names: list[str]

    @property
    def factor_index(self) -> Tensor:
        """The factor of each assignment ``[E]``, int64."""
        return self.value_factor[self.value_index]

    @property
    def factor_names(self) -> list[str]:
        """The names of the factors."""
        return [factor.name for factor in self.schema.factors]

    @classmethod
    def read(
        cls,
        path: str | PathLike[str],
        schema: FactorSchema,
        item_ids: Sequence[str],
        id_column: str = "itemID",
        ignore: Sequence[str] = ("itemID", "asin"),
    ) -> FactorProfiles:
        r"""Read profiles from a csv, tsv or parquet file.

        The table has a row per item and a column per factor. An empty cell is a value
        that cannot be told, and several values are separated by ``|`` where the factor
        allows them. Items without a row have no values.

        Args:
            path: The file to read.
            schema: The factors; each must have a column.
            item_ids: The catalogue's ids, in the order of the items.
            id_column: The column of the ids. (default: :obj:`"itemID"`)
            ignore: Columns that may be there and are not read.
                (default: :obj:`("itemID", "asin")`)

        Returns:
            The profiles.

        Raises:
            DataError: If the file or one of its cells is not valid.
        """
        return cls.from_table(
            read_table(path), schema, item_ids, id_column, ignore, file=path
        )

    @classmethod
    def from_table(
        cls,
        table: DataFrame,
        schema: FactorSchema,
        item_ids: Sequence[str],
        id_column: str = "itemID",
        ignore: Sequence[str] = ("itemID", "asin"),
        file: str | PathLike[str] | None = None,
    ) -> FactorProfiles:
        r"""Take profiles from a table in memory.

        Args:
            table: The table; missing values may be empty strings or null.
            schema: The factors; each must have a column.
            item_ids: The catalogue's ids, in the order of the items.
            id_column: The column of the ids. (default: :obj:`"itemID"`)
            ignore: Columns that may be there and are not read.
                (default: :obj:`("itemID", "asin")`)
            file: The file that the table came from, for error messages.
                (default: :obj:`None`)

        Returns:
            The profiles.

        Raises:
            DataError: If a column or a cell is not valid.
        """
        names = [factor.name for factor in schema.factors]
        for name in [id_column, *names]:
            if name not in table.columns:
                check_text(name, file)
                is_id = name == id_column
                raise DataError(
                    "the column of the items' ids is missing"
                    if is_id
                    else "the column is missing",
                    mend="name the column of the ids as in the items"
                    if is_id
                    else "add the column, or take the factor out of the schema",
                    file=file,
                    field=name,
                )
        for column in table.columns:
            if column not in {id_column, *names, *ignore}:
                close = difflib.get_close_matches(str(column), names)
                raise DataError(
                    "the schema has no such factor",
                    mend=f"rename it to one of {close}"
                    if close
                    else "add the factor to the schema or remove the column",
                    file=file,
                    field=str(column),
                )
        table = table.reset_index(drop=True).astype(object).fillna("").astype(str)
        check_repeated_header(table, file)
        item = _match_items(table[id_column].str.strip(), item_ids, file)
        row, factor, value = [], [], []
        for index, entry in enumerate(schema.factors):
            cells = _cells(table[entry.name], entry)
            if entry.values is not None:
                _check_closed(cells, entry, file)
            row.append(cells.index.to_numpy(dtype=np.int64))
            factor.append(np.full(len(cells), index, dtype=np.int64))
            value.extend(cells.tolist())
        return cls.from_assignments(
            schema,
            len(item_ids),
            torch.from_numpy(item[np.concatenate(row)]),
            torch.from_numpy(np.concatenate(factor)),
            value,
        )

    @classmethod
    def from_columns(
        cls,
        table: DataFrame,
        columns: Sequence[str],
        item_ids: Sequence[str],
        id_column: str,
        multiple: Sequence[str] = (),
        modality: str = "text",
        file: str | PathLike[str] | None = None,
    ) -> FactorProfiles:
        r"""Take columns of a catalogue for factors with open vocabularies.

        Args:
            table: The catalogue, with a row per item.
            columns: The columns to take.
            item_ids: The catalogue's ids, in the order of the items.
            id_column: The column of the ids.
            multiple: Those of ``columns`` that hold several values, separated by ``|``.
                (default: :obj:`()`)
            modality: The modality of the profiles. (default: :obj:`"text"`)
            file: The file that the table came from, for error messages.
                (default: :obj:`None`)

        Returns:
            The profiles.

        Raises:
            DataError: If a column, an item id or the modality is not valid.
        """
        try:
            schema = FactorSchema(
                modality=modality,
                factors=[
                    Factor(name=name, multiple=name in multiple) for name in columns
                ],
            )
        except ValidationError as error:
            raise DataError(
                f"the columns make no schema: {error.errors()[0]['msg']}",
                mend="name a column or more, each of them once, and the modality",
                file=file,
                field=str(error.errors()[0]["loc"][0]),
            ) from error
        for column in columns:
            if column not in table.columns:
                raise DataError(
                    "the column is missing",
                    mend=f"choose among {', '.join(map(str, table.columns))}",
                    file=file,
                    field=column,
                )
        if id_column in columns:
            raise DataError(
                "the column of the ids cannot be a factor",
                mend="take it out of the columns",
                file=file,
                field=id_column,
            )
        table = table[[id_column, *columns]].reset_index(drop=True)
        table = table.astype(object).fillna("").astype(str)
        for column in columns:
            cells = table[column].str.lower().str.split(SEPARATOR, regex=False)
            values = cells.explode().str.strip()
            missing = values.index[values == "nan"]
            if len(missing):
                # Such a value would link items that have nothing in common.
                raise DataError(
                    f"the value is missing (got {table[column].iloc[missing[0]]!r})",
                    mend="leave the field of a missing value empty",
                    file=file,
                    row=row_of(int(missing[0]), file),
                    field=column,
                )
        return cls.from_table(table, schema, item_ids, id_column, (), file)

    @classmethod
    def from_assignments(
        cls,
        schema: FactorSchema,
        num_items: int,
        item_index: Tensor,
        factor_index: Tensor,
        values: Sequence[str],
    ) -> FactorProfiles:
        r"""Make profiles of triplets (item, factor, value); repeated ones are merged.

        White space inside values of open vocabularies becomes single spaces.

        Args:
            schema: The factors.
            num_items: Number of items of the catalogue.
            item_index: The item of each assignment ``[E]``, int64.
            factor_index: The factor of each assignment ``[E]``, int64.
            values: The value of each assignment, ``E`` strings.

        Returns:
            The profiles, sorted by item and value.

        Raises:
            ValueError: If an index is out of range, a value is not in the closed
                vocabulary of its factor, or an item has several values under a factor
                that allows one.
        """
        num_factors = len(schema.factors)
        if not len(item_index) == len(factor_index) == len(values):
            raise ValueError(
                f"as many items, factors and values are needed, got {len(item_index)}, "
                f"{len(factor_index)} and {len(values)}"
            )
        for name, index, size in [
            ("item_index", item_index, num_items),
            ("factor_index", factor_index, num_factors),
        ]:
            if len(index) and not 0 <= int(index.min()) <= int(index.max()) < size:
                raise ValueError(f"{name} must lie in 0 to {size - 1}")
        names, value_factor, value_index = _number_values(schema, factor_index, values)
        # One number per pair, of which torch finds the distinct ones far faster.
        key = (item_index.long() * len(names) + value_index).unique()
        item, value = key // max(len(names), 1), key % max(len(names), 1)
        slot = item * num_factors + value_factor[value]
        slot, count = slot.unique(return_counts=True)
        single = torch.tensor([not factor.multiple for factor in schema.factors])
        excess = slot[(count > 1) & single[slot % num_factors]]
        if len(excess):
            first = int(excess[0])
            raise ValueError(
                f"item {first // num_factors} has several values under "
                f"{schema.factors[first % num_factors].name!r}, which allows one"
            )
        return cls(schema, num_items, item, value, value_factor, names)

    def write(
        self,
        path: str | PathLike[str],
        item_ids: Sequence[str],
        id_column: str = "itemID",
    ) -> None:
        """Write the profiles as a file that :meth:`read` understands.

        Args:
            path: The file to write, csv, tsv or parquet by its name; it takes the
                place of an older one.
            item_ids: The catalogue's ids, in the order of the items. Items without a
                value get no row.
            id_column: The name of the column of the ids. (default: :obj:`"itemID"`)

        Raises:
            DataError: If a factor has that name.
        """
        import pandas as pd

        self.schema.check_id_column(id_column)
        cells = {name: self.labels(k) for k, name in enumerate(self.factor_names)}
        table = pd.DataFrame(cells, index=self.item_index.unique().numpy())
        table.insert(0, id_column, [item_ids[item] for item in table.index])
        write_table(table, path)

    def labels(self, factor: int) -> Series:
        """The values of a factor, a text per item that has any, indexed by item.

        Args:
            factor: The factor's place in the schema.

        Returns:
            Several values of an item are one text, separated by ``|``.
        """
        import pandas as pd

        mine = (self.factor_index == factor).numpy()
        names = np.array(self.value_names, dtype=object)
        texts = names[self.value_index.numpy()[mine]]
        index = pd.Index(self.item_index.numpy()[mine], name="item")
        if not index.has_duplicates:
            return pd.Series(texts, index=index, dtype=object)
        order = index.argsort(kind="stable")
        index, ordered = index[order], texts[order].tolist()
        start = np.flatnonzero(~index.duplicated())
        bounds = zip(start, [*start[1:], len(ordered)], strict=True)
        joined = [SEPARATOR.join(ordered[first:last]) for first, last in bounds]
        return pd.Series(joined, index=index[start])

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(modality={self.schema.modality!r}, "
            f"num_items={self.num_items}, num_factors={len(self.schema.factors)}, "
            f"num_values={len(self.value_names)}, "
            f"num_assignments={len(self.item_index)})"
        )


def _match_items(
    ids: Series, item_ids: Sequence[str], file: str | PathLike[str] | None
) -> np.ndarray:
    index_of = {name: index for index, name in enumerate(item_ids)}
    item = np.array([index_of.get(name, -1) for name in ids], dtype=np.int64)
    repeated = ids.duplicated().to_numpy()
    for fault, problem, mend in [
        (item < 0, "unknown item", "remove the row or add the item to the catalogue"),
        (repeated, "the item has two rows", "keep one row per item"),
    ]:
        if fault.any():
            index = int(fault.argmax())
            raise DataError(
                f"{problem}: {ids.iloc[index]!r}",
                mend=mend,
                file=file,
                row=row_of(index, file),
                field=str(ids.name),
            )
    return item


def _cells(column: Series, factor: Factor) -> Series:
    """List the values of a column, indexed by their rows."""
    if factor.multiple:
        column = column.str.split(SEPARATOR, regex=False).explode()
    column = column.str.strip()
    return column[column != ""]


def _check_closed(
    cells: Series, factor: Factor, file: str | PathLike[str] | None
) -> None:
    values = factor.values or []
    fault = ~cells.isin(values).to_numpy()
    if not fault.any():
        return
    value = cells.iloc[int(fault.argmax())]
    close = difflib.get_close_matches(value, values, cutoff=0.4)
    if not factor.multiple and SEPARATOR in value:
        mend = "set multiple to true in the schema, or keep one value"
    elif close:
        mend = f"write {' or '.join(map(repr, close))}, or leave the cell empty"
    else:
        mend = "use a value of the schema, or leave the cell empty"
    raise DataError(
        f"the value {value!r} is not in the schema",
        mend=mend,
        file=file,
        row=row_of(int(cells.index[int(fault.argmax())]), file),
        field=factor.name,
    )


def _number_values(
    schema: FactorSchema, factor_index: Tensor, values: Sequence[str]
) -> tuple[list[str], Tensor, Tensor]:
    import pandas as pd

    names: list[str] = []
    value_factor: list[int] = []
    factor, given = factor_index.numpy(), np.array(values, dtype=object)
    value_index = np.empty(len(given), dtype=np.int64)
    for index, entry in enumerate(schema.factors):
        mask = factor == index
        mine = given[mask]
        vocabulary = entry.values
        if vocabulary is None:
            mine = np.array([" ".join(value.split()) for value in mine], dtype=object)
            vocabulary = sorted(set(mine))
            for value in vocabulary:
                if not value.strip() or (entry.multiple and SEPARATOR in value):
                    raise ValueError(
                        f"{value!r} cannot be a value of the factor {entry.name!r}"
                    )
        found = pd.Index(vocabulary, dtype=object).get_indexer(mine)
        if (found < 0).any():
            unknown = mine[int((found < 0).argmax())]
            raise ValueError(f"{unknown!r} is not a value of the factor {entry.name!r}")
        value_index[mask] = found + len(names)
        names += vocabulary
        value_factor += [index] * len(vocabulary)
    return names, torch.tensor(value_factor).long(), torch.from_numpy(value_index)
