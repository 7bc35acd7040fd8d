"""Names that users give, as arguments or in a graph."""

from __future__ import annotations

from collections.abc import Iterable

from torch_geometric.data import HeteroData

from mars_pyg.errors import DataError


def names_of(argument: str, names: Iterable[str]) -> list[str]:
    """Names as a list; one name alone would be taken letter by letter.

    Args:
        argument: What the argument is called.
        names: What was given for it.

    Raises:
        TypeError: If it is one name.
    """
    if isinstance(names, str):
        raise TypeError(
            f"'{argument}' must be a list of names (got {names!r}); write [{names!r}]"
        )
    return list(names)


def names_in(data: HeteroData, kind: str, attribute: str = "id") -> list[str]:
    """The names that a graph has of its nodes, or of their factors.

    Args:
        data: The graph.
        kind: The type of the nodes.
        attribute: The list of the names. (default: :obj:`"id"`)

    Raises:
        DataError: If it has none, as graphs made by hand.
    """
    if attribute not in data[kind]:
        raise DataError(
            f"the graph has no '{attribute}' of its nodes {kind!r}",
            mend=f"set data[{kind!r}].{attribute} to a list of strings",
            field=attribute,
        )
    return list(data[kind][attribute])
