"""What a word is, in any script."""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache
from itertools import groupby


@cache
def combining_marks() -> str:
    r"""The combining marks of all scripts, as a part of a class in a pattern.

    They belong to their words, as the signs of vowels do in Hindi and Thai, and are not
    in :obj:`\w`.
    """
    marks = (
        code
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)).startswith("M")
    )
    runs = groupby(enumerate(marks), lambda entry: entry[1] - entry[0])
    spans = [[code for _, code in run] for _, run in runs]
    return "".join(f"{chr(span[0])}-{chr(span[-1])}" for span in spans)


@cache
def words_and_marks() -> re.Pattern[str]:
    """Words, and each mark by itself but spaces, hyphens and apostrophes."""
    word = rf"\w{combining_marks()}"
    return re.compile(rf"[{word}]+|\n|[^{word}\s'\u2019\-\u2010\u2011]")


@cache
def words_without_underscores() -> re.Pattern[str]:
    """Words, which an underscore parts."""
    return re.compile(rf"(?:[^\W_]|[{combining_marks()}])+")
