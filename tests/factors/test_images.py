from __future__ import annotations

import base64
import io
import urllib.error
from pathlib import Path

import pytest
from loopback_runs import assign, client_options, missing_reasons, stored_values
from loopback_server import LoopbackServer
from PIL import Image

from mars_pyg.factors import Factor, FactorSchema, images
from mars_pyg.factors.catalogue import ItemCatalogue
from mars_pyg.factors.content import ContentReader
from mars_pyg.factors.images import PictureError, load_picture


def decode(url: str) -> Image.Image:
    head, _, payload = url.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(payload)))


def test_pictures_are_reduced_and_never_enlarged(tmp_path: Path) -> None:
    Image.new("RGB", (1000, 500), "red").save(tmp_path / "large.png")
    Image.new("L", (20, 30)).save(tmp_path / "small.gif")
    assert decode(load_picture(str(tmp_path / "large.png"), 256)).size == (256, 128)
    assert decode(load_picture(str(tmp_path / "small.gif"), 256)).size == (20, 30)


def test_what_is_cut_out_stands_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.png")
    pixel = decode(load_picture(str(tmp_path / "a.png"), 64)).getpixel((4, 4))
    assert pixel == (255, 255, 255)


def test_a_picture_that_is_turned_is_set_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert decode(load_picture(str(tmp_path / "a.jpg"), 64)).size == (20, 40)


def test_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"none")
    with pytest.raises(PictureError, match="not a picture"):
        load_picture(str(tmp_path / "a.png"), 64)
    for path in (str(tmp_path / "b.png"), "a\0.png"):
        with pytest.raises(PictureError, match="cannot be read"):
            load_picture(path, 64)
    (content,) = ContentReader("image").read(ItemCatalogue(["a"], {}, ["a\0.png"]))
    assert content is not None
    monkeypatch.setattr(images, "MAX_BYTES", 3)
    with pytest.raises(PictureError, match="larger than"):
        load_picture(str(tmp_path / "a.png"), 64)


@pytest.mark.parametrize("address", ["http://[bad", "http://shop.test:port/a.jpg"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(PictureError, match="address"):
        load_picture(address, 64)


def test_addresses_as_browsers_take_them() -> None:
    with LoopbackServer() as server:
        root = server.url.replace("/v1", "/pictures")
        with pytest.raises(PictureError, match="404"):
            load_picture(f"{root}/mes images/\u00e9t\u00e9/404", 64)


def test_pictures_at_addresses(tmp_path: Path) -> None:
    """One that is gone is missing; one that cannot be had now is asked for later."""
    schema = FactorSchema(
        modality="image", factors=[Factor(name="color", values=["red", "blue"])]
    )
    with LoopbackServer() as server:
        root = server.url.replace("/v1", "/pictures")
        assert decode(load_picture(f"{root}/200", 128)).size == (128, 43)
        with pytest.raises(PictureError, match="404"):
            load_picture(f"{root}/404", 64)
        with pytest.raises(urllib.error.HTTPError):
            load_picture(f"{root}/503", 64)
        with pytest.raises(OSError, match="left out"):
            load_picture(f"{root}/206", 64)
        catalogue = ItemCatalogue(
            list("abc"), {}, [f"{root}/{status}" for status in (200, 404, 503)]
        )
        options = client_options(server.url)
        summary = assign(tmp_path / "s", catalogue, options, schema)
        assert (summary.asked, summary.missing, summary.failed) == (2, 1, 1)
        assert not summary.complete
    assert stored_values(tmp_path / "s", catalogue, schema) == {(0, 0, "blue")}
    assert "404" in missing_reasons(tmp_path / "s")[0]
