"""What the paper says of its figures 1 and 3, as numbers that can say no."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from PIL import Image

from stylebatch.objectstore import ObjectStore
from stylebatch.pictures.appearance import luminance
from stylebatch.report.panels import Panel, PanelPictures, layers_text, ratio_text

SLACK = 0.1
"""How far two neighbours may be out of order, as a share of the first, where a statement allows for it.

Optimisers stop somewhere near the least loss; and conv5_1 adds so little to equation (5) that textures D
and E differ by chance."""


@dataclass(frozen=True)
class Statement:
    """Numbers along one row of a figure, and the direction in which the paper says they go."""

    what: str
    """What was measured, with its unit."""
    numbers: Mapping[str, float]
    """By panel, in the order of the figure."""
    direction: Literal["rises", "falls"]
    """What the paper says."""
    slack: float = 0.0
    """By how much of itself a number may be passed by the next one in the other direction; the last must be
    beyond the first by more than that."""

    @property
    def holds(self) -> bool:
        """Whether every number is followed by one in the direction, and the last is beyond any slack."""
        sign = 1 if self.direction == "rises" else -1
        first, *_, last = values = [*self.numbers.values()]
        no_step_back = all(
            sign * (after - before) > -self.slack * before for before, after in pairwise(values)
        )
        return no_step_back and sign * (last - first) > self.slack * first

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {number:.3g}" for name, number in self.numbers.items())
        slack = f" (within {self.slack:.0%})" if self.slack else ""
        return f"{self.what}: {numbers}; {self.direction}{slack}: {'yes' if self.holds else 'no'}"


def statements(store: ObjectStore, panels: Sequence[Panel]) -> list[Statement]:
    """What can be measured of a figure. Of figure 2 the paper says nothing that a number could refuse.

    Args:
        store: Where the pictures are.
        panels: Those of one whole figure.

    Raises:
        PictureError: A file is no picture.
        StorageError: A picture cannot be read.
    """
    match panels[0].figure:
        case "figure1":
            return list(_figure1(PanelPictures(store), panels))
        case "figure3":
            return list(_figure3(panels))
    return []


def _figure1(pictures: PanelPictures, panels: Sequence[Panel]) -> Iterable[Statement]:
    """Reconstructions lose detail from layer to layer; textures gain larger structures."""
    contents = [panel for panel in panels if panel.content is not None]
    errors = {p.panel: pixel_error(pictures.result(p), pictures.content(p)) for p in contents}
    yield Statement("pixel error, in grey levels", errors, "rises")
    textures = [panel for panel in panels if panel.content is None]
    scales = {p.panel: structure_scale(pictures.result(p)) for p in textures}
    yield Statement("scale of local structure, in pixels", scales, "rises", SLACK)


def _figure3(panels: Sequence[Panel]) -> Iterable[Statement]:
    """With a growing α/β the content has more of a say in every row, and the style less; without weights."""
    for number in sorted({panel.panel_row for panel in panels}):
        row = sorted((p for p in panels if p.panel_row == number), key=lambda p: p.ratio or 0.0)
        name = f"{row[0].panel} ({layers_text(row[0].style_layers)})"
        ratios = [ratio_text(p.ratio or 0.0) for p in row]
        contents = [(p.content_loss or 0.0) / p.content_weight for p in row]
        yield Statement(f"content loss, row {name}", dict(zip(ratios, contents, strict=True)), "falls", SLACK)
        styles = [(p.style_loss or 0.0) / p.style_weight for p in row]
        yield Statement(f"style loss, row {name}", dict(zip(ratios, styles, strict=True)), "rises", SLACK)


def pixel_error(made: Image.Image, original: Image.Image) -> float:
    """The root of the mean squared difference of two RGB pictures of one size, in grey levels (0..255)."""
    difference = np.asarray(made, np.float64) - np.asarray(original, np.float64)
    return float(np.sqrt(np.mean(difference**2)))


def structure_scale(picture: Image.Image) -> float:
    """How large the local structures of a texture are: the autocorrelation length of its luminance.

    That is the distance at which the autocorrelation, averaged over directions, first falls below 1/e.

    Returns:
        Pixels; a quarter of the shorter side if the autocorrelation stays above until there; 0 for a
        picture of one colour.
    """
    values = luminance(np.asarray(picture, np.float64))
    if np.ptp(values) == 0:
        return 0.0
    distances, correlations = _by_distance(_autocorrelation(values), min(values.shape) / 4)
    below = np.flatnonzero(correlations < 1 / np.e)
    if not below.size:
        return float(distances[-1])
    after = below[0]
    ends = [after, after - 1]  # numpy.interp wants them to rise
    return float(np.interp(1 / np.e, correlations[ends], distances[ends]))


def _autocorrelation(values: np.ndarray) -> np.ndarray:
    """The autocorrelation ``(2 H, 2 W)`` of ``(H, W)``, 1 without a shift; shifts count as by ``fftfreq``.

    Each shift is averaged over the pixels that overlap, so that the borders do not count as dark.
    """
    shape = [2 * side for side in values.shape]
    centred = values - values.mean()
    sums, overlaps = (
        np.fft.irfft2(np.abs(np.fft.rfft2(array, shape)) ** 2, shape)
        for array in (centred, np.ones_like(values))
    )
    means = sums / np.maximum(overlaps, 1)
    autocorrelation: np.ndarray = means / means[0, 0]
    return autocorrelation


def _by_distance(correlations: np.ndarray, longest: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean distance and mean correlation of rings of shifts one pixel wide, up to the longest distance."""
    down, across = (np.fft.fftfreq(side, 1 / side) for side in correlations.shape)
    distances = np.hypot(down[:, None], across[None, :])
    count = max(2, int(longest) + 1)
    rings = np.rint(distances).astype(int)
    near = rings < count
    sizes = np.bincount(rings[near])
    mean_distances, mean_correlations = (
        np.bincount(rings[near], values[near]) / sizes for values in (distances, correlations)
    )
    return mean_distances, mean_correlations
