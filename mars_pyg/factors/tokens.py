"""Counting the tokens of what is sent to a language model."""

from __future__ import annotations

import math
from typing import Any

#: Tokens that a server adds to each message, and to each answer.
MESSAGE_OVERHEAD = 4
#: Tokens of a picture at low detail, for most models of OpenAI; a price table may say
#: otherwise for a model.
IMAGE_TOKENS = 85
#: Characters per token of English text and json with a vocabulary of 200,000 tokens.
_CHARACTERS_PER_TOKEN = 3.8


class TokenCounter:
    r"""Counts tokens of a model.

    With ``bpe-openai`` (which carries its vocabularies) or ``tiktoken`` (which loads
    them once from the network) installed, counts are those of OpenAI's vocabularies:
    exact for OpenAI's models, near for those of others. Without either they are taken
    from the length of the text, :math:`\lceil b / 3.8 \rceil` for :math:`b` bytes.
    :attr:`method` says which.

    Args:
        model: The name of the model.
    """

    def __init__(self, model: str) -> None:
        self._encoding = None
        # gpt-4 and gpt-3.5 are the last models with the older vocabulary.
        old = model.startswith(("gpt-3.5", "gpt-4-")) or model == "gpt-4"
        name = "cl100k_base" if old else "o200k_base"
        for module in ("bpe_openai", "tiktoken"):
            try:
                library: Any = __import__(module)
                self._encoding = library.get_encoding(name)
            # Absent, of another version, or without a network to load the vocabulary.
            except Exception:
                continue
            self.method = f"counted with {module}, {name}"
            if not model.startswith(("gpt-", "o1", "o3", "o4", "chatgpt-")):
                self.method += " (the model's own vocabulary may differ)"
            break
        else:
            self.method = (
                f"taken from the length of the text, {_CHARACTERS_PER_TOKEN} bytes "
                "each; install bpe-openai or tiktoken to have them counted"
            )

    def count(self, text: str) -> int:
        """Count the tokens of a text."""
        if self._encoding is not None:
            return len(self._encoding.encode_ordinary(text))
        return math.ceil(len(text.encode()) / _CHARACTERS_PER_TOKEN)

    def count_messages(
        self, messages: list[dict[str, Any]], image_tokens: int = IMAGE_TOKENS
    ) -> int:
        """Count the tokens of messages, pictures included."""
        total = MESSAGE_OVERHEAD
        for message in messages:
            total += MESSAGE_OVERHEAD
            content = message["content"]
            for part in [content] if isinstance(content, str) else content:
                if isinstance(part, str):
                    total += self.count(part)
                elif part["type"] == "text":
                    total += self.count(part["text"])
                else:
                    total += image_tokens
        return total
