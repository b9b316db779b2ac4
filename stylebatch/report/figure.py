"""The paper's figures, laid out from the results of a job over one of their manifests."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from stylebatch.errors import JobError
from stylebatch.objectstore import ObjectStore
from stylebatch.pictures import resize
from stylebatch.quoting import MAX_LOCATION, quoted
from stylebatch.report.drawing import FAINT_INK, INK, PAPER, font
from stylebatch.report.panels import Panel, PanelPictures, layers_text, ratio_text

PANEL_WIDTHS = (240, 640)
"""Pixels: a panel is as wide as its picture, within these; then the picture is resized."""
PAINTING_SHARE = 0.3
"""The most of a panel's sides that the painting in its corner takes."""
FORMATS = ("png", "pdf")
DOTS_PER_INCH = 200.0
"""Of a PDF page."""
JPEG_QUALITY = 95
"""Of the picture inside a PDF."""


@dataclass(frozen=True)
class Grid:
    """Where panels of one width stand; all lengths are in pixels."""

    width: int
    """Of a panel."""
    heights: tuple[int, ...]
    """Of the panels of each row."""
    columns: int
    gap: int
    """Between the panels."""
    left: int = 0
    """From the margin to the first column."""
    top: int = 0
    """From the margin to the first row."""
    above: int = 0
    """What is kept free above the panels of each row."""

    @property
    def unit(self) -> int:
        """A line of text; margins and gaps follow from it."""
        return self.width // 10

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the page."""
        left, top = self.corner(len(self.heights) - 1, self.columns - 1)
        return left + self.width + self.unit, top + self.heights[-1] + self.unit

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """The left and top pixel of a panel."""
        rows = sum(height + self.above + self.gap for height in self.heights[:row])
        left = self.unit + self.left + column * (self.width + self.gap)
        return left, self.unit + self.top + rows + self.above


class Page:
    """A figure that is being drawn.

    Args:
        grid: Where its panels stand.
    """

    def __init__(self, grid: Grid) -> None:
        self.image = Image.new("RGB", grid.size, PAPER)
        self._grid = grid
        self._draw = ImageDraw.Draw(self.image)

    def put(self, picture: Image.Image, row: int, column: int) -> None:
        """Show a picture as a panel."""
        panel = resize(picture, (self._grid.width, self._grid.heights[row]))
        self.image.paste(panel, self._grid.corner(row, column))

    def put_painting(self, painting: Image.Image, row: int, column: int) -> None:
        """Show a painting small in the lower left corner of a panel, with a white edge."""
        width, height = self._grid.width, self._grid.heights[row]
        scale = PAINTING_SHARE * min(width / painting.width, height / painting.height)
        small = resize(painting, _scaled(painting, scale))
        edge = max(2, width // 120)
        left, top = self._grid.corner(row, column)
        bottom = top + height
        self._draw.rectangle(
            (left, bottom - small.height - edge, left + small.width + edge - 1, bottom - 1), PAPER
        )
        self.image.paste(small, (left, bottom - small.height))

    def write(
        self,
        text: str,
        row: int,
        column: int,
        right: float,
        down: float,
        *,
        size: float = 1.0,
        ink: str = INK,
    ) -> None:
        """Write a line whose baseline starts so many units to the right of and below a panel's corner."""
        left, top = self._grid.corner(row, column)
        unit = self._grid.unit
        self._draw.text((left + right * unit, top + down * unit), text, ink, font(round(size * unit)), "ls")

    def write_ratio(self, ratio: float, row: int, column: int) -> None:
        """Write α/β as a power of ten above the middle of a panel."""
        left, top = self._grid.corner(row, column)
        unit = self._grid.unit
        mantissa, _, exponent = ratio_text(ratio).partition("e")
        base = "10" if mantissa == "1" else f"{mantissa} x 10"
        large, small = font(unit), font(round(0.7 * unit))
        start = left + (self._grid.width - large.getlength(base) - small.getlength(exponent)) / 2
        baseline = top - 0.4 * unit
        self._draw.text((start, baseline), base, INK, large, "ls")
        raised = (start + large.getlength(base), baseline - 0.4 * unit)
        self._draw.text(raised, exponent, INK, small, "ls")


def draw_figure(store: ObjectStore, panels: Sequence[Panel]) -> Image.Image:
    """Lay a figure out as the paper does.

    Figure 1: the style reconstructions A to E above, the content reconstructions a to e below, at the left
    what they were made from. Figure 2: the photograph (A) and the results, each with its painting in the
    corner. Figure 3: growing sets of style layers downwards, α/β to the right.

    Args:
        store: Where the pictures are.
        panels: Those of one whole figure.

    Returns:
        An RGB picture.

    Raises:
        PictureError: A file is no picture.
        StorageError: A picture cannot be read.
    """
    return _LAYOUTS[panels[0].figure](panels, PanelPictures(store))


