"""Columns that a catalogue already has as factors."""

from __future__ import annotations

from collections.abc import Sequence

from mars_pyg.factors.catalogue import ItemCatalogue
from mars_pyg.factors.profiles import FactorProfiles
from mars_pyg.factors.reasoner import FactorReasoner


class ColumnReasoner(FactorReasoner):
    """Takes columns of the catalogue for factors with open vocabularies.

    Several values in a cell are separated by ``|``, an empty cell is a missing value.

    Args:
        columns: The columns, fields of the catalogue.
        modality: The modality of the profiles. (default: :obj:`"catalogue"`)
    """

    def __init__(self, columns: Sequence[str], modality: str = "catalogue") -> None:
        super().__init__(modality)
        self.columns = list(columns)

    def assign(self, catalogue: ItemCatalogue) -> FactorProfiles:
        """Take the values out of the fields of the catalogue.

        Raises:
            DataError: If a column is missing, or a value is ``nan``.
        """
        import pandas as pd

        table = pd.DataFrame({**catalogue.fields, catalogue.id_column: catalogue.ids})
        return FactorProfiles.from_columns(
            table,
            self.columns,
            catalogue.ids,
            catalogue.id_column,
            multiple=self.columns,
            modality=self.modality,
        )
