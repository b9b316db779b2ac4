"""A pair: one row of a manifest, ready to be worked on."""

from dataclasses import dataclass

from stylebatch.errors import StorageError
from stylebatch.objectstore import resolve_uri
from stylebatch.recipe import START_NAMES, WEIGHT_NAMES, Recipe


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
    """The recipe with a start image and weights that are locations made canonical.

    Args:
        recipe: As a user wrote it.
        base: The folder that relative locations start from; None is the working directory.

    Raises:
        StorageError: A location is not allowed.
    """
    changes = {}
    for field, names in (("start", START_NAMES), ("weights", WEIGHT_NAMES)):
        value = getattr(recipe, field)
        if value not in names:
            try:
                changes[field] = resolve_uri(value, base)
            except StorageError as error:
                raise StorageError(f"{field}: {error}") from error
    return recipe.replace(changes) if changes else recipe
