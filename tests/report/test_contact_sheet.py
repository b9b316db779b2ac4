"""The contact sheet, by its pixels."""

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from stylebatch.report.contact_sheet import (
    CELL,
    FAILED_INK,
    FAILED_MAT,
    MAT,
    PAPER,
    cell_corner,
    contact_sheet,
    sheet_size,
)
from stylebatch.storage import LocalStore

SCHEMA = pa.schema(
    {
        "pair_id": pa.string(),
        "status": pa.string(),
        "content": pa.string(),
        "style": pa.list_(pa.string()),
        "image": pa.string(),
        "width": pa.int64(),
        "height": pa.int64(),
        "loss": pa.float64(),
        "evaluations": pa.int64(),
        "error": pa.string(),
    }
)
RED, GREEN, BLUE = (200, 20, 30), (10, 180, 60), (20, 40, 220)
CONTENT, STYLE, RESULT = range(3)


class CountingStore(LocalStore):
    """A LocalStore that remembers what was read."""

    def __init__(self) -> None:
        self.reads: list[str] = []

    def get_range(self, uri: str, start: int, length: int) -> bytes:
        self.reads.append(uri)
        return super().get_range(uri, start, length)


@pytest.fixture
def row(tmp_path: Path) -> dict[str, Any]:
    """A result: red content, green style and blue image, of another shape each."""
    sizes = {"content": (80, 60), "style": (50, 100), "image": (300, 60)}
    uris = {name: f"{tmp_path}/{name}.png" for name in sizes}
    for name, colour in zip(sizes, (RED, GREEN, BLUE), strict=True):
        Image.new("RGB", sizes[name], colour).save(uris[name])
    numbers = {"width": 300, "height": 60, "loss": 1234.5, "evaluations": 120}
    return {
        "pair_id": "a-b",
        "status": "ok",
        "error": None,
        **uris,
        "style": [uris["style"]],
        **numbers,
    }


def failed(row: dict[str, Any], error: str | None) -> dict[str, Any]:
    nothing = dict.fromkeys(["image", "width", "height", "loss", "evaluations"])
    return row | nothing | {"status": "failed", "error": error}


def drawn(rows: list[dict[str, Any]], schema: pa.Schema = SCHEMA, **options: Any) -> Image.Image:
    data = contact_sheet(LocalStore(), pa.Table.from_pylist(rows, schema=schema), **options)
    picture = Image.open(io.BytesIO(data))
    assert (picture.format, picture.mode) == ("PNG", "RGB")
    return picture


def cell(sheet: Image.Image, row: int, column: int) -> np.ndarray:
    left, top = cell_corner(row, column)
    return np.asarray(sheet.crop((left, top, left + CELL[0], top + CELL[1])))


