"""The items of each value, cut into chunks that a GPU sums up at once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from mars_pyg.kernels.sparse import pointers

#: Items of a tile. Its rows, 128 bytes of each at a time, stay in an L1 of 256 KiB.
TILE_ITEMS = 1024
#: Fewer items fill no GPU with tiles, and fit its L2 without them.
MIN_TILED_ITEMS = 2**16
#: A value is summed up tile by tile where a tile has so many of its items, on average.
MIN_TILE_COUNT = 4
#: Entries of a chunk at most. More would keep the lanes beside it waiting.
MAX_ENTRIES = 64
#: Chunks of a group that belongs to no tile.
GROUP_CHUNKS = 64


class ValueChunks(NamedTuple):
    """How the entries of an incidence, sorted by value, are summed up in two passes.

    A chunk is a run of entries of one value, in one tile of items if the value is
    frequent. The first pass sums up chunks, the second the chunks of each value in
    their order, so that the bits of a sum do not depend on what runs when.

    Args:
        ptr: Where the entries of each chunk start ``[C + 1]``; chunks are in the order
            of values.
        value: Value of each chunk ``[C]``, int32.
        order: The order in which chunks are summed up, by tile, long ones first
            ``[C]``, int32.
        group_ptr: Where each group starts in :attr:`order` ``[G + 1]``, int32. The
            chunks of a tile are one group.
        value_ptr: Where the chunks of each value start ``[V + 1]``, int32.
    """

    ptr: Tensor
    value: Tensor
    order: Tensor
    group_ptr: Tensor
    value_ptr: Tensor

    @property
    def num_chunks(self) -> int:
        """Number of chunks."""
        return self.value.numel()

    @property
    def num_groups(self) -> int:
        """Number of groups."""
        return self.group_ptr.numel() - 1

    @classmethod
    def from_incidence(
        cls, ptr_t: Tensor, col_t: Tensor, num_items: int
    ) -> ValueChunks:
        """Cut the entries; on a GPU this waits for it.

        Args:
            ptr_t: Where the entries of each value start ``[V + 1]``.
            col_t: Item of each entry, sorted by value and then item ``[E]``.
            num_items: Number of items.
        """
        device, num_values, num_entries = col_t.device, ptr_t.numel() - 1, len(col_t)
        count = ptr_t.diff().to(torch.int64)
        value = torch.repeat_interleave(count, output_size=num_entries)
        num_tiles = 0
        if num_items >= MIN_TILED_ITEMS:
            num_tiles = -(-num_items // TILE_ITEMS)
        frequent = count >= MIN_TILE_COUNT * max(num_tiles, 1)
        # Behind the tiles come the values whose items are read wherever they are.
        tile = torch.full_like(value, num_tiles)
        if num_tiles:
            tile = torch.where(frequent[value], col_t.long() // TILE_ITEMS, tile)

        index = torch.arange(num_entries, device=device)
        first = torch.ones(num_entries, dtype=torch.bool, device=device)
        first[1:] = (value.diff() != 0) | (tile.diff() != 0)
        start = torch.where(first, index, 0)
        if num_entries:
            start = start.cummax(0).values
        start = ((index - start) % MAX_ENTRIES == 0).nonzero().flatten()
        end = torch.cat([start[1:], start.new_full((min(len(start), 1),), num_entries)])
        value, tile = value[start], tile[start]
        order = (tile * MAX_ENTRIES + MAX_ENTRIES - (end - start)).argsort(stable=True)

        tiles = pointers(tile, num_tiles + 1)
        behind = int(tiles[num_tiles])
        rest = torch.arange(behind, len(start), GROUP_CHUNKS, device=device)
        group_ptr = [tiles[:num_tiles], rest, tiles[-1:]]
        return cls(
            ptr=torch.cat([start, start.new_tensor([num_entries])]).to(ptr_t.dtype),
            value=value.int(),
            order=order.int(),
            group_ptr=torch.cat(group_ptr).int(),
            value_ptr=pointers(value, num_values).int(),
        )


_chunks: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def value_chunks(ptr_t: Tensor, col_t: Tensor, num_items: int) -> ValueChunks:
    """The chunks of a prepared graph, which are cut once and kept as long as it lives.

    They are kept for these very tensors, and cut anew if one was written to since.
    """
    state = (_version(ptr_t), _version(col_t), num_items)
    known = _chunks.get(col_t)
    if known is not None and known[0] is ptr_t and known[1] == state:
        return known[2]
    chunks = ValueChunks.from_incidence(ptr_t, col_t, num_items)
    _chunks[col_t] = (ptr_t, state, chunks)
    return chunks


def _version(tensor: Tensor) -> int:
    # Torch counts no writes to tensors that were made in inference mode.
    return -1 if tensor.is_inference() else tensor._version
