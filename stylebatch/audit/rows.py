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


def to_measure(pair: Pair) -> Pair:
    """The same pair, of which only the targets at its own size are of interest.

    Where it started, and what its appearance was given afterwards, does not change what it is compared with.
    """
    aside = {"scales": 1, "start": "noise", "mean_luminance": None, "rms_contrast": None}
    return replace(pair, recipe=pair.recipe.replace({**aside, "histogram": None, "spectrum": None}))
