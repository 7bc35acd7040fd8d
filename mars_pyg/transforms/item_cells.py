"""Cells of near items, so that a search need not compare all with all."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

#: Items of a cell, about, and cells that an item is compared with.
CELL_SIZE, NUM_PROBES = 500, 16
#: The most items that an item is compared with: four times as many as usual.
MAX_CANDIDATES = 4 * CELL_SIZE * NUM_PROBES


def nearby_items(
    x: Tensor, item: Tensor, seed: int = 0
) -> list[tuple[Tensor, list[Tensor]]]:
    """Group items into cells, and list what is near to each cell.

    The cells are those of k-means, fitted to a sample of the items. An item is in the
    cell with whose centre its inner product is largest. Where many items are alike, a
    cell is huge: it is cut into blocks, each of which is compared with itself and an
    even sample of what is near, so that time and memory stay linear in the items.

    Args:
        x: Features ``[N, D]``, rows of unit length.
        item: The items to group ``[M]``, int64.
        seed: Seed of the sample and the cells. (default: :obj:`0`)

    Returns:
        For each block of a cell, its items, and the items of the nearest cells, itself
        included, in parts that share their memory.
    """
    from sklearn.cluster import MiniBatchKMeans

    if item.numel() == 0:
        return []
    generator = torch.Generator().manual_seed(seed)
    num_cells = max(1, round(item.numel() / CELL_SIZE))
    sample = item[torch.randperm(item.numel(), generator=generator)[: 50 * num_cells]]
    k_means = MiniBatchKMeans(num_cells, random_state=seed, n_init=1, batch_size=8192)
    centers = torch.from_numpy(
        k_means.fit(x[sample].cpu().numpy()).cluster_centers_.astype(np.float32)
    ).to(x.device)
    centers = torch.nn.functional.normalize(centers, dim=1)
    cell = torch.cat([(x[part] @ centers.t()).argmax(1) for part in item.split(8192)])
    order = cell.argsort(stable=True)
    members = item[order].split(cell.bincount(minlength=num_cells).tolist())
    # Of equal centres others may come first; a cell is always near to itself.
    likeness = (centers @ centers.t()).fill_diagonal_(torch.inf)
    near = likeness.topk(min(NUM_PROBES, num_cells), dim=1).indices
    blocks = []
    for number, own in enumerate(members):
        parts = [members[other] for other in near[number].tolist()]
        step = -(-sum(map(len, parts)) // MAX_CANDIDATES)
        for place, block in enumerate(own.split(2 * CELL_SIZE)):
            if step <= 1:
                blocks.append((block, parts))
                continue
            start = 2 * CELL_SIZE * place
            rest = [part for part in parts if part is not own]
            rest += [own[:start], own[start + len(block) :]]
            spread = [part[place % step :: step] for part in rest]
            blocks.append((block, [block, *spread]))
    return [(block, parts) for block, parts in blocks if block.numel()]
