"""What a server of language models answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mars_pyg.factors.redaction import redact
from mars_pyg.tables import whole_characters


@dataclass(frozen=True)
class Usage:
    """The tokens of an answer, as the server counts them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    @classmethod
    def read(cls, usage: Any) -> Usage:
        """Read the ``usage`` of an answer; what a server leaves out is zero."""
        usage = as_dict(usage)
        details = as_dict(usage.get("prompt_tokens_details"))
        return cls(
            _count(usage.get("prompt_tokens")),
            _count(usage.get("completion_tokens")),
            _count(details.get("cached_tokens")),
        )


@dataclass(frozen=True)
class Completion:
    """An answer of a language model."""

    text: str
    finish_reason: str
    model: str
    usage: Usage
    mode: str
    seconds: float = 0.0

    @classmethod
    def read(cls, body: Any, mode: str, seconds: float = 0.0) -> Completion:
        """Read the body of an answer; one without choices has an empty text."""
        body = as_dict(body)
        choices = body.get("choices")
        choice = as_dict(choices[0]) if isinstance(choices, list) and choices else {}
        message = as_dict(choice.get("message"))
        reason = str(choice.get("finish_reason") or "")
        if message.get("refusal"):
            reason = "content_filter"
        content = message.get("content") or ""
        if isinstance(content, list):
            # Some servers give thoughts and text as parts.
            parts = [part for part in content if isinstance(part, dict)]
            content = "".join(str(part.get("text") or "") for part in parts)
        return cls(
            whole_characters(str(content)),
            reason,
            redact(whole_characters(str(body.get("model") or ""))),
            Usage.read(body.get("usage")),
            mode,
            seconds,
        )


def as_dict(entry: Any) -> dict[str, Any]:
    """A part of an answer, empty where a server sends something else."""
    return entry if isinstance(entry, dict) else {}


def _count(entry: Any) -> int:
    """A number of tokens, zero where a server sends something else."""
    is_number = isinstance(entry, int | float) and 0 <= entry < 2**31
    return int(entry) if is_number else 0
