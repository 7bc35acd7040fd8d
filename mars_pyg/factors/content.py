"""What a language model is shown of an item."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mars_pyg.errors import DataError
from mars_pyg.factors.catalogue import ItemCatalogue

#: The fields that are shown as text where a catalogue has them.
TEXT_FIELDS = ("title", "description", "brand", "category", "categories")
#: The fields that may take the place of a picture.
CAPTION_FIELDS = ("caption", "image_caption")

#: Characters that have no place in a text: controls, and halves of surrogate pairs.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufeff]+")


@dataclass(frozen=True)
class ItemContent:
    """What a language model is shown of one item, in one modality.

    Args:
        key: The hash of the content, 16 bytes; items of equal content are asked once.
        fields: The texts by name, none of them empty.
        image: The path or URL of the picture, or an empty string.
    """

    key: bytes
    fields: dict[str, str]
    image: str = ""


class ContentReader:
    r"""Reads the content of items, item by item.

    Args:
        modality: The modality of the profiles. ``"image"`` reads pictures or captions,
            any other reads texts. (default: :obj:`"text"`)
        fields: The fields to show; :obj:`None` for those of title, description, brand
            and category that the catalogue has, or all fields if it has none of these.
            With ``modality="image"``, the field of captions, which then takes the place
            of the pictures. (default: :obj:`None`)
        max_characters: Length at which a field is cut. (default: :obj:`2000`)
        image_root: The folder that paths of pictures are relative to.
            (default: :obj:`None`)
        image_size: Longest side to which pictures are reduced, in pixels.
            (default: :obj:`512`)
    """

    def __init__(
        self,
        modality: str = "text",
        fields: Sequence[str] | None = None,
        max_characters: int = 2000,
        image_root: str | Path | None = None,
        image_size: int = 512,
    ) -> None:
        self.modality = modality
        self.fields = None if fields is None else list(fields)
        self.max_characters = max_characters
        self.image_root = Path(image_root) if image_root is not None else None
        self.image_size = image_size

    def names(self, catalogue: ItemCatalogue) -> list[str]:
        """List the fields of a catalogue that are shown; none for pictures.

        Raises:
            DataError: If a field or every content is missing.
        """
        known = list(catalogue.fields)
        if self.fields is not None:
            for name in self.fields:
                if name not in known:
                    raise DataError(
                        f"the catalogue has no such field; it has {', '.join(known)}",
                        mend="name fields that it has",
                        field=name,
                    )
            return self.fields
        if self.modality == "image":
            if any(catalogue.images):
                return []
            captions = [name for name in CAPTION_FIELDS if name in known]
            if captions:
                return captions[:1]
            raise DataError(
                "the catalogue has neither pictures nor captions",
                mend="say which column holds the pictures, or the field of captions",
                field="images",
            )
        found = [name for name in TEXT_FIELDS if name in known] or known
        if not found:
            raise DataError(
                "the catalogue has no text",
                mend="give it a title, description, brand or category",
                field="fields",
            )
        return found

    def read(self, catalogue: ItemCatalogue) -> CatalogueContents:
        """Read the items in their order; :obj:`None` stands for no content."""
        return CatalogueContents(self, catalogue)

    def read_item(
        self, catalogue: ItemCatalogue, index: int, names: Sequence[str]
    ) -> ItemContent | None:
        """Read one item."""
        fields = {}
        for name in names:
            text = self.clean(catalogue.fields[name][index])
            if text:
                # Under "item" requests have the code of the item.
                fields["item text" if name == "item" else name] = text
        image = ""
        if self.modality == "image" and not names and catalogue.images:
            image = self._locate(catalogue.images[index])
        if not fields and not image:
            return None
        return make_content(fields, image, self.image_size)

    def clean(self, text: str) -> str:
        """Take out what cannot be sent, and cut what is too long."""
        text = _UNPRINTABLE.sub(" ", text).strip()
        if len(text) > self.max_characters:
            text = text[: self.max_characters].rstrip() + " …"
        return text

    def _locate(self, image: str) -> str:
        if not image or is_url(image) or self.image_root is None:
            return image
        return str(self.image_root / image)


class CatalogueContents:
    """The contents of a catalogue, made one by one each time they are gone through.

    Args:
        reader: What reads them.
        catalogue: The catalogue.
    """

    def __init__(self, reader: ContentReader, catalogue: ItemCatalogue) -> None:
        self.reader, self.catalogue = reader, catalogue
        self.names = reader.names(catalogue)

    def __len__(self) -> int:
        return len(self.catalogue)

    def __getitem__(self, index: int) -> ItemContent | None:
        return self.reader.read_item(self.catalogue, index, self.names)

    def __iter__(self) -> Iterator[ItemContent | None]:
        return (self[index] for index in range(len(self)))


def make_content(
    fields: dict[str, str], image: str = "", image_size: int = 512
) -> ItemContent:
    """Make content with its key; a picture in a file counts by its bytes."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(fields, sort_keys=True, ensure_ascii=False).encode())
    if image:
        digest.update(f"\0{image_size}\0".encode())
        digest.update(_picture_digest(image))
    return ItemContent(digest.digest(), fields, image)


def is_url(image: str) -> bool:
    """Tell a URL from a path."""
    return image.startswith(("http://", "https://", "data:"))


def _picture_digest(image: str) -> bytes:
    if is_url(image):
        return image.encode()
    try:
        return hashlib.blake2b(Path(image).read_bytes(), digest_size=16).digest()
    except (OSError, ValueError):  # A zero byte, for one, is in no path.
        # A picture that is not there has no bytes; it is asked for once it is there.
        return b"missing " + image.encode()
