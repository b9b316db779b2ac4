"""Photographs in the hands of eight painters that this program makes up: a set to classify by style.

A picture is painted in strokes that have the photograph's colours. The painters differ in nothing but their
strokes: short or long, thin or thick, along the contours or in any direction. So no network had a part in
what the classes are, and a painter has no colours of his own; each picture is exposed at random besides.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from photographs import photograph
from PIL import Image, ImageDraw

SIDE = 64
"""Of a picture, in pixels."""
PHOTOGRAPH_SIDE = 192
"""The longer side of the photographs that pictures are painted from, pieces of :data:`SIDE` each."""
FINER = 3
"""Strokes are drawn on a canvas so many times finer."""
STEP = 1.5
"""Pixels after which a stroke turns."""
COVERING = 2.5
"""Area of all strokes over the picture's."""
SMOOTHING = 4
"""Pixels over which the directions of contours are averaged."""
COLOUR_JITTER = 14.0
"""Standard deviation of a stroke's colour about the photograph's, in grey levels."""


@dataclass(frozen=True)
class Painter:
    """How strokes look."""

    length: float
    """In pixels."""
    width: float
    """In pixels."""
    follows_contours: bool
    """Whether strokes run along contours; else in any direction."""


PAINTERS = tuple(
    Painter(length, width, follows_contours)
    for length, width, follows_contours in itertools.product((5.0, 9.0), (1.5, 2.2), (True, False))
)


def paint(piece: np.ndarray, painter: Painter, chance: np.random.Generator) -> np.ndarray:
    """A picture of a photograph's piece.

    Args:
        piece: ``(SIDE, SIDE, 3)``, 0..255.
        painter: Whose strokes.
        chance: Where they are put, and how they differ.

    Returns:
        ``(SIDE, SIDE, 3)``, 0..255.
    """
    canvas = Image.new("RGB", (FINER * SIDE, FINER * SIDE), _colour(piece.mean((0, 1))))
    pen, directions = ImageDraw.Draw(canvas), contour_directions(piece)
    strokes = round(COVERING * SIDE**2 / (painter.width * (painter.length + painter.width)))
    for start in chance.uniform(0, SIDE, (strokes, 2)):
        colour = _colour(piece[_place(start)] + chance.normal(0, COLOUR_JITTER, 3))
        points = [FINER * point for point in _stroke(start, painter, directions, chance)]
        pen.line([tuple(point) for point in points], colour, round(FINER * painter.width), joint="curve")
    return np.asarray(canvas.resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)


def contour_directions(piece: np.ndarray) -> np.ndarray:
    """The angle along which a piece changes least, in radians, at every pixel: ``(SIDE, SIDE)``.

    The axis of the structure tensor, so that opposite gradients do not cancel where they are averaged.
    """
    down, right = np.gradient(piece.mean(2))
    doubled = _smoothed(right**2 - down**2), _smoothed(2 * right * down)
    angles: np.ndarray = np.arctan2(doubled[1], doubled[0]) / 2 + np.pi / 2
    return angles


def _smoothed(values: np.ndarray) -> np.ndarray:
    small = Image.fromarray(values.astype(np.float32)).resize(
        (SIDE // SMOOTHING, SIDE // SMOOTHING), Image.Resampling.BOX
    )
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _stroke(
    start: np.ndarray, painter: Painter, directions: np.ndarray, chance: np.random.Generator
) -> Iterator[np.ndarray]:
    """The points of a stroke, as (x, y) in pixels."""
    angle = chance.uniform(0, 2 * np.pi)
    point = start
    yield point
    for _ in range(round(painter.length / STEP)):
        if painter.follows_contours:
            along = directions[_place(point)]
            angle = along if np.cos(along - angle) >= 0 else along + np.pi  # never back
        point = point + STEP * np.array([np.cos(angle), np.sin(angle)])
        yield point


def _place(point: np.ndarray) -> tuple[int, int]:
    """Row and column of a point, within the picture."""
    column, row = np.clip(point.astype(int), 0, SIDE - 1)
    return int(row), int(column)


def _colour(values: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = np.clip(values, 0, 255).astype(int).tolist()
    return red, green, blue


def exposed(picture: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """A picture under another light and in other colours: a gamma for all, a gain for each channel."""
    gamma, gains = np.exp(chance.normal(0, 0.25)), np.exp(chance.normal(0, 0.15, 3))
    changed: np.ndarray = np.clip(255 * gains * (picture / 255) ** gamma, 0, 255)
    return changed


def painted_set(
    contents: Sequence[str], pictures: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """So many pictures of each photograph by each painter, each of another piece.

    Returns:
        The pictures ``(B, SIDE, SIDE, 3)``, 0..255, and for each the numbers of its painter and photograph.
    """
    chance = np.random.default_rng(seed)
    made, painters, sources = [], [], []
    for source, name in enumerate(contents):
        whole = photograph(name, PHOTOGRAPH_SIDE).permute(1, 2, 0).numpy()
        for number, painter in enumerate(PAINTERS):
            for _ in range(pictures):
                top, left = (chance.integers(0, side - SIDE + 1) for side in whole.shape[:2])
                piece = whole[top : top + SIDE, left : left + SIDE]
                made.append(exposed(paint(piece, painter, chance), chance))
                painters.append(number)
                sources.append(source)
    return np.stack(made), np.array(painters), np.array(sources)
