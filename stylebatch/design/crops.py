"""Crops of fixed size: where in an image they are taken, and whether they fit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stylebatch.design.entries import Entry
from stylebatch.errors import DesignError

LARGEST_SIDE = 2**20
"""Pixels of a side of a crop; no image that is read has a longer one."""
CROP_FIELDS = {"content": "content_crop", "style": "style_crop"}
"""The recipe's field for the crop of each source."""
PLACES_ALLOWED = "seeded, centre, or [left, top] in pixels of the upright image"

Size = tuple[int, int]
"""Width and height in pixels, upright."""
Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels of the upright image."""
Edges = NDArray[np.int64]
"""Where pieces of a range begin, and where the last one ends."""


@dataclass(frozen=True)
class Crop:
    """A part of fixed size of each content or style image."""

    of: str
    """``content`` or ``style``."""
    width: int
    """In pixels of the image, before it is resized."""
    height: int
    """Likewise."""
    at: str | tuple[int, int]
    """``seeded``, ``centre``, or left and top."""


def read_place(entry: Entry) -> str | tuple[int, int]:
    """Where a crop is taken.

    Raises:
        DesignError: It is no such place.
    """
    if entry.value in ("seeded", "centre"):
        return str(entry.value)
    if not isinstance(entry.value, list) or len(entry.value) != 2:
        raise entry.refusal(PLACES_ALLOWED)
    left, top = (item.whole(0, LARGEST_SIDE) for item in entry.listed(PLACES_ALLOWED))
    return left, top


def check_fits(box: Box, uri: str, size: Size, where: str) -> None:
    """Raise DesignError if a crop is not within its image.

    Args:
        box: The crop.
        uri: The image.
        size: Of the image.
        where: What of the design asks for it, for the message.
    """
    left, top, width, height = box
    if left + width > size[0] or top + height > size[1]:
        raise DesignError(
            f"{where}: the crop {width} x {height} at [{left}, {top}] does not fit into {uri}, which is "
            f"{size[0]} x {size[1]} pixels"
        )


def take(crop: Crop, size: Size, number: int) -> Box:
    """The box of a crop.

    Args:
        crop: Not larger than the image, unless it stands at a given place.
        size: Of the image.
        number: Chooses among all places, if they are seeded.
    """
    room = (size[0] - crop.width + 1, size[1] - crop.height + 1)
    if isinstance(crop.at, tuple):
        left, top = crop.at
    elif crop.at == "centre":
        left, top = (room[0] - 1) // 2, (room[1] - 1) // 2
    else:
        top, left = divmod(number % (room[0] * room[1]), room[0])
    return left, top, crop.width, crop.height


def take_apart(crop: Crop, size: Size, used: Sequence[Box], number: int) -> Box:
    """The box of a seeded crop that overlaps none of the used ones, if there is room for one.

    Args:
        crop: Not larger than the image.
        size: Of the image.
        used: Boxes to keep away from.
        number: Chooses among all places that are left, each as likely as any other.
    """
    columns, rows, is_free = _free_places(crop, size, used)
    places = np.cumsum(np.where(is_free, np.outer(np.diff(rows), np.diff(columns)), 0))
    if not is_free.any():
        return take(crop, size, number)
    number %= int(places[-1])
    piece = int(np.searchsorted(places, number, side="right"))
    row, column = divmod(piece, len(columns) - 1)
    number -= int(places[piece - 1]) if piece else 0
    down, across = divmod(number, int(columns[column + 1] - columns[column]))
    return int(columns[column]) + across, int(rows[row]) + down, crop.width, crop.height


def overlap(first: Box, second: Box) -> bool:
    """Whether two boxes have a pixel in common."""
    return all(first[i] < second[i] + second[i + 2] and second[i] < first[i] + first[i + 2] for i in (0, 1))


def _free_places(crop: Crop, size: Size, used: Sequence[Box]) -> tuple[Edges, Edges, NDArray[np.bool_]]:
    """The places where a crop can begin, cut into pieces, and in which of them it overlaps no used box.

    Returns:
        The edges of the pieces in columns and in rows, and for each piece ``(rows, columns)`` whether it is
        free; pieces are either wholly free or not at all.
    """
    across = [(left - crop.width + 1, left + width) for left, _, width, _ in used]
    down = [(top - crop.height + 1, top + height) for _, top, _, height in used]
    columns = _edges(size[0] - crop.width + 1, across)
    rows = _edges(size[1] - crop.height + 1, down)
    is_free = np.full((len(rows) - 1, len(columns) - 1), True)
    for (left, right), (top, bottom) in zip(across, down, strict=True):
        first, last = np.searchsorted(columns, (left, right))
        begin, end = np.searchsorted(rows, (top, bottom))
        is_free[begin:end, first:last] = False
    return columns, rows, is_free


def _edges(length: int, spans: Iterable[tuple[int, int]]) -> Edges:
    """The ends of the range from 0, and wherever in it a span begins or ends."""
    inner = {edge for span in spans for edge in span if 0 < edge < length}
    return np.array([0, *sorted(inner), length], dtype=np.int64)
