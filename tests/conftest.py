"""Where there is no GPU, triton's kernels run on the CPU, in its interpreter."""

from __future__ import annotations

import os

import torch

# Triton reads this when it is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
