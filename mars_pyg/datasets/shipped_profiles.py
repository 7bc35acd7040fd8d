"""The factor profiles that come with the package."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

from mars_pyg.factors.profile_folder import SCHEMA
from mars_pyg.factors.profiles import FactorProfiles
from mars_pyg.factors.schema import FactorSchema
from mars_pyg.tables import read_table

logger = logging.getLogger(__name__)

ID_COLUMN = "asin"


def shipped_files(name: str) -> tuple[Path, Path] | None:
    """The schema and the table of a category's profiles, if there are any.

    Args:
        name: ``"baby"``, ``"sports"`` or ``"clothing"``.
    """
    folder = Path(__file__).parent / "profiles" / f"amazon-{name}"
    if not folder.is_dir():
        return None
    return folder / SCHEMA, folder / "profiles.parquet"


def read_shipped_profiles(
    name: str, item_ids: Sequence[str]
) -> dict[str, FactorProfiles]:
    """Read the profiles of a category by their modality, matched by ASIN.

    Says in a warning how many items have a profile, which are as many as the language
    model was shown a text of. Where none has one there are no profiles.

    Args:
        name: ``"baby"``, ``"sports"`` or ``"clothing"``.
        item_ids: The ASINs of the items.
    """
    files = shipped_files(name)
    if files is None:
        return {}
    schema = FactorSchema.read(files[0])
    table = read_table(files[1])
    table = table[table[ID_COLUMN].isin(set(item_ids))]
    if table.empty:
        logger.info("no item is among those of the profiles shipped for %s", name)
        return {}
    warnings.warn(
        f"{len(table)} of {len(item_ids)} items have factor profiles that come with "
        f"mars_pyg, matched by ASIN; a language model assigned them",
        stacklevel=2,
    )
    profiles = FactorProfiles.from_table(
        table, schema, item_ids, ID_COLUMN, file=files[1]
    )
    return {schema.modality: profiles}