def box_of(pixels: np.ndarray, colour: tuple[int, int, int] | str) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a colour; the box is filled with it."""
    wanted = np.asarray(Image.new("RGB", (1, 1), colour))[0, 0]
    ys, xs = np.nonzero((pixels == wanted).all(axis=2))
    left, top, right, bottom = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
    assert len(xs) == (right - left) * (bottom - top)
    return int(left), int(top), int(right), int(bottom)


def count(pixels: np.ndarray, colour: str) -> int:
    return int((pixels == np.asarray(Image.new("RGB", (1, 1), colour))[0, 0]).all(axis=2).sum())


class TestLayout:
    def test_size_grows_with_rows(self, row: dict[str, Any]) -> None:
        heights = [drawn([row] * rows).height for rows in (1, 2, 3)]
        assert heights[1] - heights[0] == heights[2] - heights[1] > CELL[1]
        assert drawn([row]).width == drawn([row] * 3).width > 3 * CELL[0]

    def test_pictures_are_side_by_side_as_large_as_fits_and_in_the_middle(self, row: dict[str, Any]) -> None:
        sheet = drawn([row, row])
        for number in (0, 1):
            assert box_of(cell(sheet, number, CONTENT), RED) == (0, 0, 320, 240)
            assert box_of(cell(sheet, number, STYLE), GREEN) == (100, 0, 220, 240)
            assert box_of(cell(sheet, number, RESULT), BLUE) == (0, 88, 320, 152)

    def test_a_picture_is_scaled_as_a_whole(self, row: dict[str, Any]) -> None:
        halves = Image.new("RGB", (2000, 1500), RED)
        halves.paste(GREEN, (1000, 0, 2000, 1500))
        halves.save(row["image"])
        shown = cell(drawn([row]), 0, RESULT)
        assert (shown[:, :150] == RED).all()
        assert (shown[:, 170:] == GREEN).all()

    def test_there_is_paper_around_and_between_the_cells(self, row: dict[str, Any]) -> None:
        sheet = np.asarray(drawn([row, row]))
        left, top = cell_corner(0, 0)
        assert (sheet[:, :left] == 255).all()
        assert (sheet[top : top + CELL[1], left + CELL[0] : cell_corner(0, 1)[0]] == 255).all()

    def test_caption_is_below_its_row(self, row: dict[str, Any]) -> None:
        sheet = drawn([row])
        top = cell_corner(0, 0)[1] + CELL[1]
        caption = np.asarray(sheet)[top:]
        assert (caption[:, : CELL[0]] < 100).any()  # the name, dark, at the left
        assert (caption[:, -CELL[0] :] < 160).any()  # the numbers, grey, at the right
        assert (np.asarray(drawn([row | {"loss": 77.0}]))[top:] != caption).any()

    @pytest.mark.parametrize("title", ["Un café", "日本", "x" * 300])
    def test_titles_of_all_kinds(self, row: dict[str, Any], title: str) -> None:
        sheet = drawn([row | {"title": title}], SCHEMA.append(pa.field("title", pa.string())))
        plain = drawn([row])
        assert (sheet.tobytes() == plain.tobytes()) == (title == "日本")  # Pillow's font lacks these letters
        assert (np.asarray(sheet)[:, -32:] == 255).all()  # nothing runs over the edge

    def test_no_results(self) -> None:
        assert drawn([]).size == sheet_size(0, False)


class TestManyRows:
    def test_the_first_are_drawn_and_the_others_counted(self, row: dict[str, Any]) -> None:
        all_shown, some_left_out = drawn([row] * 2, max_rows=2), drawn([row] * 5, max_rows=2)
        assert some_left_out.size == sheet_size(2, True)
        assert some_left_out.height > all_shown.height
        line = np.asarray(some_left_out)[-60:]
        assert (line < 160).any()
        assert (line != np.asarray(drawn([row] * 6, max_rows=2))[-60:]).any()

    def test_a_shared_picture_is_read_once(self, row: dict[str, Any]) -> None:
        store = CountingStore()
        contact_sheet(store, pa.Table.from_pylist([row] * 5, schema=SCHEMA), 4)
        assert sorted(store.reads) == sorted([row["content"], *row["style"], row["image"]])


class TestPlaceholders:
    def test_failed_row_shows_its_error_beside_its_pictures(self, row: dict[str, Any]) -> None:
        sheet = drawn([failed(row, "the picture is truncated"), row])
        placeholder = cell(sheet, 0, RESULT)
        assert count(placeholder, FAILED_MAT) > 0.9 * CELL[0] * CELL[1]
        assert count(placeholder, FAILED_INK) > 20
        assert box_of(cell(sheet, 0, CONTENT), RED) == (0, 0, *CELL)
        assert box_of(cell(sheet, 1, RESULT), BLUE)

        other = cell(drawn([failed(row, "the disk is full")]), 0, RESULT)
        assert (placeholder != other).any()

    @pytest.mark.parametrize("error", ["word " * 500, "w" * 5000, "two\nlines \x00 日本", "", None])
    def test_any_error_text_stays_within_its_cell(self, row: dict[str, Any], error: str | None) -> None:
        placeholder = cell(drawn([failed(row, error)]), 0, RESULT)
        for edge in (placeholder[:8], placeholder[-8:], placeholder[:, :8], placeholder[:, -8:]):
            assert count(edge, FAILED_MAT) == edge.shape[0] * edge.shape[1]
        assert count(placeholder, FAILED_INK) > 20

    @pytest.mark.parametrize(
        ("column", "nothing"), [("content", None), ("style", None), ("style", []), ("image", None)]
    )
    def test_null_is_a_labelled_empty_cell(self, row: dict[str, Any], column: str, nothing: Any) -> None:
        place = {"content": CONTENT, "style": STYLE, "image": RESULT}[column]
        empty = cell(drawn([row | {column: nothing}]), 0, place)
        assert 0.9 * CELL[0] * CELL[1] < count(empty, MAT) < CELL[0] * CELL[1] - 100

    def test_pictures_that_cannot_be_read_any_more(self, row: dict[str, Any]) -> None:
        Path(row["content"]).unlink()
        Path(row["style"][0]).write_text("not a picture")
        sheet = drawn([row])
        for column in (CONTENT, STYLE):
            assert 0.9 * CELL[0] * CELL[1] < count(cell(sheet, 0, column), MAT) < CELL[0] * CELL[1] - 100
        assert box_of(cell(sheet, 0, RESULT), BLUE)


def npy_of(kind: str, shape: tuple[int, ...]) -> bytes:
    """The beginning of an array's file, and a little more."""
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(118)
    return b"\x93NUMPY\x01\x00v\x00" + header[:-1] + b"\n" + bytes(64)


