"""From a result row back to its pair."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stylebatch.pairs import Pair
from stylebatch.recipe import FIELDS, Recipe


def pair_of(row: Mapping[str, Any]) -> Pair:
    """The pair that a result row is about, its whole recipe with it.

    Raises:
        RecipeError: The row's recipe is not one.
    """
    recipe = Recipe(**{name: row[name] for name in FIELDS if name in row})
    return Pair(row["pair_id"], row["row"], row["content"], tuple(row["style"] or ()), recipe)


def at_its_own_size(pair: Pair) -> Pair:
    """The same pair, of which only the targets at its own size and its appearance are of interest.

    Where it started does not change what it is compared with.
    """
    return replace(pair, recipe=pair.recipe.replace({"scales": 1, "start": "noise"}))


def to_measure(pair: Pair) -> Pair:
    """The same pair, of which only the targets at its own size are of interest.

    What its appearance was given afterwards does not change what it is compared with, either.
    """
    pair = at_its_own_size(pair)
    no_appearance = dict.fromkeys(("mean_luminance", "rms_contrast", "histogram", "spectrum"))
    return replace(pair, recipe=pair.recipe.replace(no_appearance))
