"""Design files: what each key may hold, and that anything else is refused in one sentence that names it."""

import json
import re
import time
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from inmemory import MemoryStore
from studies import FOLDER, design, factors

from stylebatch.design.crossing import Crossing
from stylebatch.design.design_file import DESIGN_FILE, KEYS, Design, parse_design, read_design
from stylebatch.design.factors import label_of
from stylebatch.design.orders import Participants
from stylebatch.errors import DesignError, NotFoundError
from stylebatch.recipe import FIELDS, Recipe

URI = f"{FOLDER}/design.yaml"


def parsed(**changes: Any) -> Design:
    return parse_design(design(**changes), FOLDER)


def read(text: str | bytes) -> Design:
    data = text if isinstance(text, bytes) else text.encode()
    return read_design(MemoryStore({URI: data}), URI)


def test_a_design_is_read() -> None:
    found = read(
        """
        name: textures-1   # a comment
        seed: 7
        recipe: {size: 128, iterations: 200, start: noise}
        factors:
          content: {cat: photos/cat.png, boat: photos/boat.png}
          style: [paintings/wave.jpg, [a/b.png, s3://other/c.png]]
          ratio: [1e-3, 0.0001]
          layers:
            fine: {style_layers: [conv2_1, conv1_1], style_layer_weights: [2, 1]}
            coarse: {style_layers: [conv4_1], style_layer_weights: [1]}
        replicates: 2
        crop: {width: 96, height: 64, at: [10, 20]}
        foils:
          - {kind: crop, of: style, width: 32, height: 32, label: elsewhere}
        participants: {count: 12, order: latin-square, blocks: style}
        """
    )
    assert (found.name, found.seed, found.replicates, found.seeds) == ("textures-1", 7, 2, "cell")
    assert found.recipe == {"size": 128, "iterations": 200, "start": "noise"}
    assert [factor.name for factor in found.factors] == ["content", "style", "ratio", "layers"]
    assert [factor.labels for factor in found.factors] == [
        ("cat", "boat"),
        ("wave", "b-c"),
        ("1e-3", "0.0001"),
        ("fine", "coarse"),
    ]
    content, style, ratio, layers = ([level.settings for level in item.levels] for item in found.factors)
    assert content == [{"content": "photos/cat.png"}, {"content": "photos/boat.png"}]
    assert style == [{"style": ("paintings/wave.jpg",)}, {"style": ("a/b.png", "s3://other/c.png")}]
    assert [(item["content_weight"], item["style_weight"]) for item in ratio] == [(1, 1000), (1, 10000)]
    assert Recipe(**layers[0]).style_layer_weights == (1, 2)  # still with their own layers
    assert (found.crops[0].of, found.crops[0].width, found.crops[0].at) == ("content", 96, (10, 20))
    assert (found.foils[0].label, found.foils[0].of, found.foils[0].replicates) == ("elsewhere", "style", 1)
    assert found.participants == Participants(12, "latin-square", "style")
    assert found.crossing == Crossing()


