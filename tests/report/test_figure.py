"""Figures laid out from results, by their pixels; and the results from which none can be."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from figurejobs import finish, png
from inmemory import MemoryStore
from PIL import Image

from stylebatch.design import figure1, figure2, figure3
from stylebatch.errors import JobError, NotFoundError
from stylebatch.pairs import Pair
from stylebatch.report.figure import (
    PANEL_WIDTHS,
    Grid,
    draw_figure,
    encode_figure,
    figure_format,
)
from stylebatch.report.panels import Panel, PanelPictures, figure_panels
from stylebatch.results import read_results

CONTENT, STYLE, OTHER = "/in/house.png", "/in/night.png", "/in/scream.png"
OUTPUT = "/out"
SOURCES = {
    CONTENT: ((400, 200), (200, 20, 30)),
    STYLE: ((300, 600), (10, 180, 60)),
    OTHER: ((80, 80), (9, 9, 99)),
}
RESULT, TEXTURE = (120, 60), (60, 120)
"""Sizes of what was made from the content, and of a texture."""


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore({uri: png(Image.new("RGB", *source)) for uri, source in SOURCES.items()})


def shade(number: int) -> tuple[int, int, int]:
    """A colour for each row of a manifest, found nowhere else."""
    return 100 + 5 * number, 7, 200 - 5 * number


def made(pair: Pair) -> Image.Image:
    return Image.new("RGB", RESULT if pair.content else TEXTURE, shade(pair.row))


def panels_of(store: MemoryStore, table: pa.Table, **options: Any) -> list[Panel]:
    finish(store, OUTPUT, table, made, **options)
    return figure_panels(read_results(store, OUTPUT))


def drawn(store: MemoryStore, table: pa.Table) -> np.ndarray:
    figure = draw_figure(store, panels_of(store, table))
    assert figure.mode == "RGB"
    return np.asarray(figure)


def box_of(pixels: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of where a colour is."""
    ys, xs = np.nonzero((pixels == colour).all(axis=2))
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def is_filled(pixels: np.ndarray, colour: tuple[int, int, int]) -> bool:
    left, top, right, bottom = box_of(pixels, colour)
    return bool((pixels[top:bottom, left:right] == colour).all())


def is_blank(pixels: np.ndarray) -> bool:
    return bool((pixels == 255).all())


class TestGrid:
    GRID = Grid(width=100, heights=(50, 80), columns=3, gap=7, left=20, top=30, above=11)

    def test_corners_leave_room_for_everything(self) -> None:
        unit = self.GRID.unit
        assert self.GRID.corner(0, 0) == (unit + 20, unit + 30 + 11)
        assert self.GRID.corner(0, 2) == (unit + 20 + 2 * 107, unit + 30 + 11)
        assert self.GRID.corner(1, 0) == (unit + 20, unit + 30 + 11 + 50 + 7 + 11)

    def test_size_ends_after_the_last_panel(self) -> None:
        left, top = self.GRID.corner(1, 2)
        assert self.GRID.size == (left + 100 + self.GRID.unit, top + 80 + self.GRID.unit)


class TestFigure1:
    def test_styles_above_contents_below_and_originals_at_the_left(self, store: MemoryStore) -> None:
        figure = drawn(store, figure1(CONTENT, STYLE))
        boxes = [box_of(figure, shade(number)) for number in range(10)]
        style, content = (box_of(figure, SOURCES[uri][1]) for uri in (STYLE, CONTENT))
        assert all(is_filled(figure, shade(number)) for number in range(10))
        for original, row in ((style, boxes[:5]), (content, boxes[5:])):
            lefts = [box[0] for box in (original, *row)]
            assert lefts == sorted(set(lefts))
            assert {(box[1], box[3]) for box in (original, *row)} == {original[1::2]}
        assert style[3] < content[1]

    def test_pictures_keep_their_shape(self, store: MemoryStore) -> None:
        figure = drawn(store, figure1(CONTENT, STYLE))
        for number, (width, height) in ((0, (240, 480)), (9, (240, 120))):
            left, top, right, bottom = box_of(figure, shade(number))
            assert (right - left, bottom - top) == (width, height)

    def test_every_panel_is_named_above(self, store: MemoryStore) -> None:
        figure = drawn(store, figure1(CONTENT, STYLE))
        names = []
        for number in range(10):
            left, top, right, _ = box_of(figure, shade(number))
            name = figure[top - 24 : top, left : left + 20]
            assert not is_blank(name)
            assert not is_blank(figure[top - 24 : top, left + 26 : right])  # its layers
            names.append(name.tobytes())
        assert len(set(names)) == 10


