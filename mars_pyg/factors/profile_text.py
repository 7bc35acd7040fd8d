"""Schemas and profiles as text for people."""

from __future__ import annotations

from mars_pyg.factors.profiles import FactorProfiles
from mars_pyg.factors.schema import FactorSchema
from mars_pyg.report import format_table


def format_schema(schema: FactorSchema) -> str:
    """List the factors of a schema, with how many values they have."""
    rows = []
    for factor in schema.factors:
        values = "open" if factor.values is None else str(len(factor.values))
        several = "several" if factor.multiple else "one"
        rows.append([factor.name, values, several, factor.description])
    head = ["factor", "values", "per item", "description"]
    return f"{_title(schema)}\n\n{format_table(head, rows, left=(0, 3))}"


def format_profiles(profiles: FactorProfiles) -> str:
    """List the factors of profiles, with how many items have which values."""
    rows = []
    for index, factor in enumerate(profiles.schema.factors):
        mine = profiles.factor_index == index
        # An item counts for each of its values.
        used, count = profiles.value_index[mine].unique(return_counts=True)
        known = "(open)" if factor.values is None else f"of {len(factor.values)}"
        largest = int(count.argmax()) if len(count) else None
        rows.append(
            [
                factor.name,
                str(len(profiles.item_index[mine].unique())),
                f"{len(used)} {known}",
                "" if largest is None else str(int(count[largest])),
                "" if largest is None else profiles.value_names[int(used[largest])],
            ]
        )
    head = ["factor", "items", "values", "largest", "group"]
    return (
        f"{_title(profiles.schema)}: {len(profiles.item_index.unique())} items with a "
        f"value, {len(profiles.item_index)} values\n\n"
        f"{format_table(head, rows, left=(0, 4))}"
    )


def _title(schema: FactorSchema) -> str:
    return ", ".join(filter(None, [schema.domain, schema.modality]))