def test_defaults() -> None:
    found = parse_design({"name": "a", "factors": {"content": ["a.png"]}}, FOLDER)
    assert (found.seed, found.replicates, found.seeds, found.recipe) == (0, 1, "cell", {})
    assert (found.crops, found.foils, found.participants) == ((), (), None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nmae": 1}, "a design has no key 'nmae' (did you mean name?); its keys are name, seed"),
        ({"name": "a b"}, "name is 'a b'; it must be 1 to 64 of A-Z"),
        ({"name": "../x"}, "name is '../x'; it must be"),
        ({"name": 3}, "name is 3; it must be"),
        ({"seed": -1}, "seed is -1; it must be a whole number from 0 to"),
        ({"seed": True}, "seed is True; it must be"),
        ({"seed": 2**63}, "seed is 9223372036854775808; it must be"),
        ({"seed": None}, "seed is None; it must be"),
        ({"recipe": [1]}, "recipe is [1]; it must be a mapping"),
        ({"recipe": {"sise": 5}}, "recipe.sise: there is no recipe field 'sise' (did you mean size?)"),
        (
            {"recipe": {"style": "a.png"}},
            "recipe.style: there is no recipe field 'style'; images are factors",
        ),
        ({"recipe": {"size": 8}}, "recipe.size is 8; it must be a whole number from 16 to 16384"),
        ({"recipe": {"iterations": "many"}}, "recipe.iterations is 'many'; it must be a whole number"),
        ({"recipe": {"seed": 5}}, "recipe.seed: the seeds of rows follow from the design's seed"),
        ({"recipe": {"start": "http://x/y.png"}}, "recipe.start: http:// locations are not supported"),
        ({"factors": {}}, "factors is {}; it must be a mapping of names to levels"),
        ({"factors": []}, "factors is []; it must be"),
        ({"factors": {"a b": [1]}}, "factors: 'a b' is no name for a factor"),
        ({"factors": {"size": []}}, "factors.size has 0 levels; a factor has 1 to 1000"),
        ({"factors": {"size": [16] * 1001}}, "factors.size has 1001 levels"),
        ({"factors": {f"f{i}": ["x"] for i in range(17)}}, "factors: there are 17; a design has at most 16"),
        ({"factors": {"size": 64}}, "factors.size is 64; it must be a list of levels, or a mapping"),
        ({"factors": {"size": [64, 64]}}, "factors.size: 2 levels are called '64'"),
        ({"factors": {"size": {"a": 16, "A": 32}}}, "factors.size: 2 levels are called 'a'"),
        ({"factors": {"size": {"a b": 16}}}, "factors.size: 'a b' is no label for a level"),
        ({"factors": {"size": {".a": 16}}}, "factors.size: '.a' is no label for a level"),
        ({"factors": {"content": ["ä/ö.png"]}}, "factors.content: '' is no label for a level"),
        ({"factors": {"size": {"x" * 41: 16}}}, "is no label for a level; it must be 1 to 40 of"),
        ({"factors": {"size": [16, "a"]}}, "factors.size[1] is 'a'; it must be a whole number"),
        ({"factors": {"size": {"s": 3}}}, "factors.size.s is 3; it must be a whole number"),
        ({"factors": {"ratio": [0]}}, "factors.ratio[0] is 0; it must be α/β, a number from 1e-15"),
        ({"factors": {"ratio": [float("nan")]}}, "factors.ratio[0] is nan; it must be"),
        ({"factors": {"ratio": [True]}}, "factors.ratio[0] is True; it must be"),
        ({"factors": {"ratio": [[1]]}}, "factors.ratio[0] is [1]; it must be"),
        ({"factors": {"seed": [1, 2]}}, "factors.seed[0]: the seeds of rows follow from the design's seed"),
        ({"factors": {"sise": [64]}}, "as there is no recipe field sise (did you mean size?)"),
        ({"factors": {"look": {"a": 64}}}, "factors.look.a is 64; it must be a mapping of recipe fields"),
        ({"factors": {"look": {"a": {"sise": 64}}}}, "factors.look.a.sise: there is no recipe field 'sise'"),
        ({"factors": {"look": {"a": {}}}}, "factors.look.a is {}; it must be a mapping"),
        (
            {"factors": {"look": {"a": {"ratio": 1, "style_weight": 3}}}},
            "factors.look.a sets style_weight twice",
        ),
        ({"factors": {"content": [5]}}, "factors.content[0] is 5; it must be the location of an image"),
        ({"factors": {"content": ["s3://K:SECRET@b/x.png"]}}, "factors.content[0]: "),
        ({"factors": {"content": ["/proc/self/environ"]}}, "factors.content[0]: "),
        ({"factors": {"style": [[]]}}, "factors.style: '' is no label"),
        ({"factors": {"style": {"a": []}}}, "factors.style.a is []; it must be the location of an image, or"),
        (
            {"factors": {"style": {"a": ["x.png", None]}}},
            "factors.style.a[1] is None; it must be the location",
        ),
        (
            {"factors": {"size": [64], "look": {"a": {"shorter_side": 32}}}},
            "the factors size and look both set shorter_side",
        ),
        (
            {"factors": {"ratio": [1], "style_weight": [1]}},
            "the factors ratio and style_weight both set style_weight",
        ),
        ({"crossing": "half"}, "crossing is 'half'; it must be full, or one of"),
        ({"crossing": {"fraction": "1/2", "only": []}}, "it must be full, or one of"),
        ({"crossing": {"faction": "1/2"}}, "crossing has no key 'faction' (did you mean fraction?)"),
        ({"crossing": {"fraction": 0.5}}, "crossing.fraction is 0.5; it must be 1/2, 1/3 or another"),
        ({"crossing": {"fraction": "1/1"}}, "crossing.fraction is '1/1'; it must be"),
        ({"crossing": {"only": []}}, "crossing.only is []; it must be a list of cells"),
        (
            {"crossing": {"only": [{"style": "sun"}]}},
            "crossing.only[0].style is 'sun'; it must be a level's label",
        ),
        ({"crossing": {"leave_out": [{"hue": 1}]}}, "crossing.leave_out[0].hue: there is no factor 'hue'"),
        ({"replicates": 0}, "replicates is 0; it must be a whole number from 1"),
        ({"seeds": "own"}, "seeds is 'own'; it must be one of cell, replicate"),
        ({"crop": {"width": 5}}, "crop must have the key height; its keys are of, width, height, at"),
        ({"crop": {"width": 5, "height": 0}}, "crop.height is 0; it must be a whole number from 1"),
        (
            {"crop": {"width": 5, "height": 5, "at": "left"}},
            "crop.at is 'left'; it must be seeded, centre, or",
        ),
        ({"crop": {"width": 5, "height": 5, "at": [1, -1]}}, "crop.at[1] is -1; it must be a whole number"),
        ({"crop": {"width": 5, "height": 5, "of": "start"}}, "crop.of is 'start'; it must be one of content"),
        (
            {"crop": [{"width": 5, "height": 5}] * 2},
            "crop of content and crop of content both crop the content",
        ),
        (
            {"crop": {"width": 5, "height": 5}, "recipe": {"content_crop": [0, 0, 5, 5]}},
            "crop of content and recipe both crop the content images",
        ),
        ({"foils": {"kind": "noise"}}, "foils is {'kind': 'noise'}; it must be a list of foils"),
        ({"foils": [{"of": "style"}]}, "foils[0] must have the key kind"),
        ({"foils": [{"kind": "blur"}]}, "foils[0].kind is 'blur'; it must be one of unmodified, scrambled"),
        ({"foils": [{"kind": "noise", "width": 5}]}, "foils[0] has no key 'width'"),
        ({"foils": [{"kind": "crop", "width": 5}]}, "foils[0].height is None; it must be a whole number"),
        ({"foils": [{"kind": "unmodified", "replicates": 2}]}, "foils[0].replicates is 2; it must be 1, as"),
        (
            {"foils": [{"kind": "crop", "width": 5, "height": 5, "at": "centre", "replicates": 2}]},
            "foils[0].replicates is 2; it must be 1, as nothing of this foil is random",
        ),
        (
            {"foils": [{"kind": "noise", "label": f"n{i}"} for i in range(21)]},
            "foils: there are 21; a design has",
        ),
        ({"foils": [{"kind": "noise"}] * 2}, "foils: two foils of content are called noise"),
        ({"foils": [{"kind": "noise", "label": "a/b"}]}, "foils[0].label is 'a/b'; it must be 1 to 40"),
        ({"foils": [{"kind": "noise", "recipe": {"start": "noise"}}]}, "a foil sets start itself"),
        ({"foils": [{"kind": "noise", "recipe": {"colour": 1}}]}, "there is no recipe field 'colour'"),
        ({"participants": {"count": 3}}, "participants must have the key order"),
        ({"participants": {"count": 0, "order": "seeded"}}, "participants.count is 0; it must be"),
        (
            {"participants": {"count": 1, "order": "random"}},
            "participants.order is 'random'; it must be one of",
        ),
        (
            {"participants": {"count": 1, "order": "blocked"}},
            "participants.blocks is None; it must be a factor",
        ),
        (
            {"participants": {"count": 1, "order": "seeded", "blocks": "style"}},
            "participants.blocks is 'style'; it must be left out with order seeded",
        ),
        (
            {"participants": {"count": 1, "order": "blocked", "blocks": "hue"}},
            "participants.blocks is 'hue'; it must be one of content, style",
        ),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DesignError) as raised:
        parsed(**changes)
    said = str(raised.value)
    assert message in said
    assert said.isprintable()
    assert len(said) < 1200
    assert "SECRET" not in said


