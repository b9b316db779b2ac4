"""A pair: one row of a manifest, ready to be worked on."""

from collections.abc import Mapping
from dataclasses import dataclass

from stylebatch.errors import StorageError
from stylebatch.objectstore import resolve_uri
from stylebatch.recipe import REFERENCE_NAMES, START_NAMES, WEIGHT_NAMES, Recipe

LOCATION_FIELDS: Mapping[str, tuple[str, ...]] = {
    "start": START_NAMES,
    "weights": WEIGHT_NAMES,
    "histogram": REFERENCE_NAMES,
    "spectrum": REFERENCE_NAMES,
}
"""The recipe's fields that may be locations, and what else each may be."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One row of a manifest, ready to be worked on."""

    pair_id: str
    """Unique in the manifest, and safe as a file name."""
    row: int
    """0-based row over the whole manifest."""
    content: str | None
    """Canonical URI; None: a style reconstruction (a texture)."""
    styles: tuple[str, ...]
    """Canonical URIs; empty: a content reconstruction."""
    recipe: Recipe
    """Every field resolved; a start that is a location is a canonical URI."""


def resolve_locations(recipe: Recipe, base: str | None = None) -> Recipe:
    """The recipe with the images and weights that it names by location made canonical.

    Args:
        recipe: As a user wrote it.
        base: The folder that relative locations start from; None is the working directory.

    Raises:
        StorageError: A location is not allowed.
    """
    changes = {}
    for field, names in LOCATION_FIELDS.items():
        value = getattr(recipe, field)
        if value is not None and value not in names:
            try:
                changes[field] = resolve_uri(value, base)
            except StorageError as error:
                raise StorageError(f"{field}: {error}") from error
    return recipe.replace(changes) if changes else recipe
