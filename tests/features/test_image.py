from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mars_pyg.errors import DataError
from mars_pyg.features import encode_images
from mars_pyg.features.image import plain_picture

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Two images of two colours, one of them twice, and a missing one."""
    files = [tmp_path / name for name in ("red.png", "blue.jpg", "again.png")]
    for file, color in zip(files, ["red", "blue", "red"], strict=True):
        Image.new("RGB", (20, 30), color).save(file)
    return [str(files[0]), "", str(files[1]), str(files[2])]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches of a model that encodes images as their mean colour."""
    sizes: list[int] = []

    class MeanColor:
        def __init__(self, name: str) -> None:
            if name == "missing":
                raise OSError("no such model")
            self.name = name

        def encode(self, images: list[Any], **_: Any) -> np.ndarray:
            if self.name == "words":
                raise TypeError("expected a text")
            sizes.append(len(images))
            return np.array([np.asarray(image).mean(axis=(0, 1)) for image in images])

    module = types.ModuleType("sentence_transformers")
    module.SentenceTransformer = MeanColor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    return sizes


def test_mean_colors(paths: list[str], calls: list[int], tmp_path: Path) -> None:
    x = encode_images(paths, "colors", cache_dir=tmp_path / "cache")
    expected = torch.tensor([[255.0, 0, 0], [0, 0, 0], [0, 0, 254], [255, 0, 0]])
    torch.testing.assert_close(x, expected, atol=2, rtol=0)
    # Equal files are encoded once, and none again.
    assert calls == [2]
    assert torch.equal(encode_images(paths, "colors", cache_dir=tmp_path / "cache"), x)
    assert calls == [2]
    assert torch.equal(encode_images(paths, "colors", batch_size=1), x)
    assert calls == [2, 1, 1]


def test_files_that_are_no_images(
    paths: list[str], calls: list[int], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    for batch_size in (1, 32):
        with pytest.warns(UserWarning, match=r"1 of 4 images .*broken\.png"):
            x = encode_images([str(broken), *paths], "colors", batch_size=batch_size)
        assert (x[0] == 0).all()
        assert x[1].tolist() == [255, 0, 0]
    (tmp_path / "same.png").write_bytes(b"not an image")
    same = str(tmp_path / "same.png")
    with pytest.warns(UserWarning, match="2 of 5 images"):
        encode_images([str(broken), *paths, same], "colors")
    with pytest.warns(UserWarning, match="1 of 1 images"):
        assert (encode_images([str(broken)], "colors") == 0).all()


def test_faults(paths: list[str], calls: list[int], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.png' of item 1 cannot be read"):
        encode_images([paths[0], str(tmp_path / "none.png")], "colors")
    with pytest.raises(DataError, match=r"of item 0 cannot be read: .*null byte"):
        encode_images(["a\0.png"], "colors")
    with pytest.raises(DataError, match="download the images"):
        encode_images(["http://example.com/a.png"], "colors")
    assert calls == []
    with pytest.raises(DataError, match=r"'missing' cannot be loaded .*no such model"):
        encode_images(paths, "missing")
    with pytest.raises(DataError, match="'words' does not encode images"):
        encode_images(paths, "words")


def test_tiny_clip(paths: list[str], tiny_clip: Path) -> None:
    from sentence_transformers import SentenceTransformer

    x = encode_images(paths, str(tiny_clip))
    assert x.shape == (4, 6)
    model = SentenceTransformer(str(tiny_clip), device="cpu")
    for row in (0, 2):
        expected = model.encode([Image.open(paths[row]).convert("RGB")])
        np.testing.assert_allclose(x[row].numpy(), expected[0], atol=1e-5)
    assert (x[1] == 0).all()
    assert torch.equal(x[3], x[0])
    assert not torch.allclose(x[0], x[2], atol=1e-3)


def test_a_model_of_texts_alone(paths: list[str], tiny_text_model: Path) -> None:
    with pytest.raises(DataError, match="does not encode images"):
        encode_images(paths, str(tiny_text_model))


def test_pictures_are_seen_as_people_see_them(calls: list[int], tmp_path: Path) -> None:
    """Cut-outs on white and upright, as a language model sees them too."""
    cut_out = Image.new("RGBA", (20, 30), (0, 0, 0, 0))
    cut_out.save(tmp_path / "cut_out.png")
    half = Image.new("RGB", (20, 10), "red")
    half.paste("blue", (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # It lies on its side.
    half.save(tmp_path / "side.png", exif=exif)
    paths = [str(tmp_path / name) for name in ("cut_out.png", "side.png")]
    x = encode_images(paths, "colors")
    assert x[0].tolist() == [255, 255, 255]
    with Image.open(paths[1]) as opened:
        seen = plain_picture(opened)
    assert (seen.size, seen.mode) == ((10, 20), "RGB")
    assert seen.getpixel((5, 2)) == (0, 0, 255)


@pytest.mark.parametrize(("mode", "nothing"), [("RGB", (0, 0, 0)), ("L", 0)])
def test_a_colour_that_is_nothing_is_white(
    mode: str, nothing: Any, tmp_path: Path
) -> None:
    """As optimisers of files write cut-outs."""
    file = tmp_path / "cut_out.png"
    Image.new(mode, (20, 30), nothing).save(file, transparency=nothing)
    with Image.open(file) as opened:
        assert plain_picture(opened).getpixel((5, 5)) == (255, 255, 255)


def test_a_picture_of_16_bits_is_not_white(tmp_path: Path) -> None:
    file = tmp_path / "grey.png"
    levels = np.array([[0, 2**15, 2**16 - 1]], dtype=np.uint16)
    Image.fromarray(levels).save(file, transparency=2**16 - 1)
    with Image.open(file) as opened:
        seen = np.asarray(plain_picture(opened))
    assert seen[0, :, 0].tolist() == [0, 128, 255]
