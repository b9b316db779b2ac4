"""What the options say about recipes, and the program's own name."""

import argparse
import shutil
import sys
from typing import Any

from stylebatch.errors import RecipeError
from stylebatch.recipe import Recipe, parse_fields


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The recipe of the options: the preset, then the file's fields, then each ``--set``."""
    recipe = Recipe.preset(options.preset or "paper")
    if options.recipe:
        recipe = recipe.replace(parse_fields(_read_yaml(options.recipe)))
    return recipe.replace(parse_fields(dict(_split_setting(text) for text in options.set)))


def _split_setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f"--set {text}: write FIELD=VALUE, as in --set style_weight=1e4")
    return name.strip(), value.strip()


def _read_yaml(location: str) -> dict[str, Any]:
    import yaml

    from stylebatch.objectstore import resolve_uri
    from stylebatch.storage import UriStore

    try:
        fields = yaml.safe_load(UriStore().get(resolve_uri(location)))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(f"{location} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(fields, dict):
        raise RecipeError(f"{location} holds no fields; write lines of the form field: value")
    return {str(name): value for name, value in fields.items()}


def program() -> str:
    """What to type to get this program again."""
    return "stylebatch" if shutil.which("stylebatch") else sys.argv[0]
