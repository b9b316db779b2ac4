"""Text becomes what the fields of a recipe hold, or is refused."""

import re
from typing import Any

import pytest

from stylebatch.errors import RecipeError
from stylebatch.recipe import Recipe, field_rule
from stylebatch.recipe_text import parse_fields


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("style_weight", "1e3", 1000.0),
        ("style_weight", 1000, 1000),
        ("size", "512", 512),
        ("size", "none", None),
        ("size", "", None),
        ("iterations", "1e3", 1000),
        ("seed", "9223372036854775807", 2**63 - 1),
        ("style_blend", "1, 2,3", [1.0, 2.0, 3.0]),
        ("style_blend", "[0.5, 1e-1]", [0.5, 0.1]),
        ("style_blend", ["1e-1", 2], [0.1, 2.0]),
        ("style_layers", "conv1_1,conv2_1", ["conv1_1", "conv2_1"]),
        ("style_layers", "[conv1_1, conv2_1]", ["conv1_1", "conv2_1"]),
        ("style_layers", ["conv1_1"], ["conv1_1"]),
        ("start", "none", "none"),
        ("pooling", "max", "max"),
    ],
)
def test_text_becomes_what_the_field_holds(name: str, text: Any, value: Any) -> None:
    assert parse_fields({name: text}) == {name: value}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("style_weight", "heavy"),
        ("size", "12.5"),
        ("size", "1.65e1"),
        ("size", "512px"),
        ("history", "1e400"),
        ("iterations", "nan"),
        ("style_blend", "1,,2"),
        ("style_blend", "1;2"),
        ("style_blend", [True, 2]),
        ("style_weight", "nan"),
        ("style_weight", "-1"),
        ("seed", "none"),
        ("style_layers", "conv1_1,,conv2_1"),
        ("size", [512]),
    ],
)
def test_text_that_is_no_value_is_refused(name: str, text: Any) -> None:
    with pytest.raises(
        RecipeError, match=rf"recipe: {name} is .*; it must be {re.escape(field_rule(name).allowed)}"
    ):
        Recipe(**parse_fields({name: text}))
