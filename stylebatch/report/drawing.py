"""What reports draw with: the font, colours, texts that fit their place, and pictures from storage."""

import io
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from stylebatch.errors import PictureError
from stylebatch.objectstore import ObjectStore
from stylebatch.pictures import decode, fetch, from_array
from stylebatch.pictures.headers import NPY_ERRORS
from stylebatch.recipe import FILE_SUFFIXES

MAX_LABEL = 500
"""Characters of a text that are drawn; a cell has room for fewer."""
PADDING = 18
"""Pixels around the text in a cell."""

PAPER = "#ffffff"
MAT = "#f3f3f1"
FAILED_MAT = "#fbecea"
INK = "#22221f"
FAINT_INK = "#85857f"
FAILED_INK = "#9c2f22"

CAPTION_SIZE = 17
SMALL_SIZE = 13

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def read_picture(store: ObjectStore, uri: str) -> Image.Image:
    """A stored picture as RGB: a published file of any format, or a source.

    Raises:
        PictureError: The bytes are no picture.
        StorageError: They cannot be read.
    """
    data = fetch(store, uri)
    return _from_npy(data, uri) if uri.endswith(FILE_SUFFIXES["npy"]) else decode(data, uri)


def _from_npy(data: bytes, uri: str) -> Image.Image:
    """The picture of a published ``.npy`` file: float32 (H, W, 3), 0..255."""
    try:
        pixels = np.load(io.BytesIO(data), allow_pickle=False)
        levels = np.rint(np.clip(pixels, 0, 255))
        if not np.isfinite(levels).all():
            raise PictureError(f"{uri} holds values that are not finite")
        return from_array(levels.astype(np.uint8))
    except NPY_ERRORS as error:
        raise PictureError(f"{uri} is no array of numbers (height, width, 3), or is damaged") from error


def message(
    size: tuple[int, int], heading: str, text: str = "", ink: str = FAINT_INK, mat: str = MAT
) -> Image.Image:
    """A cell with words in its middle: a heading, and as much of a text as fits below it."""
    cell = Image.new("RGB", size, mat)
    draw = ImageDraw.Draw(cell)
    heading_font, text_font = font(CAPTION_SIZE), font(SMALL_SIZE)
    spacing = SMALL_SIZE + 4
    room = size[0] - 2 * PADDING
    most = max(0, (size[1] - 2 * PADDING - CAPTION_SIZE) // spacing - 1)
    lines = _first(_wrapped(plain(text), text_font, room), most)
    top = (size[1] - CAPTION_SIZE - len(lines) * spacing) / 2
    middle = size[0] / 2
    draw.text((middle, top), shortened(heading, heading_font, size[0]), ink, heading_font, anchor="mt")
    for i, line in enumerate(lines):
        draw.text((middle, top + CAPTION_SIZE + 8 + i * spacing), line, ink, text_font, anchor="mt")
    return cell


def _wrapped(text: str, text_font: Font, room: float) -> list[str]:
    """The text in lines of at most ``room`` pixels; a word that is longer is broken."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".lstrip()
        if text_font.getlength(joined) <= room:
            lines[-1] = joined
            continue
        *whole, last = _pieces(word, text_font, room)
        lines += [*whole, last]
    return [line for line in lines if line]


def _pieces(word: str, text_font: Font, room: float) -> list[str]:
    pieces = [""]
    for character in word:
        if pieces[-1] and text_font.getlength(pieces[-1] + character) > room:
            pieces.append("")
        pieces[-1] += character
    return pieces


def _first(lines: list[str], most: int) -> list[str]:
    return lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1] + " ..."] if most else []


def shortened(text: str, text_font: Font, room: float) -> str:
    """As much of the text as ``room`` pixels hold."""
    if text_font.getlength(text) <= room:
        return text
    kept = len(text)
    while kept and text_font.getlength(text[:kept] + "...") > room:
        kept -= 1
    return text[:kept] + "..."


def plain(text: str) -> str:
    """The text's beginning in letters that Pillow's own font can draw: accents dropped, others as ``?``."""
    letters: Iterable[str] = unicodedata.normalize("NFKD", " ".join(text[:MAX_LABEL].split()))
    return "".join(
        letter if _has_glyph(letter) else "?" for letter in letters if not unicodedata.combining(letter)
    )


@lru_cache(maxsize=4096)
def _has_glyph(letter: str) -> bool:
    small = font(SMALL_SIZE)
    glyph, missing = small.getmask(letter), small.getmask("\uffff")
    return glyph.size != missing.size or bytes(glyph) != bytes(missing)


@lru_cache
def font(size: int) -> Font:
    """Pillow's own font, which every machine has; it knows Latin letters, and no Greek."""
    return ImageFont.load_default(size=size)
