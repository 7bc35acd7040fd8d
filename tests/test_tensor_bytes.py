"""The numbers of tensors as bytes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mars_pyg.tensor_bytes import tensor_bytes


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        # The first two have a stride of zero.
        (torch.from_numpy(np.empty(0, np.int64)), b""),
        (torch.tensor(2, dtype=torch.int16).expand(1), b"\x02\0"),
        (torch.ones(2, dtype=torch.bfloat16), b"\x80\x3f" * 2),
        (torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).t()[1:], b"\x02\x04"),
    ],
)
def test_numbers_are_in_the_order_of_the_tensor(x, expected):
    assert tensor_bytes(x).tobytes() == expected
