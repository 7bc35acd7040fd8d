"""Factor values by the words of a file."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Self

import numpy as np
import torch
import yaml

from mars_pyg.errors import DataError
from mars_pyg.factors.catalogue import ItemCatalogue
from mars_pyg.factors.profiles import FactorProfiles
from mars_pyg.factors.reasoner import FactorReasoner
from mars_pyg.factors.schema import Factor, FactorSchema
from mars_pyg.factors.words import words_and_marks
from mars_pyg.yaml_files import read_yaml


class KeywordReasoner(FactorReasoner):
    r"""Assigns the values whose words or phrases an item's text has.

    Words are found whole and whatever their case: ``cot`` is neither in ``cotton`` nor
    in ``cots``. The words of a phrase follow one another with spaces, hyphens or
    apostrophes between them, but not other marks: ``bpa free`` is in ``BPA-free``, and
    ``red white`` not in ``red, white``. A mark of a keyword has to be there: ``c++`` is
    not ``c#``.

    Args:
        keywords: The words and phrases of each value of each factor. A value without
            any is found by its own name.
        fields: The fields of the catalogue to read, or :obj:`None` for all.
            (default: :obj:`None`)
        multiple: Whether an item gets all values that are found, or the first one
            among them in the order of ``keywords``. (default: :obj:`True`)
        modality: The modality of the profiles. (default: :obj:`"text"`)

    Raises:
        DataError: If a keyword has no word, or a name cannot be one of a schema.
    """

    def __init__(
        self,
        keywords: Mapping[str, Mapping[str, Sequence[str]]],
        fields: Sequence[str] | None = None,
        multiple: bool = True,
        modality: str = "text",
    ) -> None:
        super().__init__(modality)
        self.fields = None if fields is None else list(fields)
        try:
            self.schema = FactorSchema(
                modality=modality,
                factors=[
                    Factor(name=factor, values=list(values), multiple=multiple)
                    for factor, values in keywords.items()
                ],
            )
        except ValueError as error:  # pydantic's ValidationError is one.
            raise DataError(
                f"the keywords make no schema: {error}",
                mend="give every factor a name and values",
            ) from error
        #: The values as (factor, name), and the phrases as (phrase, value).
        self._values: list[tuple[int, str]] = []
        self._phrases: list[tuple[str, int]] = []
        for factor, values in enumerate(keywords.values()):
            for value, words in values.items():
                for word in words or [value]:
                    tokens = _tokens(word)
                    if not any(map(str.isalnum, "".join(tokens))):
                        raise DataError(
                            f"the keyword {word!r} of {value!r} has no word",
                            mend="write a word or a phrase",
                            field=self.schema.factors[factor].name,
                        )
                    self._phrases.append((" ".join(tokens), len(self._values)))
                self._values.append((factor, value.strip()))

    @classmethod
    def read(
        cls,
        path: str | PathLike[str],
        fields: Sequence[str] | None = None,
        multiple: bool = True,
        modality: str = "text",
    ) -> Self:
        r"""Read keywords from a yaml file: factor, value, list of words or phrases.

        .. code-block:: yaml

            material:
              cotton: [cotton, muslin, organic cotton]
              plastic: [plastic, bpa free]
              wood:
            usage scenario:
              travel: [travel, on the go]

        Everything is text there: ``no`` is a word.

        Args:
            path: The file.
            fields: See :class:`KeywordReasoner`. (default: :obj:`None`)
            multiple: See :class:`KeywordReasoner`. (default: :obj:`True`)
            modality: See :class:`KeywordReasoner`. (default: :obj:`"text"`)

        Returns:
            The reasoner.

        Raises:
            DataError: If the file is missing or not of this form.
        """
        keywords = _read_keywords(Path(path))
        try:
            return cls(keywords, fields, multiple, modality)
        except DataError as error:
            raise DataError(
                error.problem, mend=error.mend, file=path, field=error.field
            ) from error

    def assign(self, catalogue: ItemCatalogue) -> FactorProfiles:
        """Assign values to the items whose texts have their words.

        Raises:
            DataError: If the catalogue lacks a field.
        """
        from scipy.sparse import csr_matrix
        from sklearn.feature_extraction.text import CountVectorizer

        names = list(catalogue.fields) if self.fields is None else self.fields
        for name in names:
            if name not in catalogue.fields:
                raise DataError(
                    "the catalogue has no such field",
                    mend=f"choose among {', '.join(catalogue.fields)}",
                    field=name,
                )
        if not names:
            raise DataError(
                "the catalogue has no texts", mend="give it fields", field="fields"
            )
        columns = [catalogue.fields[name] for name in names]
        texts = [" | ".join(entry) for entry in zip(*columns, strict=True)]
        phrases = {phrase: None for phrase, _ in self._phrases}
        vectorizer = CountVectorizer(
            vocabulary=list(phrases),
            ngram_range=(1, max(phrase.count(" ") + 1 for phrase in phrases)),
            tokenizer=_tokens,
            token_pattern=None,
            lowercase=False,
        )
        found = vectorizer.transform(texts or [""])[: len(catalogue)]
        index = vectorizer.vocabulary_
        value_of_phrase = csr_matrix(
            (
                np.ones(len(self._phrases)),
                (
                    [index[phrase] for phrase, _ in self._phrases],
                    [value for _, value in self._phrases],
                ),
            ),
            shape=(len(phrases), len(self._values)),
        )
        item, value = (found @ value_of_phrase).nonzero()
        factor = np.array([factor for factor, _ in self._values])[value]
        if not self.schema.factors[0].multiple:
            # Values are numbered in the order of the keywords.
            order = np.lexsort((value, factor, item))
            slot = (item * len(self.schema.factors) + factor)[order]
            first = order[np.unique(slot, return_index=True)[1]]
            item, value, factor = item[first], value[first], factor[first]
        return FactorProfiles.from_assignments(
            self.schema,
            len(catalogue),
            torch.from_numpy(item.astype(np.int64)),
            torch.from_numpy(factor.astype(np.int64)),
            [self._values[index][1] for index in value],
        )


def _tokens(text: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return words_and_marks().findall(folded)


def _read_keywords(file: Path) -> dict[str, dict[str, list[str]]]:
    """Read a keyword file, with every fault at its line."""
    mend = "indent values below their factor, and quote words with marks"
    # For this loader everything is text.
    _, root = read_yaml(file, mend, yaml.BaseLoader)
    factors = _entries(root, file, "factors")
    if not factors:
        raise DataError(
            "the file holds no factor",
            mend="write a factor, its values below it and their words in brackets",
            file=file,
        )
    return {
        factor: {
            value: _words(node, file, value)
            for value, node in _entries(values, file, factor).items()
        }
        for factor, values in factors.items()
    }


def _entries(node: yaml.Node | None, file: Path, name: str) -> dict[str, yaml.Node]:
    """The entries of a mapping, none of which is there twice."""
    entries: dict[str, yaml.Node] = {}
    if node is None:
        return entries
    if not isinstance(node, yaml.MappingNode):
        raise DataError(
            f"{name!r} needs names with a colon below it",
            mend="write 'value: [word, phrase]' lines below a factor",
            file=file,
            row=node.start_mark.line + 1,
            field=name,
        )
    for key, entry in node.value:
        if str(key.value) in entries:
            raise DataError(
                f"{key.value!r} is there twice",
                mend="join the two",
                file=file,
                row=key.start_mark.line + 1,
                field=name,
            )
        entries[str(key.value)] = entry
    return entries


def _words(node: yaml.Node, file: Path, name: str) -> list[str]:
    """The words of a value: a list, one word, or none."""
    if isinstance(node, yaml.ScalarNode):
        return [node.value] if node.value.strip() else []
    if isinstance(node, yaml.SequenceNode) and all(
        isinstance(entry, yaml.ScalarNode) for entry in node.value
    ):
        return [str(entry.value) for entry in node.value]
    raise DataError(
        f"{name!r} needs a list of words or phrases",
        mend="write 'value: [word, phrase]'",
        file=file,
        row=node.start_mark.line + 1,
        field=name,
    )
