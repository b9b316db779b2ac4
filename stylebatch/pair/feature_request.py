"""What features of which images are asked for. Imports neither torch nor pyarrow."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from stylebatch.errors import RecipeError
from stylebatch.pair.sparse_projection import LARGEST_DIMENSION, LEAST_DIMENSION, NONZEROS
from stylebatch.quoting import shown
from stylebatch.recipe import DEFAULT_SIZE, PAPER_STYLE_LAYERS, Recipe, field_rule
from stylebatch.synthesis.layers import layer_channels

FORMAT_VERSION = 1
"""Of the table of features and of the parts that it is made from."""
LARGEST_GRID = 32
"""Cells along a side over which responses may be averaged apart."""
IMAGES_PER_PART = 32
"""That are measured and stored together: what the death of a worker costs."""
PART_BYTES = 64 * 2**20
"""Of the features of a part; where an image has many, there are fewer images in it."""
VALUE_BYTES = 4
"""Of one float32."""

_FIELD_RULES: Mapping[str, str] = {
    "layers": "style_layers",
    "content_layers": "content_layers",
    "size": "size",
    "pooling": "pooling",
    "weights": "weights",
    "weights_family": "weights_family",
    "project_seed": "seed",
}
"""Settings that mean what a recipe's field does, and that field."""


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """Every number that decides an image's features.

    Raises:
        RecipeError: A value is out of range; the message names each such setting and what is allowed.
    """

    layers: tuple[str, ...] = PAPER_STYLE_LAYERS
    """Whose Gram matrices are wanted."""
    content_layers: tuple[str, ...] = PAPER_STYLE_LAYERS
    """Whose averaged responses are wanted."""
    size: int = DEFAULT_SIZE
    """The longer side at which an image is measured, in pixels."""
    grid: int = 1
    """Responses are averaged over so many times so many cells; 1 is the mean over all positions."""
    pooling: str = "average"
    """The network's pooling."""
    weights: str = "caffe"
    """Weights by name or location, as in a recipe."""
    weights_family: str | None = None
    """The input that a weights file wants. None: recognised by its checksum."""
    project: int | None = None
    """The length to which longer vectors of Gram matrices are projected. None: they are whole."""
    project_seed: int = 0
    """Decides the projection."""

    def __post_init__(self) -> None:
        problems = [problem for name in _FIELD_RULES if (problem := self._settle(name))]
        problems += self._out_of_range("grid", 1, LARGEST_GRID)
        if self.project is not None:
            problems += self._out_of_range("project", LEAST_DIMENSION, LARGEST_DIMENSION)
        if problems:
            raise RecipeError("features: " + "; ".join(problems))

    def _settle(self, name: str) -> str | None:
        """Put the value of a setting in its canonical type, or say what is wrong with it."""
        value, rule = getattr(self, name), field_rule(_FIELD_RULES[name])
        if value is None and name == "weights_family":
            return None
        try:
            object.__setattr__(self, name, rule.accepts(value))
        except (TypeError, ValueError, OverflowError):
            return f"{name} is {shown(value)}; it must be {rule.allowed}"
        return None

    def _out_of_range(self, name: str, low: int, high: int) -> Iterator[str]:
        value = getattr(self, name)
        if not isinstance(value, int) or not low <= value <= high:
            yield f"{name} is {shown(value)}; it must be a whole number from {low} to {high}"

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that sizes images as these settings do, and names the same network and layers."""
        return Recipe(
            content_layers=self.content_layers,
            style_layers=self.layers,
            size=self.size,
            pooling=self.pooling,
            weights=self.weights,
            weights_family=self.weights_family,
            start="content",
        )

    @property
    def measured_layers(self) -> set[str]:
        """The layers whose responses are needed."""
        return {*self.layers, *self.content_layers}

    @property
    def is_weighted(self) -> bool:
        """Whether entries beside the diagonal are multiplied by sqrt(2), as projected ones are."""
        return self.project is not None

    def is_projected(self, layer: str) -> bool:
        """Whether a layer's vector is longer than what is projected to."""
        return self.project is not None and triangle_length(layer) > self.project

    @property
    def lengths(self) -> dict[str, int]:
        """Numbers in each column of features, by its name."""
        contents = {
            content_column(layer): layer_channels(layer) * self.grid**2 for layer in self.content_layers
        }
        grams = {gram_column(layer): self._gram_length(layer) for layer in self.layers}
        return contents | grams

    def _gram_length(self, layer: str) -> int:
        whole = triangle_length(layer)
        return whole if self.project is None else min(whole, self.project)

    @property
    def row_bytes(self) -> int:
        """What the features of an image take."""
        return VALUE_BYTES * sum(self.lengths.values())

    def describe(self) -> dict[str, Any]:
        """The settings as JSON holds them, but for where the weights are."""
        projection = {
            "kind": f"sparse signs, {NONZEROS} in each column (Kane and Nelson 2014); see docs/features.md",
            "dimension": self.project,
            "seed": self.project_seed,
            "layers": [layer for layer in self.layers if self.is_projected(layer)],
        }
        return {
            "layers": list(self.layers),
            "content_layers": list(self.content_layers),
            "size": self.size,
            "grid": self.grid,
            "pooling": self.pooling,
            "projection": None if self.project is None else projection,
        }


