"""How messages repeat what a stranger wrote: printable, short, and without the credentials of a URL."""

import re
import reprlib
from typing import Any

MAX_QUOTED = 80
"""About how many characters of a text or value a message repeats."""
MAX_LOCATION = 160
"""The same for the name of a file, which should be recognised."""
MAX_REASON = 200
"""How many characters a message repeats of what a library says."""
MAX_BITS = 4096
"""A whole number of more bits is not written out: Python takes long for it, or refuses."""

_SECRET_NAMES = (
    r"x-(?:amz|goog|oss)-(?:signature|credential|security-token)|(?:aws|oss)accesskeyid|googleaccessid"
    r"|signature|sig|(?:client_|api_)?secret|(?:secret_|access_|api_)?key|(?:access_|auth_?)?token"
    r"|pass(?:word|wd)?|pwd"
)
_SECRET_PARAMETER = re.compile(rf"(?i)([?&;](?:{_SECRET_NAMES})=)[^&;\s]*")
_USER = re.compile(r"//[^/@\s]*(?::[^@\s]*)?@")
_START = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//")


def has_credentials(uri: str) -> bool:
    """Whether a URI carries a user's name, a key, a signature or a token."""
    start = _START.match(uri)
    host, _, path = uri[start.end() :].partition("/") if start else ("", "", "")
    is_named = "@" in host or (":" in host and "@" in path)  # a secret key may have a / in it
    return is_named or _SECRET_PARAMETER.search(uri) is not None


def quoted(text: str, most: int = MAX_QUOTED) -> str:
    """A text as a message shows it: in quotes, ASCII with all else escaped, without credentials.

    Args:
        text: Of any length, with any characters.
        most: How many characters are repeated.
    """
    whole = _redacted(text)
    escaped = ascii(whole[:most])
    if len(escaped) > most + 2:
        return f"{escaped[:most]}{escaped[0]}..."
    return escaped if len(whole) <= most else f"{escaped}..."


def shown(value: Any) -> str:
    """Any value as a message shows it, however large or deep it is; texts as by :func:`quoted`."""
    text = _on_one_line(_SHORT.repr(value))
    return text if len(text) <= MAX_QUOTED + 5 else f"{text[:MAX_QUOTED]}..."


def reason(error: object) -> str:
    """What a library says, on one line: printable, short, without credentials."""
    words = _on_one_line(str(error)[: 10 * MAX_REASON])
    safe = _SECRET_PARAMETER.sub(r"\1***", _USER.sub("//***@", words))
    return safe[:MAX_REASON].rstrip(".")


def _on_one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def _redacted(text: str) -> str:
    """The beginning of a text without what may be credentials; in doubt, more is left out."""
    last = text.rfind("@")
    start = _START.match(text)
    begin = start.end() if start else text.find(":") + 1
    if 0 < begin <= last:
        text = f"{text[:begin]}***{text[last:]}"
    elif start and ":" in text[begin:].partition("/")[0]:
        text = f"{text[:begin]}***"
    return _SECRET_PARAMETER.sub(r"\1***", text[: 10 * MAX_QUOTED])


class _ShortRepr(reprlib.Repr):
    """``repr`` that looks at a few items of a few levels: a list may hold another a million times."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxdict = self.maxset = self.maxfrozenset = 8
        self.maxother = MAX_QUOTED

    def repr_str(self, x: str, level: int) -> str:
        return quoted(x)

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() <= MAX_BITS else f"a whole number of {x.bit_length()} bits"


_SHORT = _ShortRepr()
