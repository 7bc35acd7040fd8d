"""The numbers of tensors as bytes, to digest or compare them."""

from __future__ import annotations

import torch
from torch import Tensor


def tensor_bytes(x: Tensor) -> memoryview:
    """The numbers of a tensor as bytes: numpy does not know bfloat16."""
    flat = x.detach().cpu().contiguous().view(-1)
    # One number or none may have a stride of zero, which cannot be viewed as bytes.
    flat = flat.as_strided((flat.numel(),), (1,))
    return flat.view(torch.uint8).numpy().data
