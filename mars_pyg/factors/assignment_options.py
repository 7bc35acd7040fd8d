"""How a catalogue is asked for, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

from mars_pyg.factors.option_bounds import check_least


@dataclass(frozen=True)
class AssignmentOptions:
    r"""How a catalogue is asked for.

    Args:
        concurrency: Number of requests at once. (default: :obj:`16`)
        max_reasks: Times that a value outside of the schema is asked for again before
            it counts as missing. (default: :obj:`2`)
        max_cost: What all requests on the store may cost, those of earlier
            runs included; :obj:`None` for no limit. (default: :obj:`None`)
        max_output_tokens: Limit of an answer's tokens; :obj:`None` for twice what the
            longest answer needs. Models that think need more. (default: :obj:`None`)
        image_size: Longest side of pictures in pixels. (default: :obj:`512`)
        num_examples: Number of assigned items that are shown as examples.
            (default: :obj:`0`)

    Raises:
        ValueError: If one is too small.
    """

    concurrency: int = 16
    max_reasks: int = 2
    max_cost: float | None = None
    max_output_tokens: int | None = None
    image_size: int = 512
    num_examples: int = 0

    def __post_init__(self) -> None:
        check_least(
            self,
            concurrency=1,
            max_reasks=0,
            max_cost=0,
            max_output_tokens=1,
            image_size=1,
            num_examples=0,
        )


@dataclass
class AssignmentSummary:
    """What a run has done.

    Args:
        items: Items of the catalogue.
        without_content: Items with nothing to show.
        answered: Items whose answers were there before.
        asked: Items whose last answer came in this run.
        failed: Items of which an answer could not be had; run again for these.
        fault: Why the last of these could not be had, or :obj:`None`.
        elsewhere: Items that are in batches that are not collected.
        missing: Values that are missing because no usable answer came.
        repeated: Requests that failed and were sent again.
        requests: Requests that were answered.
        input_tokens: Tokens of these requests.
        output_tokens: Tokens of their answers.
        cost: Their cost, or zero if no price is known.
        seconds: Time of the run.
        stopped: Why the run ended early, or :obj:`None`.
    """

    items: int = 0
    without_content: int = 0
    answered: int = 0
    asked: int = 0
    failed: int = 0
    fault: str | None = None
    elsewhere: int = 0
    missing: int = 0
    repeated: int = 0
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0
    stopped: str | None = None

    @property
    def complete(self) -> bool:
        """Whether every item has its answers."""
        return not (self.failed or self.elsewhere or self.stopped)
