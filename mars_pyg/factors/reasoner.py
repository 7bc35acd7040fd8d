"""What assigns factor values to items."""

from __future__ import annotations

from abc import ABC, abstractmethod

from mars_pyg.factors.catalogue import ItemCatalogue
from mars_pyg.factors.profiles import FactorProfiles


class FactorReasoner(ABC):
    """Assigns factor values to the items of a catalogue.

    Args:
        modality: The content that is read, such as ``"text"`` or ``"image"``.
    """

    modality: str

    def __init__(self, modality: str = "text") -> None:
        self.modality = modality

    @abstractmethod
    def assign(self, catalogue: ItemCatalogue) -> FactorProfiles:
        """Assign values to items.

        Args:
            catalogue: The items.

        Returns:
            The profiles, of the reasoner's modality.

        Raises:
            DataError: If the catalogue lacks what the reasoner reads.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}(modality={self.modality!r})"
