"""Factor schemas: the factors of a catalogue and their values."""

from __future__ import annotations

import hashlib
import json
from os import PathLike
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from mars_pyg.errors import DataError
from mars_pyg.files import atomic_path
from mars_pyg.tables import broken_encoding

#: What separates the values of an item under a factor that allows several.
SEPARATOR = "|"

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Factor(BaseModel):
    r"""A factor that people decide by, such as material or usage scenario.

    Args:
        name: The name of the factor.
        description: What it says about an item. (default: :obj:`""`)
        values: The values it can take, or :obj:`None` for an open vocabulary, such as
            brands. (default: :obj:`None`)
        multiple: Whether an item may have several values.
            (default: :obj:`False`)
        count: In how many samples of the catalogue a language model named the factor,
            where one did. It says nothing about items, and is no part of the version.
            (default: :obj:`None`)
    """

    model_config = ConfigDict(extra="forbid")

    name: Name
    description: str = ""
    values: list[Name] | None = None
    multiple: bool = False
    count: int | None = Field(default=None, ge=1)

    @field_validator("values")
    @classmethod
    def _check_values(cls, values: list[str] | None) -> list[str] | None:
        if values is not None:
            if not values:
                raise ValueError("a closed vocabulary needs a value")
            _check_unique(values)
        return values

    @model_validator(mode="after")
    def _check_separator(self) -> Self:
        for value in self.values or []:
            if self.multiple and SEPARATOR in value:
                raise ValueError(
                    f"{value!r} holds {SEPARATOR!r}, which separates several values"
                )
        return self


class FactorSchema(BaseModel):
    r"""The factors of a catalogue, as seen in one modality.

    Args:
        domain: What the catalogue is about. (default: :obj:`""`)
        modality: The content that the factors were told from, such as ``"text"`` or
            ``"image"``. (default: :obj:`"text"`)
        factors: The factors, with distinct names.
    """

    model_config = ConfigDict(extra="forbid")

    domain: str = ""
    modality: Name = "text"
    factors: list[Factor] = Field(min_length=1)

    @field_validator("factors")
    @classmethod
    def _check_factors(cls, factors: list[Factor]) -> list[Factor]:
        _check_unique([factor.name for factor in factors])
        return factors

    @property
    def version(self) -> str:
        """A hash of what the schema says; it changes when a person edits it."""
        return _hash([self.modality, *self.factor_versions()])

    def factor_versions(self) -> list[str]:
        """A hash of each factor and the domain: answers hold for one of these."""
        return [
            _hash([self.domain, factor.model_dump(exclude={"count"})])
            for factor in self.factors
        ]

    @classmethod
    def read(cls, path: str | PathLike[str]) -> FactorSchema:
        """Read a schema from a json file.

        Args:
            path: The file to read.

        Returns:
            The schema.

        Raises:
            DataError: If the file is missing, not UTF-8 or holds no valid schema.
        """
        file = Path(path)
        try:
            return cls.model_validate_json(file.read_text("utf-8-sig"))
        except FileNotFoundError as error:
            raise DataError(
                "there is no such file", mend="check the path of the schema", file=file
            ) from error
        except UnicodeDecodeError as error:
            raise broken_encoding(file) from error
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise DataError(
                first["msg"],
                mend="correct the field; FactorSchema and Factor say what they hold",
                file=file,
                field=field or None,
            ) from error

    def check_id_column(self, id_column: str) -> None:
        """Refuse a column of ids that has the name of a factor.

        Args:
            id_column: The column of the ids in a table of profiles.

        Raises:
            DataError: If the table would have two columns of the name.
        """
        if any(factor.name == id_column for factor in self.factors):
            raise DataError(
                "a factor has the name of the column of the ids",
                mend="rename the factor in the schema, or the column",
                field=id_column,
            )

    def write(self, path: str | PathLike[str]) -> None:
        """Write the schema to a json file.

        Args:
            path: The file to write; it takes the place of an older one.
        """
        content = self.model_dump()
        for factor in content["factors"]:
            if factor["count"] is None:
                del factor["count"]
        text = json.dumps(content, indent=1, ensure_ascii=False)
        with atomic_path(path) as temporary:
            temporary.write_text(text + "\n", "utf-8")


def _hash(content: object) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _check_unique(names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{name!r} is there twice")
        seen.add(name)
