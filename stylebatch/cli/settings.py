"""What the options say about recipes, and the program's own name."""

import argparse
import dataclasses
import shutil
import sys
from typing import Any

from stylebatch.errors import RecipeError
from stylebatch.recipe import Recipe
from stylebatch.recipe_text import parse_fields


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The recipe of the options: the preset, then the file's fields, then each ``--set``."""
    recipe = Recipe.preset(options.preset or "paper")
    if options.recipe:
        from stylebatch.recipe_file import read_recipe_fields
        from stylebatch.storage import UriStore

        recipe = recipe.replace(parse_fields(read_recipe_fields(UriStore(), options.recipe)))
    return recipe.replace(given_fields(options))


def given_fields(options: argparse.Namespace) -> dict[str, Any]:
    """The recipe fields of each ``--set``."""
    return parse_fields(dict(_split_setting(text) for text in options.set))


def _split_setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f"--set {text}: write FIELD=VALUE, as in --set style_weight=1e4")
    return name.strip(), value.strip()


def given(kind: Any, options: argparse.Namespace) -> dict[str, Any]:
    """The fields of a dataclass that the options set."""
    values = {field.name: getattr(options, field.name, None) for field in dataclasses.fields(kind)}
    return {name: value for name, value in values.items() if value is not None}


def program() -> str:
    """What to type to get this program again."""
    return "stylebatch" if shutil.which("stylebatch") else sys.argv[0]