@pytest.mark.parametrize("key", [key for key in KEYS if key in ("name", "factors")])
def test_what_must_be_there(key: str) -> None:
    content = design()
    del content[key]
    with pytest.raises(DesignError, match=f"a design must have the key {key}"):
        parse_design(content, FOLDER)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: &a [1]\nb: *a", "line 1: there is an anchor or alias ('a')"),
        ("name: !!python/name:os.system x", "line 1: there is a tag"),
        ("name: a\nname: b", "line 2: the field 'name' is there twice"),
        ("factors: {size: {64: 64}}", "line 1: a field's name is not text"),
        ("a: " + "[" * 900, "nested too deep"),
        ("", "the file holds no fields"),
        ("#" * (DESIGN_FILE.most_bytes + 1), "the file has more than 131072 bytes"),
        (b"\x89PNG\r\n", "the file is not UTF-8 text"),
    ],
    ids=lambda value: str(value[:12]),
)
def test_files_that_are_none_are_refused(text: str | bytes, problem: str) -> None:
    with pytest.raises(DesignError) as raised:
        read(text)
    assert str(raised.value).startswith(f"{URI}: ")
    assert problem in str(raised.value)
    assert str(raised.value).endswith("docs/stimuli.md has them all")


def test_a_problem_is_said_with_the_file() -> None:
    with pytest.raises(DesignError, match=re.escape(f"{URI}: name is 5; it must be")):
        read("name: 5\nfactors: {size: [64]}")
    with pytest.raises(NotFoundError, match=re.escape(URI)):
        read_design(MemoryStore(), URI)


