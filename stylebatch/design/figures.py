"""Manifests whose runs reproduce the paper's three figures, for any content and styles.

A row is a panel: its recipe columns hold what defines the figure, its extra columns where the panel stands.
"""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from stylebatch.design.demo import DEMO_PAIRS, SOURCES
from stylebatch.errors import JobError, RecipeError
from stylebatch.objectstore import join_uri
from stylebatch.quoting import shown
from stylebatch.recipe import PAPER_STYLE_LAYERS, Recipe

STYLE_SETS = tuple(PAPER_STYLE_LAYERS[:count] for count in range(1, len(PAPER_STYLE_LAYERS) + 1))
"""The growing sets of style layers: conv1_1; conv1_1 and conv2_1; and so on to conv5_1."""
STYLE_LABELS = "ABCDE"
"""The paper's names of those sets."""
CONTENT_LABELS = "abcde"
"""Its names of the content reconstructions from conv1_1, conv2_1, ... conv5_1."""
FIGURE3_RATIOS = (1e-5, 1e-4, 1e-3, 1e-2)
"""α/β, the columns of figure 3."""
DEFAULT_RATIO = 1e-3
"""α/β of most of figure 2."""
READY_STYLES: Mapping[str, float] = {
    "hubble_deep_field.jpg": 1e-3,
    "retina.jpg": 1e-3,
    "coffee.png": 1e-3,
    "ihc.png": 1e-4,
    "gravel.png": 1e-4,
}
"""The styles of the ready figure 2 and α/β of each: as in the paper 1e-3 in B, C and D, 1e-4 in E and F."""
FIGURE2_LABELS = "BCDEFGHIJKLMNOPQRSTUVWXYZ"
"""A is the photograph."""

_SHARED: Mapping[str, Any] = {"convention": "paper", "pooling": "average", "start": "noise", "seed": 0}
"""What the recipes of all panels have in common."""

_SCHEMA = pa.schema(
    {
        "pair_id": pa.string(),
        "content": pa.string(),
        "style": pa.list_(pa.string()),
        "content_layers": pa.list_(pa.string()),
        "style_layers": pa.list_(pa.string()),
        "style_layer_weights": pa.list_(pa.float64()),
        "content_weight": pa.float64(),
        "style_weight": pa.float64(),
        "convention": pa.string(),
        "pooling": pa.string(),
        "start": pa.string(),
        "seed": pa.int64(),
        "figure": pa.string(),
        "panels": pa.int64(),
        "panel": pa.string(),
        "panel_row": pa.int64(),
        "panel_column": pa.int64(),
        "ratio": pa.float64(),
        "title": pa.string(),
    }
)


@dataclass(frozen=True)
class _Panel:
    """One picture of a figure."""

    pair_id: str
    label: str
    """What the paper calls it."""
    place: tuple[int, int]
    """Row and column, from 0."""
    title: str
    content: str | None
    """URI; None: a style reconstruction."""
    style: str | None
    """URI; None: a content reconstruction."""
    ratio: float | None = None
    """α/β; None where one of the two images is missing."""
    layers: Mapping[str, Any] = field(default_factory=dict)
    """The recipe's layers and their weights."""


def figure1(content: str, style: str) -> pa.Table:
    """The manifest of figure 1: what each layer keeps of a content, and what each set of layers of a style.

    Both weights are 1, so that the losses of the results are those of equations (1) and (5) themselves.

    Args:
        content: URI as the manifest will hold it.
        style: Likewise.

    Returns:
        Ten rows: the style reconstructions A to E, then the content reconstructions a to e.
    """
    textures = [
        _Panel(
            f"figure1-style-{label}",
            label,
            (0, column),
            f"Texture of {_name(style)} from {_span(layers)}",
            None,
            style,
            layers=_style_layers(layers),
        )
        for column, (label, layers) in enumerate(zip(STYLE_LABELS, STYLE_SETS, strict=True))
    ]
    contents = [
        _Panel(
            f"figure1-content-{label}",
            label,
            (1, column),
            f"{_name(content)} from {layer}",
            content,
            None,
            layers={"content_layers": [layer]},
        )
        for column, (label, layer) in enumerate(zip(CONTENT_LABELS, PAPER_STYLE_LAYERS, strict=True))
    ]
    return _table("figure1", [*textures, *contents])


