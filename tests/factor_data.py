"""Small graphs of users, items and values, from lists."""

import torch
from hypothesis import strategies as st
from torch_geometric.data import HeteroData


def make_data(num_users, num_items, factor, item_values, interactions):
    """A graph of the values of each item, and pairs of user and item."""
    data = HeteroData()
    data["user"].num_nodes = num_users
    data["item"].num_nodes = num_items
    data["value"].num_nodes = len(factor)
    data["value"].factor = torch.tensor(factor, dtype=torch.int64)
    data["value"].name = [f"value {v}" for v in range(len(factor))]
    data["value"].factor_name = [f"factor {k}" for k in range(max(factor) + 1)]
    edges = [(i, v) for i, values in enumerate(item_values) for v in sorted(values)]
    data["item", "text_value", "value"].edge_index = (
        torch.tensor(edges, dtype=torch.int64).view(-1, 2).t()
    )
    data["user", "interacts", "item"].edge_index = (
        torch.tensor(interactions, dtype=torch.int64).view(-1, 2).t()
    )
    return data


@st.composite
def problems(draw):
    """Arguments of :func:`make_data`, of any shape: no value, several, repeats."""
    num_users = draw(st.integers(1, 4))
    num_items = draw(st.integers(1, 6))
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    factor = [k for k, size in enumerate(sizes) for _ in range(size)]
    values = st.sets(st.integers(0, len(factor) - 1))
    item_values = draw(st.lists(values, min_size=num_items, max_size=num_items))
    pairs = st.tuples(st.integers(0, num_users - 1), st.integers(0, num_items - 1))
    # Repeated interactions count once.
    interactions = draw(st.lists(pairs, max_size=12))
    return num_users, num_items, factor, item_values, interactions