def test_labels_are_made_of_values() -> None:
    values = [64, 0.5, "1e+5", "1e-3", "photos/The Wave (1831).jpg", None, ["conv1_1", "conv2_1"]]
    assert [label_of(value) for value in values] == [
        "64",
        "0.5",
        "1e5",
        "1e-3",
        "The-Wave-1831",
        "none",
        "conv1_1-conv2_1",
    ]


class TestHash:
    def test_is_of_what_the_file_says(self) -> None:
        text = yaml.safe_dump(design(), sort_keys=False)
        assert (
            read(text).sha256
            == read("# a comment\n" + yaml.safe_dump(design(), indent=8, sort_keys=False)).sha256
        )

    def test_does_not_know_the_folder(self) -> None:
        assert parsed().sha256 == parse_design(design(), "/elsewhere").sha256

    @pytest.mark.parametrize(
        "changes",
        [
            {"seed": 8},
            {"name": "b"},
            {"replicates": 2},
            {"seeds": "replicate"},
            {"recipe": {"size": 128}},
            {"crossing": {"only": [{"content": "cat"}]}},
            {"crop": {"width": 8, "height": 8}},
            {"foils": [{"kind": "noise"}]},
            {"participants": {"count": 2, "order": "seeded"}},
            {"factors": dict(reversed(factors().items()))},
        ],
        ids=str,
    )
    def test_tells_designs_apart(self, changes: dict[str, Any]) -> None:
        assert re.fullmatch("[0-9a-f]{64}", parsed().sha256)
        assert parsed(**changes).sha256 != parsed().sha256


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
likely = st.fixed_dictionaries(
    {},
    optional={
        "factors": st.dictionaries(
            st.sampled_from(["content", "style", "ratio", "size", "look", *list(FIELDS)[:4]]),
            st.lists(anything, max_size=3) | st.dictionaries(st.sampled_from("abc"), anything, max_size=3),
            max_size=3,
        ),
        **{key: anything for key in KEYS if key != "factors"},
    },
)


def made(content: dict[str, Any]) -> str:
    """A design's hash, or why there is none."""
    try:
        return parse_design(content, FOLDER).sha256
    except DesignError as error:
        return str(error)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(likely)
def test_anything_is_a_design_or_refused(changes: dict[str, Any]) -> None:
    started = time.process_time()
    said = made(design() | changes)
    assert said.isprintable()
    assert 0 < len(said) < 2500
    assert time.process_time() - started < 1