class TestFigure2:
    def test_photograph_first_then_every_result(self, store: MemoryStore) -> None:
        figure = drawn(store, figure2(CONTENT, [STYLE, OTHER]))
        photograph = box_of(figure, SOURCES[CONTENT][1])
        results = [box_of(figure, shade(number)) for number in range(2)]
        assert photograph[1::2] == results[0][1::2]
        assert photograph[2] < results[0][0]
        assert (photograph[0], photograph[2]) == (results[1][0], results[1][2])
        assert photograph[3] < results[1][1]

    def test_painting_is_small_in_the_lower_left_corner(self, store: MemoryStore) -> None:
        figure = drawn(store, figure2(CONTENT, [STYLE, OTHER]))
        for number, (uri, size) in enumerate(((STYLE, (18, 36)), (OTHER, (36, 36)))):
            panel, painting = box_of(figure, shade(number)), box_of(figure, SOURCES[uri][1])
            assert (painting[0], painting[3]) == (panel[0], panel[3])
            assert (painting[2] - painting[0], painting[3] - painting[1]) == size
            assert is_filled(figure, SOURCES[uri][1])
            assert is_blank(figure[painting[1] - 2 : painting[1], painting[0] : painting[2] + 2])  # its edge
            assert is_blank(figure[painting[1] : painting[3], painting[2] : painting[2] + 2])

    @pytest.mark.parametrize("styles", [1, 2, 5])
    def test_letters_stand_at_the_left_of_panels(self, store: MemoryStore, styles: int) -> None:
        figure = drawn(store, figure2(CONTENT, [STYLE] * styles))
        boxes = [box_of(figure, SOURCES[CONTENT][1]), *(box_of(figure, shade(n)) for n in range(styles))]
        letters = [figure[top : top + 24, left - 26 : left] for left, top, _, _ in boxes]
        assert not any(map(is_blank, letters))
        assert len({letter.tobytes() for letter in letters}) == styles + 1


class TestFigure3:
    def test_layers_downwards_and_ratios_to_the_right(self, store: MemoryStore) -> None:
        figure = drawn(store, figure3(CONTENT, STYLE))
        boxes = np.array([box_of(figure, shade(number)) for number in range(20)]).reshape(5, 4, 4)
        assert (np.diff(boxes[:, :, 0], axis=1) > 240).all()
        assert (np.diff(boxes[:, :, 1], axis=0) > 120).all()
        assert (np.ptp(boxes[:, :, 0], axis=0) == 0).all()
        assert (np.ptp(boxes[:, :, 1], axis=1) == 0).all()

    def test_ratios_above_the_columns_and_letters_beside_the_rows(self, store: MemoryStore) -> None:
        figure = drawn(store, figure3(CONTENT, STYLE))
        boxes = [box_of(figure, shade(number)) for number in range(20)]
        ratios = [figure[top - 40 : top, left:right] for left, top, right, _ in boxes[:4]]
        rows = [figure[top:bottom, left - 96 : left] for left, top, _, bottom in boxes[::4]]
        for texts in (ratios, rows):
            assert not any(map(is_blank, texts))
            assert len({text.tobytes() for text in texts}) == len(texts)
        assert is_blank(figure[boxes[4][1] - 12 : boxes[4][1], boxes[4][0] :])  # no ratios between rows