def content_column(layer: str) -> str:
    """The name of the column with a layer's averaged responses."""
    return f"content_{layer}"


def gram_column(layer: str) -> str:
    """The name of the column with a layer's Gram matrix."""
    return f"gram_{layer}"


def triangle_length(layer: str) -> int:
    """Entries on and above the diagonal of a layer's Gram matrix: ``N (N + 1) / 2``."""
    channels = layer_channels(layer)
    return channels * (channels + 1) // 2


@dataclass(frozen=True)
class FeatureRequest:
    """A collection of images, and what is wanted of each."""

    settings: FeatureSettings
    """What; weights that are a location are a canonical URI."""
    images: tuple[str, ...]
    """Canonical URIs, in the order of the table's rows."""
    output: str
    """Canonical URI of a Parquet file, or of a folder of them."""
    weights_sha256: str
    """Of the weights' file."""
    weights_family: str
    """Its family, stated or known."""
    images_per_part: int
    """Rows that are measured and stored together."""

    @property
    def parts(self) -> range:
        """All parts."""
        return range(-(-len(self.images) // self.images_per_part))

    def part_images(self, part: int) -> tuple[str, ...]:
        """The images of a part."""
        first = part * self.images_per_part
        return self.images[first : first + self.images_per_part]

    @property
    def is_one_file(self) -> bool:
        """Whether the parts are put together at the end; a folder holds them as they are."""
        return names_one_file(self.output)

    def identity(self) -> dict[str, Any]:
        """What decides the table: another value of any of these would make another one."""
        listing = json.dumps(self.images, separators=(",", ":"))
        return {
            "format_version": FORMAT_VERSION,
            "images": len(self.images),
            "images_sha256": hashlib.sha256(listing.encode()).hexdigest(),
            **self.settings.describe(),
            "weights_sha256": self.weights_sha256,
            "weights_family": self.weights_family,
            "images_per_part": self.images_per_part,
        }


def names_one_file(output: str) -> bool:
    """Whether an output with this name is one file; any other is a folder of parts."""
    return output.lower().endswith(".parquet")


def default_images_per_part(settings: FeatureSettings) -> int:
    """At most :data:`IMAGES_PER_PART`, and no more than :data:`PART_BYTES` of features."""
    return min(IMAGES_PER_PART, max(1, PART_BYTES // settings.row_bytes))


def differences(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    """Every part of an identity that another one has otherwise, a line each."""
    return [
        "the images are not the same, or not in the same order"
        if name == "images_sha256"
        else f"{name} is {theirs.get(name)!r} there and {value!r} here"
        for name, value in mine.items()
        if theirs.get(name) != value
    ]
