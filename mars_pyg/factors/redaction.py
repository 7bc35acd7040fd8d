"""Keeping keys out of everything that is shown or stored."""

from __future__ import annotations

import os
import re

#: Environment variables that hold keys.
KEY_VARIABLES = ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY")
_KEY = re.compile(r"\b(?:sk|pk|rk)-[A-Za-z0-9_*.\-]{6,}|(?<=Bearer )[^\s\"',}]+")


def redact(text: str) -> str:
    """Replace keys in a text: those of the environment, and what looks like one."""
    for variable in KEY_VARIABLES:
        key = os.environ.get(variable, "")
        # Servers without keys are often given a word such as "none".
        if len(key) >= 8:
            text = text.replace(key, "<key>")
    return _KEY.sub("<key>", text)