class TestSizes:
    @pytest.mark.parametrize(("width", "shown"), [(50, 240), (300, 300), (2000, 640)])
    def test_panels_are_as_wide_as_pictures_within_limits(
        self, store: MemoryStore, width: int, shown: int
    ) -> None:
        assert PANEL_WIDTHS == (240, 640)
        picture = Image.new("RGB", (width, width // 2), shade(0))
        finish(store, OUTPUT, figure2(CONTENT, [STYLE]), lambda pair: picture)
        figure = np.asarray(draw_figure(store, figure_panels(read_results(store, OUTPUT))))
        left, _, right, _ = box_of(figure, shade(0))
        assert right - left == shown

    def test_originals_are_shown_at_the_size_of_the_results(self, store: MemoryStore) -> None:
        """Finer detail than the network saw would make reconstructions look worse than they are."""
        noise = np.random.default_rng(0).integers(0, 256, (200, 400, 3), np.uint8)
        store.put(CONTENT, png(Image.fromarray(noise)))
        panel = panels_of(store, figure2(CONTENT, [STYLE]))[0]
        content = PanelPictures(store).content(panel)
        assert content.size == RESULT
        assert np.asarray(content, float).std() < 0.6 * noise.std()

    def test_crops_are_those_of_the_recipe(self, store: MemoryStore) -> None:
        for uri in (CONTENT, STYLE):
            halves = Image.new("RGB", (200, 100), (255, 0, 0))
            halves.paste((0, 0, 255), (100, 0, 200, 100))
            store.put(uri, png(halves))
        finish(store, OUTPUT, figure2(CONTENT, [STYLE]), made)
        results = read_results(store, OUTPUT)
        boxes = {"content_crop": [0.0, 0.0, 100.0, 50.0], "style_crop": [150.0, 0.0, 50.0, 100.0]}
        for name, box in boxes.items():
            place = results.column_names.index(name)
            results = results.set_column(place, name, pa.array([box], pa.list_(pa.float64())))
        (panel,), pictures = figure_panels(results), PanelPictures(store)
        assert pictures.content(panel).getcolors() == [(RESULT[0] * RESULT[1], (255, 0, 0))]
        assert pictures.style(panel).getcolors() == [(50 * 100, (0, 0, 255))]


class TestRefusals:
    def test_another_jobs_results(self, store: MemoryStore) -> None:
        finish(store, OUTPUT, figure2(CONTENT, [STYLE]), made)
        results = read_results(store, OUTPUT)
        with pytest.raises(JobError, match="no column figure; make its manifest with stylebatch design"):
            figure_panels(results.drop_columns(["figure", "panel_row"]))

    def test_several_figures(self, store: MemoryStore) -> None:
        both = pa.concat_tables([figure2(CONTENT, [STYLE]), figure3(CONTENT, STYLE)])
        with pytest.raises(JobError, match="panels of 'figure2', 'figure3'; a figure is laid out from"):
            panels_of(store, both)

    def test_no_results_at_all(self, store: MemoryStore) -> None:
        with pytest.raises(JobError, match="holds no results"):
            read_results(store, OUTPUT)

    def test_a_job_that_is_not_finished(self, store: MemoryStore) -> None:
        with pytest.raises(JobError, match="figure3 has 20 panels, and the results hold 12; run the job to"):
            panels_of(store, figure3(CONTENT, STYLE).slice(0, 12))

    def test_panels_that_are_there_twice(self, store: MemoryStore) -> None:
        table = figure2(CONTENT, [STYLE, OTHER])
        ones = pa.array([1, 1], pa.int64())
        changed = table.set_column(table.column_names.index("panel_row"), "panel_row", ones)
        with pytest.raises(JobError, match="the panels do not stand where those of figure2 do"):
            panels_of(store, changed)

    @pytest.mark.parametrize(
        ("column", "value"),
        [("figure", None), ("figure", "figure9"), ("panel", 7), ("panel_row", "1"), ("panels", None)],
    )
    def test_columns_that_hold_something_else(self, store: MemoryStore, column: str, value: Any) -> None:
        table = figure2(CONTENT, [STYLE, OTHER])
        changed = table.set_column(table.column_names.index(column), column, pa.array([value] * 2))
        with pytest.raises(JobError, match="make its manifest with stylebatch design"):
            panels_of(store, changed)

    def test_failed_panels_are_named(self, store: MemoryStore) -> None:
        with pytest.raises(JobError, match="failed") as refusal:
            panels_of(store, figure3(CONTENT, STYLE), failed={"figure3-B-1e-4", "figure3-E-1e-2"})
        said = str(refusal.value)
        assert "figure3: 2 of 20 panels failed (figure3-B-1e-4: it is no picture; figure3-E-1e-2: " in said
        assert said.endswith("run the job again with --retry-failed")

    def test_many_failed_panels_are_counted(self, store: MemoryStore) -> None:
        table = figure3(CONTENT, STYLE)
        with pytest.raises(JobError, match=r"20 of 20 panels failed .* and 15 more\)"):
            panels_of(store, table, failed=set(table["pair_id"].to_pylist()))

    @pytest.mark.parametrize("uri", [CONTENT, STYLE])
    def test_an_original_that_is_gone_is_named(self, store: MemoryStore, uri: str) -> None:
        panels = panels_of(store, figure2(CONTENT, [STYLE]))
        store.delete(uri)
        with pytest.raises(NotFoundError, match=uri):
            draw_figure(store, panels)


class TestOrder:
    def test_rows_may_come_in_any_order(self, store: MemoryStore) -> None:
        finish(store, OUTPUT, figure1(CONTENT, STYLE), made)
        results = read_results(store, OUTPUT)
        in_order = draw_figure(store, figure_panels(results))
        backwards = draw_figure(store, figure_panels(results.take(list(range(9, -1, -1)))))
        assert in_order.tobytes() == backwards.tobytes()


class TestFiles:
    @pytest.fixture
    def figure(self, store: MemoryStore) -> Image.Image:
        return draw_figure(store, panels_of(store, figure2(CONTENT, [STYLE])))

    def test_png(self, figure: Image.Image) -> None:
        with Image.open(io.BytesIO(encode_figure(figure, "png"))) as read:
            assert (read.format, read.tobytes()) == ("PNG", figure.tobytes())

    def test_pdf(self, figure: Image.Image) -> None:
        data = encode_figure(figure, "pdf")
        assert data.startswith(b"%PDF-")
        jpeg = data[data.index(b"\xff\xd8\xff") : data.index(b"endstream")]
        with Image.open(io.BytesIO(jpeg)) as page:
            assert page.size == figure.size
            difference = np.asarray(page, float) - np.asarray(figure, float)
            assert np.abs(difference).mean() < 2
        assert encode_figure(figure, "pdf") == data
        assert b"Date" not in data

    @pytest.mark.parametrize(
        ("name", "format"), [("a.png", "png"), ("s3://bucket/a.b/c.PDF", "pdf"), ("/x.y/figure.Png", "png")]
    )
    def test_the_name_says_the_format(self, name: str, format: str) -> None:
        assert figure_format(name) == format

    @pytest.mark.parametrize("name", ["figure", "figure.gif", "figure.pngx", str(Path("a.png") / "figure")])
    def test_other_names_are_refused(self, name: str) -> None:
        with pytest.raises(JobError, match=r"a figure is written as \.png or \.pdf; name the file so"):
            figure_format(name)
