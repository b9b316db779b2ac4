"""Every field of a recipe with every kind of value, through every door: refused by name, and soon."""

import decimal
import fractions
import json
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from inmemory import MemoryStore

from stylebatch.errors import RecipeError
from stylebatch.objectstore import MAX_URI_LENGTH
from stylebatch.recipe import FIELDS, LONGEST_LOCATION, PRESETS, Recipe, field_rule
from stylebatch.recipe_file import read_recipe_fields
from stylebatch.recipe_text import parse_fields

SECONDS = 1


class Broken:
    """An object that fails whatever is done with it."""

    def __repr__(self) -> str:
        raise RuntimeError

    def __iter__(self) -> Any:
        raise ValueError


def loop() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


VALUES: dict[str, Callable[[], Any]] = {
    "NaN": lambda: math.nan,
    "infinity": lambda: math.inf,
    "minus infinity": lambda: -math.inf,
    "-1": lambda: -1,
    "-1.5": lambda: -1.5,
    "1e400 as text": lambda: "1e400",
    "1e308": lambda: 1e308,
    "10^400": lambda: 10**400,
    "10^10000": lambda: 10**10_000,
    "-10^10000": lambda: -(10**10_000),
    "true": lambda: True,
    "empty text": lambda: "",
    "NaN as text": lambda: "NaN",
    "digits": lambda: "9" * 100_000,
    "long text": lambda: "x/" * 500_000,
    "control characters": lambda: "a/\0\x1b[31m\n",
    "right to left": lambda: "\u202e./gnp",
    "credentials": lambda: "s3://KEY:SECRET@bucket/\n",
    "bytes": lambda: b"paper",
    "byte array": lambda: bytearray(b"12345"),
    "memory view": lambda: memoryview(b"12345"),
    "long list": lambda: [1.0] * 10**6,
    "list of texts": lambda: ["conv1_1"] * 10**6,
    "nested list": lambda: [[1, [2, [3]]]],
    "list in itself": loop,
    "list of NaN": lambda: [math.nan],
    "list of nothing": lambda: [None],
    "empty list": list,
    "dict": lambda: {"conv1_1": 1, "conv2_1": 2},
    "set": lambda: {1.0, 2.0},
    "range": lambda: range(10**9),
    "endless": lambda: iter(int, 1),
    "Decimal": lambda: decimal.Decimal("1e99999"),
    "signalling NaN": lambda: decimal.Decimal("sNaN"),
    "fraction": lambda: fractions.Fraction(10**400, 3),
    "complex": lambda: 1j,
    "numpy NaN": lambda: np.float32("nan"),
    "numpy truth": lambda: np.bool_(True),
    "numpy texts": lambda: np.array(["a", "b"]),
    "numpy objects": lambda: np.array([None, {}], dtype=object),
    "numpy matrix": lambda: np.ones((3, 3)),
    "numpy scalar array": lambda: np.array(-7),
    "numpy date": lambda: np.datetime64("2024-01-01"),
    "class": lambda: object,
    "broken": Broken,
    "function": lambda: print,
}


@pytest.mark.parametrize("kind", VALUES)
def test_every_field_refuses_every_value_by_name(kind: str) -> None:
    for name in FIELDS:
        value = VALUES[kind]()
        started = time.process_time()
        check_refusal(lambda: Recipe(**{name: value}), name)  # noqa: B023 (called at once)
        if kind != "empty text" or FIELDS[name].default is not None:  # on a command line it means None
            check_refusal(lambda: Recipe(**parse_fields({name: value})), name)  # noqa: B023
        assert time.process_time() - started < SECONDS


def check_refusal(make: Callable[[], Recipe], name: str) -> None:
    with pytest.raises(RecipeError) as raised:
        make()
    message = str(raised.value)
    assert message.startswith(f"recipe: {name} is ")
    assert f"must be {field_rule(name).allowed}" in message
    assert len(message) < 600
    assert message.isprintable()
    assert "SECRET" not in message


@pytest.mark.parametrize("name", ["style_layers", "style_layer_weights", "content_layers", "style_blend"])
@pytest.mark.parametrize("kind", VALUES)
def test_lists_that_go_together_are_refused_as_well(kind: str, name: str) -> None:
    others = {"style_layers": ["conv1_1"], "style_layer_weights": [1.0]}
    with pytest.raises(RecipeError, match=name):
        Recipe(**{**others, name: VALUES[kind]()})


