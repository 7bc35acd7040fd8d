"""The dtype that sums are taken in."""

from __future__ import annotations

import torch


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """Float32 for half precision, which is too coarse to add in; else ``dtype``."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
