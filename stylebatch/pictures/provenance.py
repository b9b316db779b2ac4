"""The provenance inside published files: what made a picture, as JSON, in the picture's own file."""

import json
from collections.abc import Mapping
from typing import Any

from stylebatch.errors import PictureError
from stylebatch.pictures.headers import open_header

PNG_KEYWORD = "stylebatch"
"""The keyword of the PNG text chunk."""

MARK = b"stylebatch:"
"""How the JPEG comment and the TIFF description start; JSON follows."""

TIFF_DESCRIPTION = 270
"""The tag ImageDescription (TIFF 6.0, section 8)."""

PNG_LIMIT = 1 << 20
"""The longest provenance in a PNG or TIFF file, in bytes; a longer one is not read either."""

MAX_DEPTH = 8
"""Objects and lists within each other in a provenance that is read; ours has two."""

JPEG_LIMIT = 65533 - len(MARK)
"""The longest provenance in a JPEG file, in bytes: a comment is one segment."""


def canonical_text(provenance: Mapping[str, Any], limit: int, format: str) -> str:
    """The provenance as JSON in ASCII, compact, keys sorted: the same everywhere.

    Raises:
        PictureError: It is longer than ``limit`` bytes.
    """
    text = json.dumps(provenance, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    if len(text) > limit:
        raise PictureError(
            f"the provenance is {len(text)} bytes long; a {format} file carries at most {limit}: "
            "leave the long lists out"
        )
    return text


def read_provenance(data: bytes, source: str) -> dict[str, Any]:
    """What a published file says about how it was made.

    Args:
        data: The file, PNG, JPEG or TIFF.
        source: The file's URI, which names it in errors.

    Raises:
        PictureError: The file carries no provenance, or a damaged one, or is not a picture.
    """
    text = _embedded_text(data, source)
    try:
        provenance = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PictureError(f"the provenance in {source} is damaged: it is not JSON") from error
    if not isinstance(provenance, dict) or not _is_flat(provenance, MAX_DEPTH):
        raise PictureError(
            f"the provenance in {source} is damaged: it is not a JSON object of at most {MAX_DEPTH} levels"
        )
    return provenance


def _is_flat(value: Any, levels: int) -> bool:
    """Whether no more than so many objects and lists are within each other."""
    if not isinstance(value, dict | list):
        return True
    items = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_flat(item, levels - 1) for item in items)


def _embedded_text(data: bytes, source: str) -> str | bytes:
    if data.startswith(b"\x93NUMPY"):
        raise PictureError(
            f"{source} is a .npy file, which carries no provenance; the job's result table has it"
        )
    header = open_header(data, source)
    text, comment = header.info.get(PNG_KEYWORD), header.info.get("comment")
    if header.format == "TIFF":
        comment = str(getattr(header, "tag_v2", {}).get(TIFF_DESCRIPTION, "")).encode()
    if isinstance(comment, bytes) and comment.startswith(MARK):
        text = comment.removeprefix(MARK)
    if not isinstance(text, str | bytes):
        raise PictureError(
            f"{source} carries no provenance: stylebatch did not make it, or another program has removed it"
        )
    if len(text) > PNG_LIMIT:
        raise PictureError(f"the provenance in {source} is damaged: it is {len(text)} characters long")
    return text