def figure2(content: str, styles: Sequence[str], ratios: Sequence[float] = (DEFAULT_RATIO,)) -> pa.Table:
    """The manifest of figure 2: one content in several styles.

    Args:
        content: URI as the manifest will hold it.
        styles: Likewise, 1 to 25.
        ratios: α/β, one for all styles or one for each.

    Returns:
        A row for each style, panels B, C, ...; panel A is the photograph itself, which nothing has to make.

    Raises:
        JobError: There are too many styles, or their number and the ratios' do not agree.
        RecipeError: A ratio is not above 0, or leaves the range of weights.
    """
    if not 1 <= len(styles) <= len(FIGURE2_LABELS):
        raise JobError(
            f"figure 2 has panels for 1 to {len(FIGURE2_LABELS)} styles, and {len(styles)} are given; "
            "make several figures"
        )
    if len(ratios) not in (1, len(styles)):
        raise JobError(
            f"{len(ratios)} ratios are given for {len(styles)} styles; give one for all, or one for each"
        )
    each = list(ratios) * len(styles) if len(ratios) == 1 else ratios
    panels = [
        _Panel(
            f"figure2-{label}",
            label,
            divmod(number, 2),
            f"{_name(content)} in the style of {_name(style)}, alpha/beta {_ratio_text(ratio)}",
            content,
            style,
            ratio,
            {"content_layers": ["conv4_2"], **_style_layers(PAPER_STYLE_LAYERS)},
        )
        for number, (label, style, ratio) in enumerate(zip(FIGURE2_LABELS, styles, each, strict=False), 1)
    ]
    return _table("figure2", panels)


def figure3(content: str, style: str) -> pa.Table:
    """The manifest of figure 3: growing sets of style layers (rows A to E) times α/β from 1e-5 to 1e-2.

    Args:
        content: URI as the manifest will hold it.
        style: Likewise.

    Returns:
        Twenty rows, row by row of the figure.
    """
    panels = [
        _Panel(
            f"figure3-{label}-{_ratio_text(ratio)}",
            label,
            (row, column),
            f"{_name(content)} in the style of {_name(style)}, {_span(layers)}, "
            f"alpha/beta {_ratio_text(ratio)}",
            content,
            style,
            ratio,
            {"content_layers": ["conv4_2"], **_style_layers(layers)},
        )
        for row, (label, layers) in enumerate(zip(STYLE_LABELS, STYLE_SETS, strict=True))
        for column, ratio in enumerate(FIGURE3_RATIOS)
    ]
    return _table("figure3", panels)


def with_fields(table: pa.Table, fields: Mapping[str, Any]) -> pa.Table:
    """A figure's manifest with further recipe fields, the same for every panel.

    Args:
        table: The manifest.
        fields: Values by field, as a recipe takes them; locations are canonical.

    Raises:
        RecipeError: The figure itself decides a field, there is no such field, or a value is out of range.
    """
    values = Recipe().replace(fields).to_dict()
    decided = [name for name in fields if name in table.column_names]
    if decided:
        raise RecipeError(f"{', '.join(decided)}: the figure itself decides this; leave it out")
    for name in fields:
        table = table.append_column(name, pa.array([values[name]] * table.num_rows))
    return table


def _table(figure: str, panels: Sequence[_Panel]) -> pa.Table:
    rows = [
        {
            **_SHARED,
            **panel.layers,
            "pair_id": panel.pair_id,
            "content": panel.content,
            "style": None if panel.style is None else [panel.style],
            "content_weight": 1.0,
            "style_weight": 1.0 if panel.ratio is None else _style_weight(panel.ratio),
            "figure": figure,
            "panels": len(panels),
            "panel": panel.label,
            "panel_row": panel.place[0],
            "panel_column": panel.place[1],
            "ratio": panel.ratio,
            "title": panel.title,
        }
        for panel in panels
    ]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _style_layers(layers: Sequence[str]) -> dict[str, Any]:
    """The layers of equation (5), with w_l = 1/number of active layers."""
    return {"style_layers": list(layers), "style_layer_weights": [1 / len(layers)] * len(layers)}


def _style_weight(ratio: float) -> float:
    """β for α = 1, without the last digits in which 1/1e-5 is not quite 1e5.

    Raises:
        RecipeError: The ratio is not above 0, or leaves the range of weights.
    """
    if not 0 < ratio < float("inf"):
        raise RecipeError(f"the ratio is {shown(ratio)}; alpha/beta must be a number above 0, such as 1e-3")
    return Recipe(style_weight=float(f"{1 / ratio:.12g}")).style_weight


def _ratio_text(ratio: float) -> str:
    """``1e-4``: the shortest text, which is also safe in a pair_id."""
    return np.format_float_scientific(ratio, trim="-", exp_digits=1)


def _span(layers: Sequence[str]) -> str:
    return layers[0] if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"


def _name(uri: str) -> str:
    """A file's name without its suffix."""
    return posixpath.splitext(posixpath.basename(uri))[0]


def ready_figures(sources: str = SOURCES) -> dict[str, pa.Table]:
    """The figures over the demo's photographs, by name: what ``manifests/`` holds.

    Args:
        sources: The folder of the photographs, as the manifests' URIs name it.
    """
    at = {name: join_uri(sources, name) for pair in DEMO_PAIRS for name in (pair.content, pair.style)}
    styles = [at[name] for name in READY_STYLES]
    return {
        "figure1": figure1(at["chelsea.png"], at["ihc.png"]),
        "figure2": figure2(at["astronaut.png"], styles, [*READY_STYLES.values()]),
        "figure3": figure3(at["coffee.png"], at["ihc.png"]),
    }
