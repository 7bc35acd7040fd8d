"""Random numbers that depend on the run's seed and the epoch alone."""

from __future__ import annotations

import numpy as np
import torch


def epoch_seed(seed: int, epoch: int, stream: str) -> int:
    """Derive the seed of one purpose in one epoch.

    Args:
        seed: The seed of the run, not negative.
        epoch: The epoch, from zero.
        stream: What the numbers are for; different streams are independent.
    """
    sequence = np.random.SeedSequence([seed, epoch, *stream.encode()])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def epoch_generator(seed: int, epoch: int, stream: str) -> torch.Generator:
    """Make a CPU generator for one purpose in one epoch.

    An epoch draws the same numbers whatever was drawn before it, so that a resumed run
    needs no state of any generator.

    Args:
        seed: The seed of the run, not negative.
        epoch: The epoch, from zero.
        stream: What the numbers are for; different streams are independent.
    """
    return torch.Generator().manual_seed(epoch_seed(seed, epoch, stream))
