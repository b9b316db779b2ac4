"""What a set of stimuli is, before any is compared: how many, of what sizes, by which layers and networks."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stylebatch.audit.measuring import Layers
from stylebatch.errors import JobError, RecipeError
from stylebatch.objectstore import ObjectStore
from stylebatch.output import unit_rows
from stylebatch.recipe import LAYERS
from stylebatch.results import open_results

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Overview:
    """A set of stimuli, found out before any picture is read."""

    first: Row
    """The first stimulus's row."""
    layers: Layers
    """Where they are compared."""
    shapes: Counter[tuple[int, int]]
    """Stimuli by width and height."""
    networks: Counter[tuple[str, str]]
    """Stimuli by the weights' hash and the pooling."""

    @property
    def stimuli(self) -> int:
        """How many there are."""
        return self.shapes.total()

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should be told."""
        if len(self.networks) == 1:
            return ()
        return (
            f"the stimuli were made with {len(self.networks)} networks; all distances are measured in that "
            f"of the first: weights {self.first['weights']}, {self.first['pooling']} pooling",
        )


def look_over(store: ObjectStore, output: str, layers: tuple[str, ...] | None) -> Overview:
    """Look over the stimuli of an output.

    Args:
        store: Where it is.
        output: Canonical URI of the output folder.
        layers: Of both spaces; None: the content layers and the style layers of the stimuli's recipes.

    Raises:
        JobError: There is no stimulus.
        RecipeError: There is no such layer.
    """
    first: Row | None = None
    content: set[str] = set()
    style: set[str] = set()
    shapes: Counter[tuple[int, int]] = Counter()
    networks: Counter[tuple[str, str]] = Counter()
    for _, row in stimuli_of(store, output):
        first = first or row
        content.update(row["content_layers"])
        style.update(row["style_layers"])
        shapes[row["width"], row["height"]] += 1
        networks[row["weights_sha256"], row["pooling"]] += 1
    if first is None:
        raise JobError(f"{output} has no stimulus: every pair that has ended has failed")
    return Overview(first, _layers(layers, content, style), shapes, networks)


def _layers(given: tuple[str, ...] | None, content: set[str], style: set[str]) -> Layers:
    unknown = [layer for layer in given or () if layer not in LAYERS]
    if unknown:
        raise RecipeError(f"there is no layer {', '.join(unknown)}; the layers are {', '.join(LAYERS)}")
    chosen = (content, style) if given is None else ({*given}, {*given})
    return Layers(*(tuple(layer for layer in LAYERS if layer in some) for some in chosen))


def stimuli_of(store: ObjectStore, output: str) -> Iterator[tuple[int, Row]]:
    """The rows of an output that have a picture, each after its unit; unit by unit."""
    results = open_results(store, output)
    for unit in results.units:
        yield from ((unit, row) for row in unit_rows(results, unit) if row["status"] == "ok")