def test_the_longest_location_is_the_storage_s() -> None:
    assert LONGEST_LOCATION == MAX_URI_LENGTH
    for name in ("start", "weights"):
        longest = "a/" * (MAX_URI_LENGTH // 2)
        assert getattr(Recipe(**{name: longest}), name) == longest
        with pytest.raises(RecipeError, match=f"{name} is "):
            Recipe(**{name: longest + "x"})


def test_whole_numbers_of_numpy_keep_their_digits() -> None:
    for seed in (2**62 + 1, 2**63 - 1):
        assert Recipe(seed=np.int64(seed)).seed == seed


def test_unknown_fields_are_counted() -> None:
    for fields in ({f"field{i}": 1 for i in range(10_000)}, {"x" * 10**6: 1}, {"a\x1b\0": 1}):
        with pytest.raises(RecipeError) as raised:
            parse_fields(fields)
        assert len(str(raised.value)) < 1500
        assert str(raised.value).isprintable()
    with pytest.raises(RecipeError, match=r"'field9' \(and 9,990 more\); the fields are"):
        parse_fields({f"field{i}": 1 for i in range(10_000)})


@pytest.mark.parametrize("name", ["x" * 10**6, "\x1b[31m", "", 7, None, ()])
def test_an_unknown_preset_is_shown_in_short(name: Any) -> None:
    with pytest.raises(RecipeError, match="the presets are ") as raised:
        Recipe.preset(name)
    assert len(str(raised.value)) < 300
    assert str(raised.value).isprintable()


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def made(make: Callable[[], Recipe]) -> Recipe | str:
    """A recipe that survives JSON, or why there is none."""
    try:
        recipe = make()
    except RecipeError as error:
        return str(error)
    assert Recipe(**json.loads(json.dumps(recipe.to_dict(), allow_nan=False))) == recipe
    assert len(recipe.fingerprint) == 64
    return recipe


def check_made(recipe: Recipe | str, *starts: str) -> None:
    if isinstance(recipe, str):
        assert recipe.startswith(starts)
        assert recipe.isprintable()
        assert len(recipe) < 2000


@settings(max_examples=600, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), anything, max_size=4))
def test_any_values_make_a_recipe_or_are_refused(fields: dict[str, Any]) -> None:
    check_made(made(lambda: Recipe(**fields)), "recipe: ")
    check_made(made(lambda: Recipe(**parse_fields(fields))), "recipe: ")


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), st.text(max_size=12), max_size=4))
def test_any_texts_make_a_recipe_or_are_refused(fields: dict[str, str]) -> None:
    check_made(made(lambda: Recipe(**parse_fields(fields))), "recipe: ")


URI = "s3://bucket/recipe.yaml"


def read(data: bytes) -> Recipe | str:
    store = MemoryStore({URI: data})
    return made(lambda: Recipe(**parse_fields(read_recipe_fields(store, URI))))


@settings(max_examples=600, deadline=None, derandomize=True)
@given(
    st.one_of(
        st.binary(max_size=80),
        st.text(max_size=80).map(lambda text: text.encode(errors="surrogatepass")),
        st.lists(
            st.sampled_from(
                [*"&*!:-?[]{},#|>'\"%@` \n\t", "size", "1e3", "<<", "!!int", "&a ", "*a", ": ", "~"]
            ),
            max_size=25,
        ).map(lambda parts: "".join(parts).encode()),
    )
)
def test_any_file_is_a_recipe_or_refused(data: bytes) -> None:
    check_made(read(data), URI, "recipe: ")


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), anything, max_size=4))
def test_any_values_in_a_file_are_a_recipe_or_refused(fields: dict[str, Any]) -> None:
    check_made(read(yaml.safe_dump(fields).encode()), URI, "recipe: ")


@pytest.mark.parametrize("preset", PRESETS)
def test_what_a_recipe_holds_can_be_written_and_read(preset: str) -> None:
    recipe = Recipe.preset(preset)
    assert read(yaml.safe_dump(recipe.to_dict()).encode()) == recipe
