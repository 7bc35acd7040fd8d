"""Pictures, made small enough to be sent to a language model."""

from __future__ import annotations

import base64
import http.client
import io
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from mars_pyg.factors.content import is_url
from mars_pyg.features.image import plain_picture

#: Larger files are not product pictures, and are not loaded.
MAX_BYTES = 32 * 2**20
_TIMEOUT = 30.0


class PictureError(ValueError):
    """A picture that cannot be had or read, for a reason that stays."""


def load_picture(image: str, size: int) -> str:
    r"""Load a picture, reduce it, and write it as a data URL.

    Args:
        image: The path or URL of the picture.
        size: Longest side in pixels; smaller pictures keep their size.

    Returns:
        A ``data:image/jpeg;base64,...`` URL.

    Raises:
        PictureError: If there is no such picture or it is not one.
        OSError: If a server of pictures cannot be reached now.
    """
    # Pillow comes with tensorboard, and is only needed here.
    from PIL import Image

    payload = _read(image)
    try:
        with Image.open(io.BytesIO(payload)) as opened:
            opened.draft("RGB", (size, size))
            picture = plain_picture(opened)
            picture.thumbnail((size, size))
            stream = io.BytesIO()
            picture.save(stream, "JPEG", quality=85)
    # Pillow raises many kinds of errors for broken files; all mean the same here.
    except Exception as error:
        raise PictureError(f"the file is not a picture ({error})") from error
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _read(image: str) -> bytes:
    if not is_url(image):
        try:
            is_large = Path(image).stat().st_size > MAX_BYTES
            payload = b"" if is_large else Path(image).read_bytes()
        except (OSError, ValueError) as error:  # A zero byte, for one, is in no path.
            raise PictureError(f"the picture cannot be read ({error})") from error
        if is_large:
            raise PictureError(f"the picture is larger than {MAX_BYTES} bytes")
        return payload
    # Browsers take spaces and letters of any language, http does not.
    url = urllib.parse.quote(image, safe="%/:?#[]@!$&'()*+,;=~")
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "mars-pyg"})
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
            payload = response.read(MAX_BYTES + 1)
            # Python raises nothing at a connection that breaks off.
            missing = getattr(response, "length", None)
    except urllib.error.HTTPError as error:
        if error.code in (404, 410, 403):
            raise PictureError(f"the picture's server says {error.code}") from error
        raise
    except (http.client.InvalidURL, ValueError) as error:
        raise PictureError(f"the address is not one ({error})") from error
    except http.client.HTTPException as error:
        raise OSError(f"the picture's server gave no answer ({error!r})") from error
    if len(payload) > MAX_BYTES:
        raise PictureError(f"the picture is larger than {MAX_BYTES} bytes")
    if missing:
        raise OSError(f"the picture's server left out {missing} bytes")
    return payload
