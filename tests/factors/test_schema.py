from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mars_pyg.errors import DataError
from mars_pyg.factors import Factor, FactorSchema


def test_write_and_read(tmp_path: Path) -> None:
    schema = FactorSchema(
        domain="shoes",
        modality="image",
        factors=[
            Factor(name="colour", values=["red", "white, cream"], multiple=True),
            Factor(name="brand", description="as shoppers name it"),
        ],
    )
    schema.write(tmp_path / "schema.json")
    assert FactorSchema.read(tmp_path / "schema.json") == schema
    stored = json.loads((tmp_path / "schema.json").read_text("utf-8"))
    assert stored["factors"][1]["values"] is None
    assert stored["factors"][0]["values"] == ["red", "white, cream"]


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({"factors": []}, "factors"),
        ({"factors": [{"name": "a"}, {"name": " a "}]}, "factors"),
        ({"factors": [{"name": " "}]}, "factors.0.name"),
        ({"factors": [{"name": "a", "values": []}]}, "factors.0.values"),
        ({"factors": [{"name": "a", "values": ["x", "x"]}]}, "factors.0.values"),
        ({"factors": [{"name": "a", "values": ["x", ""]}]}, "factors.0.values.1"),
        ({"factors": [{"name": "a", "kind": "open"}]}, "factors.0.kind"),
        (
            {"factors": [{"name": "a", "values": ["x|y"], "multiple": True}]},
            "factors.0",
        ),
        ({"factor": [{"name": "a"}]}, "factors"),
    ],
)
def test_faults_name_the_field(
    tmp_path: Path, schema: dict[str, Any], field: str
) -> None:
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(schema))
    with pytest.raises(DataError) as caught:
        FactorSchema.read(file)
    assert caught.value.file == str(file)
    assert caught.value.field == field


def test_a_bar_is_part_of_a_single_value() -> None:
    assert Factor(name="a", values=["x|y"]).values == ["x|y"]


@pytest.mark.parametrize("content", [b"{", b"\xef\xbb\xbf{", b""])
def test_not_json(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "schema.json"
    file.write_bytes(content)
    with pytest.raises(DataError, match="JSON"):
        FactorSchema.read(file)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        FactorSchema.read(tmp_path / "schema.json")


def test_names_are_checked_in_memory_too() -> None:
    with pytest.raises(ValidationError, match="twice"):
        FactorSchema(factors=[Factor(name="a"), Factor(name="a")])


def test_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    FactorSchema(factors=[Factor(name="colour")]).write(file)
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert FactorSchema.read(file).factors == [Factor(name="colour")]


def test_broken_encoding(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_bytes(b'{\n"domain": "caf\xe9"}\n')
    with pytest.raises(DataError, match="not UTF-8") as caught:
        FactorSchema.read(file)
    assert (caught.value.file, caught.value.row) == (str(file), 2)