class TestLabels:
    """A manifest's own column is the title."""

    @pytest.mark.parametrize(
        "title",
        [
            *("x" * 10**6, "\ufdfa" * 10**5, "e" + "\u0301" * 10**5, " " * 10**6 + "x", "a\n" * 10**5),
            *("\x1b[31m\0\u202egnp", 7, 1.5, True, b"\xff", ["a"], {"a": 1}, None, ""),
        ],
        ids=lambda title: repr(title)[:12],
    )
    def test_whatever_it_holds_the_sheet_is_drawn_at_once(self, row: dict[str, Any], title: Any) -> None:
        table = pa.Table.from_pylist([row], schema=SCHEMA).append_column("title", pa.array([title]))
        started = time.process_time()
        data = contact_sheet(LocalStore(), table)
        assert time.process_time() - started < 5
        assert Image.open(io.BytesIO(data)).size == sheet_size(1, False)


class TestNpy:
    def test_is_clipped_and_shown(self, row: dict[str, Any], tmp_path: Path) -> None:
        pixels = np.zeros((60, 80, 3), np.float32)
        pixels[..., 0], pixels[..., 1], pixels[..., 2] = 300.0, -7.0, 99.6
        np.save(tmp_path / "image.npy", pixels)
        shown = cell(drawn([row | {"image": f"{tmp_path}/image.npy"}]), 0, RESULT)
        assert box_of(shown, (255, 0, 100)) == (0, 0, *CELL)

    @pytest.mark.parametrize(
        "content",
        [
            np.zeros((4, 4, 2), np.float32),
            np.full((4, 4, 3), np.nan, np.float32),
            np.array(["text"]),
            np.zeros((0, 4, 3), np.float32),
            b"\x93NUMPY\x01\x00v\x00{'descr'",
            b"",
            npy_of("<f4", (10**6, 10**6, 3)),
            npy_of("<f4", (10**15, 10**15, 10**15)),
            npy_of("|O", (4, 4, 3)),
            npy_of("<f4", (-1, 4, 3)),
            b"PK\x05\x06" + bytes(18),
            b"\x80\x04cos\nsystem\n(U\x04lstR.",
        ],
    )
    def test_other_content_is_a_placeholder(self, row: dict[str, Any], tmp_path: Path, content: Any) -> None:
        path = tmp_path / "image.npy"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            np.save(path, content)
        shown = cell(drawn([row | {"image": str(path)}]), 0, RESULT)
        assert 0.9 * CELL[0] * CELL[1] < count(shown, MAT) < CELL[0] * CELL[1] - 100


class TestSeveralStyles:
    @pytest.mark.parametrize("styles", [2, 3, 4, 9])
    def test_each_has_a_tile(self, row: dict[str, Any], tmp_path: Path, styles: int) -> None:
        uris = [f"{tmp_path}/style{i}.png" for i in range(styles)]
        for i, uri in enumerate(uris):
            Image.new("RGB", (40, 30), (10 + 20 * i, 0, 0)).save(uri)
        shown = cell(drawn([row | {"style": uris}]), 0, STYLE)
        boxes = [box_of(shown, (10 + 20 * i, 0, 0)) for i in range(styles)]
        assert len(set(boxes)) == styles
        assert len({(right - left, bottom - top) for left, top, right, bottom in boxes}) == 1
        assert count(shown, PAPER) > 0  # the gaps between them

    def test_more_than_fit_are_counted(self, row: dict[str, Any]) -> None:
        nine, twelve = (cell(drawn([row | {"style": row["style"] * n}]), 0, STYLE) for n in (9, 12))
        same = (nine == twelve).all(axis=2)
        ys, xs = np.nonzero(~same)
        assert xs.min() > CELL[0] * 0.6  # the last of the tiles alone
        assert ys.min() > CELL[1] * 0.6
