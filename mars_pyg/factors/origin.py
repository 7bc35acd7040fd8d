"""Whether profiles came out of a store of answers, as they are."""

from __future__ import annotations

import csv
from pathlib import Path

from mars_pyg.errors import DataError
from mars_pyg.factors.answers import folded
from mars_pyg.factors.profile_folder import PROVENANCE, SCHEMA, profile_tables
from mars_pyg.factors.schema import SEPARATOR, FactorSchema


def check_origin(folder: Path, schema: FactorSchema) -> None:
    """Refuse to replace profiles, or a schema, that could not be made again.

    Args:
        folder: The folder that profiles are to be written to.
        schema: The schema of these.

    Raises:
        DataError: If those that are there are of another modality, were not made by a
            language model, or have been changed since; or if there is another schema
            and no profiles yet.
    """
    tables = profile_tables(folder)
    # Only the table that is written can be one that was.
    own = folder / "profiles.tsv" if (folder / PROVENANCE).exists() else None
    mend = "give --overwrite to replace them, or another --output"
    for table in tables:
        if table != own:
            raise DataError(
                "there are profiles already, which no language model was asked for "
                "here",
                mend=mend,
                file=table,
            )
    if (folder / SCHEMA).is_file():
        there = FactorSchema.read(folder / SCHEMA)
        if not tables and there.version != schema.version:
            raise DataError(
                "there is another schema already, of which there are no profiles yet",
                mend="assign the values of that one, or give --overwrite to replace "
                "it, or another --output",
                file=folder / SCHEMA,
            )
        if there.modality != schema.modality:
            raise DataError(
                f"there are profiles of the modality {there.modality!r} already",
                mend=f"write those of {schema.modality!r} beside them, with --output "
                f"{folder / schema.modality}, or give --overwrite to replace them",
                file=tables[0],
            )
    if not tables:
        return
    try:
        changed = _first_change(tables[0], folder / PROVENANCE)
    # A spreadsheet may have written it in another encoding or form.
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"the profiles cannot be compared with their provenance: {error}",
            mend=mend,
            file=tables[0],
        ) from error
    if changed is not None:
        item, factor = changed
        raise DataError(
            f"the values of item {item!r} have been changed since a language model "
            "assigned them",
            mend=mend,
            file=tables[0],
            field=factor,
        )


def _first_change(table: Path, provenance: Path) -> tuple[str, str] | None:
    """An item and a factor whose values are not those of the provenance."""
    # Of spellings that differ in case or accents the table has the most frequent one.
    cells: dict[tuple[str, str], frozenset[str]] = {}
    with open(table, encoding="utf-8-sig", newline="") as stream:
        rows = csv.reader(stream, delimiter="\t")
        _, *factors = next(rows, [""])
        for item, *entries in filter(None, rows):
            for factor, entry in zip(factors, entries, strict=False):
                if entry:
                    cells[item, factor] = _values(entry)
    with open(provenance, encoding="utf-8-sig", newline="") as stream:
        rows = csv.reader(stream, delimiter="\t")
        next(rows, None)
        for item, factor, entry, *_ in filter(None, rows):
            if cells.pop((item, factor), frozenset()) != _values(entry):
                return item, factor
    return next(iter(cells), None)


def _values(entry: str) -> frozenset[str]:
    return frozenset(folded(value) for value in entry.split(SEPARATOR) if value)