def _figure1(panels: Sequence[Panel], pictures: PanelPictures) -> Image.Image:
    """Two rows; the column at the left holds the originals at the size of their reconstructions."""
    width = _panel_width(panels)
    unit = width // 10
    page = Page(Grid(width, _row_heights(panels, width), 6, unit // 2, above=3 * unit))
    for panel in panels:
        row, column = panel.panel_row, panel.panel_column + 1
        layers = panel.style_layers if panel.content is None else panel.content_layers
        page.put(pictures.result(panel), row, column)
        page.write(panel.panel, row, column, 0, -0.3)
        page.write(layers_text(layers), row, column, 1.2, -0.3, size=0.65, ink=FAINT_INK)
    for row, name in enumerate(("Style", "Content")):
        first = next(panel for panel in panels if panel.panel_row == row)
        original = pictures.content(first) if first.content else resize(pictures.style(first), first.size)
        page.put(original, row, 0)
        page.write(name, row, 0, 0, -0.3)
        page.write(f"{name} reconstructions", row, 1, 0, -1.6)
    return page.image


def _figure2(panels: Sequence[Panel], pictures: PanelPictures) -> Image.Image:
    """The photograph first, then the results."""
    width = _panel_width(panels)
    unit = width // 10
    rows = max(panel.panel_row for panel in panels) + 1
    height = _scaled_height(panels[0], width)
    page = Page(Grid(width, (height,) * rows, 2, 3 * unit // 2, left=unit))
    page.put(pictures.content(panels[0]), 0, 0)
    page.write("A", 0, 0, -1.0, 0.8)
    for panel in panels:
        row, column = panel.panel_row, panel.panel_column
        page.put(pictures.result(panel), row, column)
        page.put_painting(pictures.style(panel), row, column)
        page.write(panel.panel, row, column, -1.0, 0.8)
    return page.image


def _figure3(panels: Sequence[Panel], pictures: PanelPictures) -> Image.Image:
    """Rows of style layers, columns of ratios."""
    width = _panel_width(panels)
    unit = width // 10
    columns = max(panel.panel_column for panel in panels) + 1
    page = Page(Grid(width, _row_heights(panels, width), columns, unit // 2, left=4 * unit, top=2 * unit))
    for panel in panels:
        row, column = panel.panel_row, panel.panel_column
        page.put(pictures.result(panel), row, column)
        if row == 0 and panel.ratio is not None:
            page.write_ratio(panel.ratio, row, column)
        if column == 0:
            page.write(panel.panel, row, 0, -4, 0.8)
            for line, text in enumerate(layers_text(panel.style_layers).split(" ", 1)):
                page.write(text, row, 0, -4, 1.8 + 0.8 * line, size=0.6, ink=FAINT_INK)
    page.write("alpha/beta", 0, 0, -4, -0.4, size=0.7)
    return page.image


_LAYOUTS: Mapping[str, Callable[[Sequence[Panel], PanelPictures], Image.Image]] = {
    "figure1": _figure1,
    "figure2": _figure2,
    "figure3": _figure3,
}


def _panel_width(panels: Sequence[Panel]) -> int:
    smallest, largest = PANEL_WIDTHS
    return min(largest, max(smallest, *(panel.size[0] for panel in panels)))


def _row_heights(panels: Sequence[Panel], width: int) -> tuple[int, ...]:
    """The height of each row at a panel width; panels of a row have one shape."""
    return tuple({panel.panel_row: _scaled_height(panel, width) for panel in panels}.values())


def _scaled(picture: Image.Image, scale: float) -> tuple[int, int]:
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale))


def _scaled_height(panel: Panel, width: int) -> int:
    return max(1, round(width * panel.size[1] / panel.size[0]))


def figure_format(output: str) -> str:
    """The format that a file's name asks for: ``png`` or ``pdf``.

    Raises:
        JobError: It asks for another, or for none.
    """
    suffix = output.rpartition(".")[2].lower()
    if suffix not in FORMATS:
        raise JobError(
            f"{quoted(output, MAX_LOCATION)}: a figure is written as .png or .pdf; name the file so"
        )
    return suffix


def encode_figure(figure: Image.Image, format: str) -> bytes:
    """The file of a figure. The same figure gives the same bytes.

    Args:
        figure: As drawn.
        format: ``png``, or ``pdf``: one page, with the figure as a JPEG of good quality.
    """
    file = io.BytesIO()
    if format == "pdf":
        no_clock = {"creationDate": None, "modDate": None}
        figure.save(file, "PDF", resolution=DOTS_PER_INCH, quality=JPEG_QUALITY, subsampling=0, **no_clock)
    else:
        figure.save(file, "PNG")
    return file.getvalue()
