"""Features of texts and images, from the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mars_pyg.datasets import AmazonFactorDataset, FactorDataset
from mars_pyg.features import encode_text
from mars_pyg.features.files import read_features

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "shop"
    folder.mkdir()
    titles = ["red doll", "blue doll", "", "red plate", "cup", "red cup"]
    rows = [f"i{i},{title},i{i}.png" for i, title in enumerate(titles)]
    (folder / "items.csv").write_text("\n".join(["item,title,photo", *rows]))
    pairs = [f"u{user},i{(user + i) % 6}" for user in range(6) for i in range(4)]
    (folder / "interactions.csv").write_text("\n".join(["user,item", *pairs]))
    return folder


def test_text(run: Run, shop: Path) -> None:
    status, out, _ = run("features", "shop/items.csv", "--model=tfidf")
    assert status == 0
    assert out == (
        "text features [6, 5] by tfidf, 1 of them missing, are in shop/text_feat.npy\n"
    )
    data = FactorDataset(shop)[0]
    assert torch.equal(data["item"].x_text, encode_text(data["item"].text, "tfidf"))
    status, _, err = run("features", "shop/items.csv", "--model=tfidf")
    assert status == 1
    assert "--overwrite" in err
    assert run("features", "shop/items.csv", "--model=tfidf", "--overwrite")[0] == 0


def test_safetensors_and_a_model_that_is_not_there(
    run: Run, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("safetensors")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    flags = ["--output=shop/text_feat.safetensors", "--text-columns=title,item"]
    status, out, err = run("features", "shop/items.csv", *flags)
    assert status == 0
    assert "TF-IDF and SVD instead" in err
    assert "by tfidf" in out
    x = read_features(shop / "text_feat.safetensors")
    assert torch.equal(FactorDataset(shop)[0]["item"].x_text, x)
    # A second file would leave the dataset with a choice.
    status, _, err = run("features", "shop/items.csv", "--overwrite")
    assert status == 1
    assert "one file per modality" in err


def test_images(run: Run, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    for i in range(6):
        image.new("RGB", (4, 4), (i * 20, 0, 0)).save(shop / f"i{i}.png")

    class MeanColor:
        def __init__(self, name: str) -> None:
            pass

        def encode(self, images: list, **_: object) -> np.ndarray:
            return np.array([np.asarray(image).mean(axis=(0, 1)) for image in images])

    module = type("module", (), {"SentenceTransformer": MeanColor})
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    flags = ["--modality=image", "--image-column=photo", "--model=colors"]
    status, out, _ = run("features", "shop/items.csv", *flags)
    assert status == 0
    assert "image features [6, 3] by colors, 1 of them missing" in out
    x = FactorDataset(shop)[0]["item"].x_image
    assert x[:, 0].tolist() == [0, 20, 40, 60, 80, 100]
    (shop / "i3.png").unlink()
    status, _, err = run("features", "shop/items.csv", *flags, "--overwrite")
    assert status == 1
    assert "i3.png" in err


def test_amazon_items_are_in_the_order_of_their_numbers(
    run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "amazon-baby"
    folder.mkdir()
    (folder / "items.tsv").write_text(
        "itemID\tasin\ttitle\n2\tB2\tcup\n10\tB10\tplate\n0\tB0\tdoll &amp; bear\n"
        + "".join(f"{i}\tB{i}\tbib {i}\n" for i in (1, 3, 4, 5, 6, 7, 8, 9))
    )
    (folder / "baby.inter").write_text(
        "userID\titemID\tx_label\n0\t0\t0\n0\t1\t0\n0\t2\t1\n1\t0\t0\n1\t1\t2\n"
    )
    model = AmazonFactorDataset(tmp_path, text_model="tfidf")[0]["item"].x_text
    assert run("features", "amazon-baby/items.tsv", "--model=tfidf")[0] == 0
    assert torch.equal(AmazonFactorDataset(tmp_path)[0]["item"].x_text, model)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["shop/items.csv", "--output=x.txt"], 2, ".npy or .safetensors"),
        (["shop/items.csv", "--modality=image"], 2, "--image-column"),
        (["shop/items.csv", "--modality=sound"], 2, "sound"),
        (["shop/items.csv", "--image-column=photo"], 2, "for --modality image"),
        (
            ["shop/items.csv", "--modality=image", "--text-columns=title"],
            2,
            "for --modality text",
        ),
        (["shop/items.csv", "--text-columns=name"], 1, "field 'name'"),
        (["shop/none.csv"], 1, "no such file"),
        (["shop/interactions.csv", "--id-column=user"], 1, "there twice"),
    ],
)
def test_mistakes(run: Run, arguments: list[str], status: int, message: str) -> None:
    found, _, err = run("features", *arguments)
    assert found == status
    assert message in err


def test_interrupt(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from mars_pyg.cli import features

    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules[features.__module__], "text_features", interrupted)
    status, _, err = run("features", "shop/items.csv")
    assert status == 130
    assert "give the same command again to go on" in err


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_rows_are_those_that_datasets_read(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        "asin,itemID,title",
        "A,3,red chair",
        "B,2,blue sofa",
        "C,0,green &amp; mug",
    ]
    text = "\n".join(rows) + "\nD,1,old lamp\n"
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / f"items.{suffix}").write_text(
        text.replace(",", "\t") if suffix == "tsv" else text
    )
    (folder / "interactions.csv").write_text(
        "user,asin\n" + "".join(f"u{i},{x}\n" for i in range(9) for x in "ABCD")
    )
    flags = ["--model=tfidf"]
    if suffix == "tsv":
        (folder / "baby.inter").write_text(
            "userID\titemID\tx_label\n0\t0\t0\n0\t1\t1\n0\t2\t2\n0\t3\t0\n"
        )
        flags.append("--id-column=itemID")
    assert run("features", f"own/items.{suffix}", *flags)[0] == 0
    if suffix == "tsv":
        data = AmazonFactorDataset(folder)[0]
    else:
        data = FactorDataset(folder, item_column="asin")[0]
    expected = encode_text(data["item"].text, "tfidf")
    torch.testing.assert_close(data["item"].x_text, expected)


def test_the_modality_is_that_of_the_name(run: Run, shop: Path) -> None:
    pytest.importorskip("safetensors")
    flags = ["features", "shop/items.csv", "--model=tfidf"]
    assert run(*flags)[0] == 0
    assert run(*flags, "--output=shop/other.npy")[0] == 0
    assert run(*flags, "--output=shop/x_feat.safetensors")[0] == 0
    status, _, err = run(*flags, "--output=shop/x_feat.npy")
    assert (status, "one file per modality" in err) == (1, True)
    # What a file system leaves beside a file is none.
    (shop / "._text_feat.npy").write_bytes(b"")
    (shop / "x_feat.safetensors").unlink()
    assert "x_text" in FactorDataset(shop)[0]["item"]
