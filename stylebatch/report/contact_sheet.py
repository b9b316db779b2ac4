"""A contact sheet: one PNG that shows content, style and result of each pair side by side."""

import io
import math
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from PIL import Image, ImageDraw

from stylebatch.errors import StylebatchError
from stylebatch.objectstore import ObjectStore
from stylebatch.pictures import resize
from stylebatch.report.drawing import (
    CAPTION_SIZE,
    FAILED_INK,
    FAILED_MAT,
    FAINT_INK,
    INK,
    MAT,
    MAX_LABEL,
    PAPER,
    font,
    message,
    plain,
    read_picture,
    shortened,
)

COLUMNS = ("content", "style", "result")
CELL = (320, 240)
"""Width and height of a cell in pixels; pictures of any shape are fitted into it."""
MARGIN = 32
GAP = 16
"""Pixels between the cells of a row."""
HEADING_HEIGHT = 34
CAPTION_HEIGHT = 34
ROW_GAP = 28
"""Pixels from a caption to the next row."""
TILE_GAP = 6
"""Pixels between the style images of one cell."""
MAX_TILES = 9
"""The most style images of one cell, or one less and how many more there are."""

HEADING_SIZE = 15
FACTS_SIZE = 15

_NEEDED = (
    *("pair_id", "title", "status", "content", "style", "image"),
    *("width", "height", "loss", "evaluations", "error"),
)

Row = Mapping[str, Any]


