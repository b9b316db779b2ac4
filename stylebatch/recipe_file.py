"""Recipes in YAML files: one short list of fields."""

from typing import Any

from stylebatch.errors import RecipeError
from stylebatch.objectstore import ObjectStore
from stylebatch.yaml_file import YamlKind, read_yaml

MAX_RECIPE_BYTES = 16 * 1024
"""Of a recipe file; the longest recipe with every field takes 2 KB."""
MAX_DEPTH = 3
"""Levels: the fields, a list, and one more for the message about a value that is too deep."""

ALLOWED = "a recipe file is YAML text with lines of the form field: value, where a value may be a list"


def read_recipe_fields(store: ObjectStore, location: str) -> dict[str, Any]:
    """The fields of a recipe file as they are written, for :func:`stylebatch.recipe_text.parse_fields`.

    Args:
        store: Where the file is.
        location: A path or an ``s3://`` URI, as a user wrote it.

    Raises:
        RecipeError: The file is too large, not text, not YAML, or uses more of YAML than fields need.
        StorageError: The location is not allowed, or nothing is there.
    """
    return read_yaml(store, location, YamlKind(MAX_RECIPE_BYTES, MAX_DEPTH, ALLOWED, RecipeError))
