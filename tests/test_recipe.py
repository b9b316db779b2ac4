"""The recipe: defaults, validation, fingerprint, presets, and values that come as text."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from stylebatch.errors import RecipeError
from stylebatch.recipe import FIELDS, LAYERS, PRESETS, Recipe, check_field_names, field_rule
from stylebatch.recipe_text import parse_fields

GOLDEN_FINGERPRINT = "84d54435570f0d00d524bb83bdd5c3f9750e4721649e9ed4c81ff18d9da3a1ee"
"""Of ``Recipe()``. It changes only when a field or a default does, and then every old job is another job."""

PAPER_STYLE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")


def test_the_defaults_are_the_paper_s() -> None:
    recipe = Recipe()
    assert recipe.content_layers == ("conv4_2",)
    assert recipe.style_layers == PAPER_STYLE_LAYERS
    assert recipe.content_weight / recipe.style_weight == 1e-3
    assert recipe.style_layer_weights is None  # 1/number of layers
    assert (recipe.convention, recipe.pooling, recipe.start) == ("paper", "average", "noise")
    assert (recipe.weights, recipe.optimizer) == ("caffe", "lbfgs")
    assert recipe.reference_size is None
    assert recipe.tv_weight == 0
    assert (recipe.size, recipe.shorter_side, recipe.pixels) == (512, None, None)


def test_a_recipe_is_frozen_and_hashable() -> None:
    recipe = Recipe(style_layers=["conv1_1"], style_layer_weights=[1])
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.seed = 1  # type: ignore[misc]
    assert {recipe, Recipe(style_layers=("conv1_1",), style_layer_weights=(1.0,))} == {recipe}


# --- fingerprint


def test_the_fingerprint_of_the_defaults_is_pinned() -> None:
    assert Recipe().fingerprint == GOLDEN_FINGERPRINT


def test_the_fingerprint_is_the_hash_of_canonical_json() -> None:
    recipe = Recipe(start="ä/b.png", style_blend=[0.1, 1e-7])
    text = json.dumps(recipe.to_dict(), sort_keys=True, separators=(",", ":"))
    assert recipe.fingerprint == hashlib.sha256(text.encode("ascii")).hexdigest()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"style_weight": 1000}, {"style_weight": 1e3}),
        ({"size": 256.0, "iterations": 1e2}, {"size": 256, "iterations": 100}),
        ({"style_layers": list(PAPER_STYLE_LAYERS)}, {}),
        ({"style_layers": PAPER_STYLE_LAYERS[::-1]}, {}),
        (
            {"style_layer_weights": [1, 2, 3, 4, 5]},
            {"style_layer_weights": (1.0, 2.0, 3.0, 4.0, 5.0)},
        ),
        ({"tv_weight": -0.0}, {"tv_weight": 0}),
        ({"style_blend": [-0.0, 1]}, {"style_blend": [0, 1]}),
        ({"size": 512}, {}),
    ],
)
def test_the_same_recipe_said_differently(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert Recipe(**one) == Recipe(**other)
    assert hash(Recipe(**one)) == hash(Recipe(**other))
    assert Recipe(**one).fingerprint == Recipe(**other).fingerprint


OTHER_VALUES: dict[str, Any] = {
    "content_weight": 2.0,
    "style_weight": 2.0,
    "content_layers": ["conv4_1"],
    "style_layers": ["conv1_1"],
    "style_layer_weights": [5, 1, 1, 1, 1],
    "style_blend": [1, 2],
    "convention": "gatys-code",
    "bounds": "clip",
    "pooling": "max",
    "weights": "s3://bucket/weights.pth",
    "weights_family": "torchvision",
    "size": 513,
    "shorter_side": 512,
    "pixels": 512 * 512,
    "style_size": 512,
    "content_crop": [0, 0, 64, 48],
    "style_crop": [1, 2, 64, 48],
    "reference_size": 512,
    "scales": 2,
    "start": "content",
    "seed": 1,
    "optimizer": "adam",
    "learning_rate": 5.0,
    "iterations": 499,
    "history": 31,
    "tolerance": 1e-9,
    "residual_tolerance": 1e-9,
    "tv_weight": 1e-9,
    "mean_luminance": 0.5,
    "rms_contrast": 0.5,
    "histogram": "style",
    "spectrum": "content",
    "light": "srgb",
    "format": "jpeg",
    "quality": 94,
}


def test_every_field_is_tried_with_another_value() -> None:
    assert set(OTHER_VALUES) == set(FIELDS)


def test_every_field_counts_in_the_fingerprint() -> None:
    fingerprints = {Recipe(**{name: value}).fingerprint for name, value in OTHER_VALUES.items()}
    assert len(fingerprints | {GOLDEN_FINGERPRINT}) == len(OTHER_VALUES) + 1


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_a_recipe_survives_json(name: str) -> None:
    recipe = Recipe(**{name: OTHER_VALUES[name]})
    assert Recipe(**json.loads(json.dumps(recipe.to_dict()))) == recipe


# --- validation

NOT_NUMBERS: list[Any] = [
    *(float("nan"), float("inf"), float("-inf"), True, False),
    *("1", "", b"1", [1], {}, object),
]
WRONG_VALUES: dict[str, list[Any]] = {
    "number": [*NOT_NUMBERS, -1, -1e-9, 1e300, 10**400, 1j],
    "integer": [*NOT_NUMBERS, -1, 1.5, 2**64, 10**400, 1e300],
    "numbers": [
        [],
        "1,2",
        3,
        [1, "2"],
        [float("nan")],
        [float("inf")],
        [-1],
        [True],
        [0, 0],
        [[1]],
        [1e300] * 5,
    ],
    "texts": [[], "conv1_1", 3, ["conv1_1", "conv1_1"], ["conv1_5"], [1], [["conv1_1"]], [None], ["CONV1_1"]],
    "text": ["", " ", "no", "Paper", 1, True, ["paper"], b"paper", float("nan")],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in FIELDS for value in WRONG_VALUES[field_rule(name).kind]]
    + [(name, None) for name in FIELDS if FIELDS[name].default is not None],
)
def test_every_field_refuses_what_it_cannot_hold(name: str, value: Any) -> None:
    with pytest.raises(RecipeError) as raised:
        Recipe(**{name: value})
    message = str(raised.value)
    assert message.startswith(f"recipe: {name} is ")
    assert f"must be {field_rule(name).allowed}" in message
    shown = ascii(value) if isinstance(value, str) else repr(value)
    assert shown[:70] in message
    assert len(message) < 600


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("size", 16, 16384),
        ("shorter_side", 16, 16384),
        ("style_size", 16, 16384),
        ("reference_size", 16, 16384),
        ("pixels", 256, 16384**2),
        ("seed", 0, 2**63 - 1),
        ("iterations", 0, 1_000_000),
        ("history", 1, 200),
        ("quality", 1, 100),
    ],
)
def test_the_ends_of_whole_number_ranges(name: str, low: int, high: int) -> None:
    for value in (low, high):
        assert getattr(Recipe(**{name: value}), name) == value
    for value in (low - 1, high + 1):
        with pytest.raises(RecipeError, match=f"{name} is {value}; .* from {low} to {high}"):
            Recipe(**{name: value})


@pytest.mark.parametrize(
    ("fields", "height", "width", "pairs"),
    [
        ({}, 128, 128, 100),
        ({}, 129, 128, 50),
        ({"history": 7}, 64, 64, 7),
        ({"history": 200}, 512, 384, 200),
        ({"iterations": 60}, 64, 64, 60),
        ({"iterations": 0}, 64, 64, 1),
    ],
)
def test_the_length_of_the_history(fields: dict[str, int], height: int, width: int, pairs: int) -> None:
    assert Recipe(**fields).most_pairs(height, width) == pairs


@pytest.mark.parametrize(("name", "low", "high"), [("learning_rate", 1e-6, 255), ("tolerance", 0, 1)])
def test_the_ends_of_number_ranges(name: str, low: float, high: float) -> None:
    for value in (low, high):
        assert getattr(Recipe(**{name: value}), name) == value
    for value in (low - 1e-7, high + 1e-3):
        with pytest.raises(RecipeError, match=f"{name} is "):
            Recipe(**{name: value})


def test_numbers_of_numpy_are_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    recipe = Recipe(size=numpy.int64(256), style_weight=numpy.float32(8), style_blend=numpy.array([1.0, 3.0]))
    assert recipe == Recipe(size=256, style_weight=8, style_blend=[1, 3])
    assert type(recipe.size) is int
    assert recipe.fingerprint == Recipe(size=256, style_weight=8, style_blend=[1, 3]).fingerprint


def test_several_problems_are_one_message() -> None:
    with pytest.raises(RecipeError) as raised:
        Recipe(style_weight=-3.0, pooling="mean", iterations=1.5, style_layers=["conv6_1"])
    message = str(raised.value)
    assert message.count("must be") == 4
    assert "style_weight is -3.0; it must be a finite number" in message
    assert "0 reconstructs the content alone" in message
    assert "pooling is 'mean'; it must be one of average, max" in message
    assert "iterations is 1.5" in message
    assert "style_layers is ['conv6_1']" in message


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(RecipeError, match=r"size is '9{50,80}'\.\.\.; it must"):
        Recipe(size="9" * 100_000)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 64, "pixels": 4096}, "size and pixels are both given; give one of"),
        ({"style_layer_weights": [1, 2]}, "style_layer_weights has 2 numbers for 5 style layers"),
        ({"convention": "gatys-code", "reference_size": 512}, "reference_size goes with convention paper"),
        ({"start": "contnet"}, "start is 'contnet'; it must be noise, content, recoloured, scrambled, or"),
        ({"content_weight": 0, "style_weight": 0}, "are both 0"),
        ({"weights": "a\0b"}, r"weights is 'a\\x00b'"),
        ({"weights": "caffee"}, "weights is 'caffee'"),
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        Recipe(**fields)


@pytest.mark.parametrize("start", ["noise", "content", "a.png", "s3://bucket/a", "dir/a", "./a"])
def test_starts(start: str) -> None:
    assert Recipe(start=start).start == start


def test_layers_are_put_in_order() -> None:
    recipe = Recipe(style_layers=["pool3", "conv1_2", "conv5_4"])
    assert recipe.style_layers == ("conv1_2", "pool3", "conv5_4")
    assert Recipe(content_layers=LAYERS).content_layers == LAYERS


def test_layer_weights_stay_with_their_layers() -> None:
    """Layers may be given in any order; silently giving one the weight of another is the worst answer."""
    given = {"style_layers": ["conv5_1", "conv1_1"], "style_layer_weights": [3, 1]}
    try:
        recipe = Recipe(**given)
    except RecipeError as refusal:
        assert "shallow to deep" in str(refusal)  # noqa: PT017
    else:
        assert recipe.style_layer_weights is not None
        assert dict(zip(recipe.style_layers, recipe.style_layer_weights, strict=True)) == {
            "conv1_1": 1,
            "conv5_1": 3,
        }


# --- unknown fields and presets


@pytest.mark.parametrize(
    "call",
    [
        lambda fields: Recipe().replace(fields),
        lambda fields: Recipe.preset("photo", **fields),
        lambda fields: parse_fields(fields),
        lambda fields: check_field_names(fields),
    ],
)
def test_unknown_fields_are_refused_with_a_suggestion(call: Callable[[dict[str, Any]], Any]) -> None:
    with pytest.raises(RecipeError) as raised:
        call({"stlye_weight": 1, "zzzzzz": 2, "seed": 3})
    message = str(raised.value)
    assert "'stlye_weight' (did you mean style_weight?), 'zzzzzz'" in message
    assert "did you mean" not in message.partition("'zzzzzz'")[2]
    for name in FIELDS:
        assert name in message


def test_presets_are_valid_and_different() -> None:
    assert set(PRESETS) == {"paper", "photo", "gatys-code", "neural-style"}
    assert len({Recipe.preset(name).fingerprint for name in PRESETS}) == len(PRESETS)
    assert Recipe.preset("paper") == Recipe()


def test_the_presets_say_what_their_programs_do() -> None:
    assert Recipe.preset("photo").start == "recoloured"
    gatys = Recipe.preset("gatys-code")
    assert (gatys.convention, gatys.pooling, gatys.start) == ("gatys-code", "max", "content")
    assert (gatys.content_weight, gatys.style_weight, gatys.shorter_side) == (1, 1e3, 512)
    johnson = Recipe.preset("neural-style")
    assert (johnson.convention, johnson.content_weight, johnson.style_weight) == ("neural-style", 5, 100)


def test_a_preset_s_fields_can_be_replaced() -> None:
    recipe = Recipe.preset("gatys-code", size=256, seed=4)
    assert (recipe.size, recipe.shorter_side, recipe.seed) == (256, None, 4)
    assert recipe.convention == "gatys-code"


def test_an_unknown_preset_gets_a_suggestion() -> None:
    with pytest.raises(RecipeError, match=r"no preset 'foto' \(did you mean photo\?\); the presets are "):
        Recipe.preset("foto")


# --- replace


@pytest.mark.parametrize("before", [{"size": 100}, {"shorter_side": 100}, {"pixels": 10_000}])
@pytest.mark.parametrize("after", [{"size": 200}, {"shorter_side": 200}, {"pixels": 20_000}])
def test_one_way_to_say_the_size_replaces_the_others(before: dict[str, int], after: dict[str, int]) -> None:
    assert Recipe(**before).replace(after) == Recipe(**after)


def test_replacing_nothing_changes_nothing() -> None:
    recipe = Recipe(shorter_side=100, seed=3)
    assert recipe.replace({}) == recipe
    assert recipe.replace({"size": None, "seed": 4}) == Recipe(shorter_side=100, seed=4)


def test_replacing_is_validated() -> None:
    with pytest.raises(RecipeError, match="size and shorter_side are both given"):
        Recipe().replace({"size": 64, "shorter_side": 64})
    with pytest.raises(RecipeError, match="seed is -1"):
        Recipe().replace({"seed": -1})


# --- text


def test_all_fields_survive_text() -> None:
    for name, value in OTHER_VALUES.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        assert Recipe(**parse_fields({name: text})) == Recipe(**{name: value})


# --- batches

PER_IMAGE = {
    "size": 100,
    "content_weight": 2,
    "style_weight": 2,
    "style_layer_weights": [5, 1, 1, 1, 1],
    "style_blend": [1, 2],
    "convention": "gatys-code",
    "style_size": 100,
    "content_crop": [1, 1, 9, 9],
    "style_crop": [1, 1, 9, 9],
    "mean_luminance": 0.1,
    "rms_contrast": 0.1,
    "histogram": "content",
    "spectrum": "content",
    "light": "srgb",
    "reference_size": 100,
    "start": "content",
    "seed": 9,
    "tv_weight": 1,
    "format": "npy",
    "quality": 3,
}


def test_what_images_of_one_batch_may_differ_in() -> None:
    for name, value in PER_IMAGE.items():
        assert Recipe(**{name: value}).shared_settings == Recipe().shared_settings, name


def test_what_images_of_one_batch_must_agree_on() -> None:
    for name, value in OTHER_VALUES.items():
        if name not in PER_IMAGE and name not in ("shorter_side", "pixels"):
            assert Recipe(**{name: value}).shared_settings != Recipe().shared_settings, name
