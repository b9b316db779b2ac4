"""The panels of a paper figure, as a table of results holds them, and their pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from types import NoneType

import numpy as np
import pyarrow as pa
from PIL import Image

from stylebatch.errors import JobError
from stylebatch.objectstore import ObjectStore
from stylebatch.pictures import resize
from stylebatch.quoting import quoted, shown
from stylebatch.report.drawing import read_picture

FIGURES = ("figure1", "figure2", "figure3")
_HINT = "make its manifest with stylebatch design"
_MOST_NAMED = 5
"""Failed panels that a message names; the others are counted."""
_OWN_TYPES: Mapping[str, tuple[type, ...]] = {
    "figure": (str,),
    "panel": (str,),
    "panels": (int,),
    "panel_row": (int,),
    "panel_column": (int,),
    "ratio": (float, NoneType),
}
"""What the manifest's own columns hold; the program's are as they must be."""


@dataclass(frozen=True)
class Panel:
    """One picture of a figure; the fields are columns of the results."""

    pair_id: str
    figure: str
    """``figure1``, ``figure2`` or ``figure3``."""
    panels: int
    """How many the figure has."""
    panel: str
    """Its label, as in the paper."""
    panel_row: int
    panel_column: int
    ratio: float | None
    """α/β, where there are both images."""
    status: str
    """``ok`` or ``failed``."""
    error: str | None
    content: str | None
    """Canonical URI."""
    style: list[str] | None
    """Canonical URIs."""
    image: str | None
    """Canonical URI."""
    width: int | None
    """Pixels."""
    height: int | None
    content_crop: list[float] | None
    """Left, top, width and height of the part of the content that was used; None: all of it."""
    style_crop: list[float] | None
    content_layers: list[str]
    style_layers: list[str]
    content_weight: float
    style_weight: float
    content_loss: float | None
    """Content weight included."""
    style_loss: float | None
    """Style weight included."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, of a panel that did not fail."""
        return self.width or 0, self.height or 0


def figure_panels(results: pa.Table) -> list[Panel]:
    """The panels of one whole figure, row by row.

    Args:
        results: The table of a job over a manifest of :mod:`stylebatch.design.figures`.

    Raises:
        JobError: The job is none of a figure, is not finished, or a panel has failed.
    """
    names = [field.name for field in fields(Panel)]
    missing = [name for name in names if name not in results.column_names]
    if missing:
        raise JobError(f"the results are not those of a figure: they have no column {missing[0]}; {_HINT}")
    panels = [Panel(**row) for row in results.select(names).to_pylist()]
    _check_types(panels)
    _check_figure(panels)
    _check_ended(panels)
    return sorted(panels, key=_place)


def _check_types(panels: Sequence[Panel]) -> None:
    for name, types in _OWN_TYPES.items():
        for panel in panels:
            value = getattr(panel, name)
            if not isinstance(value, types):
                raise JobError(
                    f"the results are not those of a figure: {name} of {quoted(panel.pair_id)} is "
                    f"{shown(value)}; {_HINT}"
                )


def _check_figure(panels: Sequence[Panel]) -> None:
    figures = sorted({quoted(panel.figure) for panel in panels})
    if len(figures) != 1 or panels[0].figure not in FIGURES:
        raise JobError(
            f"the results hold panels of {', '.join(figures[:_MOST_NAMED]) or 'nothing'}; a figure is laid "
            f"out from a job over the manifest of one of {', '.join(FIGURES)}; {_HINT}"
        )


def _check_ended(panels: Sequence[Panel]) -> None:
    figure, expected = panels[0].figure, panels[0].panels
    if len(panels) < expected:
        raise JobError(
            f"{figure} has {expected} panels, and the results hold {len(panels)}; run the job to its end "
            "first"
        )
    if sorted(map(_place, panels)) != _places(figure, expected):
        raise JobError(f"the panels do not stand where those of {figure} do; {_HINT}")
    failed = [panel for panel in panels if panel.status != "ok"]
    if failed:
        named = "; ".join(f"{panel.pair_id}: {panel.error}" for panel in failed[:_MOST_NAMED])
        more = f"; and {len(failed) - _MOST_NAMED} more" if len(failed) > _MOST_NAMED else ""
        raise JobError(
            f"{figure}: {len(failed)} of {expected} panels failed ({named}{more}); put right what can be, "
            "and run the job again with --retry-failed"
        )


def _place(panel: Panel) -> tuple[int, int]:
    return panel.panel_row, panel.panel_column


def _places(figure: str, panels: int) -> list[tuple[int, int]]:
    """Where the panels of a figure stand, row by row."""
    if figure == "figure2":  # two columns, and the first place is the photograph's
        return [divmod(number, 2) for number in range(1, panels + 1)]
    rows, columns = {"figure1": (2, 5), "figure3": (5, 4)}[figure]
    return [divmod(number, columns) for number in range(rows * columns)]


class PanelPictures:
    """Reads the pictures of panels, each once.

    Args:
        store: Where they are.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._read: dict[str, Image.Image] = {}

    def result(self, panel: Panel) -> Image.Image:
        """The picture that was made."""
        return self._picture(panel.image or "")

    def content(self, panel: Panel) -> Image.Image:
        """The content as the panel was made from it: cropped, and at the result's size."""
        return resize(_cropped(self._picture(panel.content or ""), panel.content_crop), panel.size)

    def style(self, panel: Panel) -> Image.Image:
        """The panel's first style image, cropped, at its own size."""
        return _cropped(self._picture((panel.style or [""])[0]), panel.style_crop)

    def _picture(self, uri: str) -> Image.Image:
        if uri not in self._read:
            self._read[uri] = read_picture(self._store, uri)
        return self._read[uri]


def _cropped(picture: Image.Image, crop: Sequence[float] | None) -> Image.Image:
    if crop is None:
        return picture
    left, top, width, height = map(int, crop)
    return picture.crop((left, top, left + width, top + height))


def ratio_text(ratio: float) -> str:
    """``1e-4``: α/β in the shortest way."""
    return np.format_float_scientific(ratio, trim="-", exp_digits=1)


def layers_text(layers: Sequence[str]) -> str:
    """``conv1_1``, or ``conv1_1 to conv3_1``."""
    return layers[0] if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"
