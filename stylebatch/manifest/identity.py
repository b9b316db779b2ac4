"""Pair ids: which are safe as file names everywhere, and the one a pair has by default."""

import hashlib
import json
import posixpath
import re
from collections.abc import Sequence
from functools import lru_cache

from stylebatch.quoting import quoted

MAX_STEM = 40
"""Characters of a file name that go into a default id."""
LONGEST_NAME = 255
"""Characters of a file name that are looked at; no file system has longer ones."""
HASH_DIGITS = 12
"""Hexadecimal digits of a default id. A million rows whose files all have one name (``001/photo.jpg``,
``002/photo.jpg`` ...) then share an id with a chance of 1 in 500; validation would find it."""

REMEMBERED = 256
"""Lists of styles whose names are kept for the rows that follow; one may take a quarter of a megabyte."""

LONGEST_ID = 128
"""Characters of a pair_id: with its ending it is a file's name."""

SAFE_ID = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"
"""A pair_id, as a regular expression that must match all of it."""

_SAFE = re.compile(SAFE_ID)
_UNSAFE_RUN = re.compile(r"[^A-Za-z0-9._]+")


def pair_id_problem(pair_id: str) -> str | None:
    """What is wrong with a pair_id as the name of a file, or None.

    Files are named ``<pair_id>.<one ending without a dot>``, so that no id is mistaken for another one with
    its ending (``a.failed``, ``a.png``). Names that only Windows refuses (``aux``, ``con``) are allowed: they
    are short words that experiments use, and workers do not run there.
    """
    if _SAFE.fullmatch(pair_id):
        return None
    return (
        f"pair_id is {quoted(pair_id)}; it must be 1 to {LONGEST_ID} characters from A-Z, a-z, 0-9, '.', '_' "
        "and '-', and not start with '.'"
    )


def default_pair_id(content: str | None, styles: Sequence[str | None], overrides: str) -> str:
    """``{content}--{style}-{hash}``, from the texts in the manifest, so that a moved folder keeps its ids.

    Args:
        content: The content's URI as written, or None for a texture.
        styles: The styles' URIs as written; none for a content reconstruction.
        overrides: The row's own recipe columns, encoded the same for the same values.
    """
    style_name, style_json = _styles(tuple(styles))
    identity = f"[{json.dumps(content)}, {style_json}, {json.dumps(overrides)}]"
    digest = hashlib.sha256(identity.encode()).hexdigest()[:HASH_DIGITS]
    return f"{_stem(content) or 'texture'}--{style_name}-{digest}"


@lru_cache(REMEMBERED)
def _styles(styles: tuple[str | None, ...]) -> tuple[str, str]:
    """The name of some styles, and they as JSON; most rows share theirs with many others."""
    return _style_name(styles), json.dumps(styles)


def _style_name(styles: Sequence[str | None]) -> str:
    name = _stem(styles[0]) if styles else ""
    others = f"-and-{len(styles) - 1}" if len(styles) > 1 else ""
    return f"{name or 'content'}{others}"


def _stem(uri: str | None) -> str:
    """The file name without its suffix, in safe characters; '' for None."""
    if uri is None:
        return ""
    name = posixpath.splitext(uri.rpartition("/")[2][:LONGEST_NAME])[0]
    return _UNSAFE_RUN.sub("-", name).strip(".-")[:MAX_STEM] or "picture"