def contact_sheet(store: ObjectStore, results: pa.Table, max_rows: int = 40) -> bytes:
    """Draw results as a table of pictures.

    A failed pair shows its error in place of the result. A picture that cannot be read (any more) shows why.

    Args:
        store: Where the pictures are read.
        results: Columns ``pair_id``, ``status`` (``ok`` or ``failed``), ``content`` (canonical URI or null),
            ``style`` (list of canonical URIs, or null), ``image`` (canonical URI or null), ``width``,
            ``height``, ``loss``, ``evaluations``, ``error``, and ``title`` if there is one.
        max_rows: Rows that are drawn; the others are counted in a line at the end.

    Returns:
        A PNG file.
    """
    rows = _rows(results, max_rows)
    left_out = results.num_rows - len(rows)
    sheet = Image.new("RGB", sheet_size(len(rows), bool(left_out)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, name in enumerate(COLUMNS):
        left, top = cell_corner(0, column)
        draw.text((left, top - 12), name, FAINT_INK, font(HEADING_SIZE), anchor="ls")
    cells = _Cells(store)
    for number, row in enumerate(rows):
        for column, cell in enumerate((cells.content(row), cells.style(row), cells.result(row))):
            sheet.paste(cell, cell_corner(number, column))
        _draw_caption(draw, number, row)
    if left_out:
        line = f"and {left_out:,} more {'row' if left_out == 1 else 'rows'}, not shown"
        draw.text((MARGIN, sheet.height - MARGIN), line, FAINT_INK, font(FACTS_SIZE), anchor="ls")
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def sheet_size(rows: int, says_what_is_left_out: bool) -> tuple[int, int]:
    """Width and height of a contact sheet in pixels."""
    width = 2 * MARGIN + len(COLUMNS) * CELL[0] + (len(COLUMNS) - 1) * GAP
    gaps = max(0, rows - 1) * ROW_GAP
    height = 2 * MARGIN + HEADING_HEIGHT + rows * (CELL[1] + CAPTION_HEIGHT) + gaps
    return width, height + (HEADING_HEIGHT if says_what_is_left_out else 0)


def cell_corner(row: int, column: int) -> tuple[int, int]:
    """The left and top pixel of a cell, both counted from 0."""
    left = MARGIN + column * (CELL[0] + GAP)
    top = MARGIN + HEADING_HEIGHT + row * (CELL[1] + CAPTION_HEIGHT + ROW_GAP)
    return left, top


def _rows(results: pa.Table, max_rows: int) -> list[Row]:
    present = [name for name in _NEEDED if name in results.column_names]
    rows: list[Row] = results.select(present).slice(0, max_rows).to_pylist()
    return rows


class _Cells:
    """Makes the cells of rows; a picture that several rows share is read once."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._fitted: dict[tuple[str, tuple[int, int]], Image.Image] = {}

    def content(self, row: Row) -> Image.Image:
        if row["content"] is None:
            return message(CELL, "no content", "a texture: the style alone")
        return self._picture(row["content"], CELL)

    def style(self, row: Row) -> Image.Image:
        styles = row["style"]
        if not styles:
            return message(CELL, "no style", "a reconstruction of the content alone")
        cell = Image.new("RGB", CELL, PAPER if len(styles) > 1 else MAT)
        boxes = _tiles(min(len(styles), MAX_TILES))
        tiles = [self._picture(uri, box[2:]) for uri, box in zip(styles, boxes, strict=False)]
        if len(styles) > MAX_TILES:
            tiles[-1] = message(boxes[-1][2:], f"+ {len(styles) - MAX_TILES + 1}")
        for tile, (left, top, _, _) in zip(tiles, boxes, strict=True):
            cell.paste(tile, (left, top))
        return cell

    def result(self, row: Row) -> Image.Image:
        if row["status"] != "ok":
            return message(CELL, "failed", row["error"] or "no error was noted", FAILED_INK, FAILED_MAT)
        if row["image"] is None:
            return message(CELL, "no image")
        return self._picture(row["image"], CELL)

    def _picture(self, uri: str, box: tuple[int, int]) -> Image.Image:
        """A box with the picture in its middle, as large as fits, or with why it cannot be shown."""
        if (uri, box) not in self._fitted:
            self._fitted[uri, box] = self._fit(uri, box)
        return self._fitted[uri, box]

    def _fit(self, uri: str, box: tuple[int, int]) -> Image.Image:
        try:
            picture = read_picture(self._store, uri)
        except StylebatchError as error:  # a report says what is wrong, and goes on
            return message(box, "cannot be shown", str(error))
        scale = min(box[0] / picture.width, box[1] / picture.height)
        fitted = resize(
            picture, (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        )
        cell = Image.new("RGB", box, MAT)
        cell.paste(fitted, ((box[0] - fitted.width) // 2, (box[1] - fitted.height) // 2))
        return cell


def _tiles(count: int) -> list[tuple[int, int, int, int]]:
    """Left, top, width and height of ``count`` equal tiles of a cell, row by row."""
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    width = (CELL[0] - (across - 1) * TILE_GAP) // across
    height = (CELL[1] - (down - 1) * TILE_GAP) // down
    places = (divmod(i, across) for i in range(count))
    return [(x * (width + TILE_GAP), y * (height + TILE_GAP), width, height) for y, x in places]


def _draw_caption(draw: ImageDraw.ImageDraw, number: int, row: Row) -> None:
    """The pair's name at the left below its row, and its numbers at the right."""
    y = cell_corner(number, 0)[1] + CELL[1] + 23
    right = sheet_size(1, False)[0] - MARGIN
    facts = "   ".join(_facts(row))
    small = font(FACTS_SIZE)
    draw.text((right, y), facts, FAINT_INK, small, anchor="rs")
    room = right - MARGIN - small.getlength(facts) - GAP
    draw.text((MARGIN, y), shortened(_name(row), font(CAPTION_SIZE), room), INK, font(CAPTION_SIZE), "ls")


def _name(row: Row) -> str:
    """The title, if its letters can be drawn, and the pair_id, which can."""
    title = row.get("title")
    title = title if isinstance(title, str) else ""  # a manifest's own column may hold anything
    drawn = plain(title)
    is_readable = drawn.count("?") == title[:MAX_LABEL].count("?")
    return f"{drawn} ({row['pair_id']})" if drawn and is_readable else str(row["pair_id"])


def _facts(row: Row) -> Iterator[str]:
    if row["status"] != "ok":
        yield "failed"
        return
    if row["width"] is not None and row["height"] is not None:
        yield f"{row['width']} x {row['height']} px"
    if row["evaluations"] is not None:
        yield f"{row['evaluations']:,} evaluations"
    if row["loss"] is not None:
        yield f"loss {row['loss']:.3g}"
