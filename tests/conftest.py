"""What holds for all tests."""

from __future__ import annotations

import os

import torch
from hypothesis import settings

# A first example compiles, and machines of tests are busy: no time is a fault.
settings.register_profile("mars_pyg", deadline=None)
settings.load_profile("mars_pyg")

# Where there is no GPU, triton's kernels run on the CPU, in its interpreter. Triton
# reads this when it is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
