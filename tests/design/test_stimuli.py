"""From a design to a manifest: rows that validate, seeds that stay, conditions that travel."""

import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inmemory import picture_bytes
from studies import FOLDER, SIZES, design, factors, make, study

from stylebatch.design.design_file import parse_design, read_design
from stylebatch.design.stimuli import make_stimuli, write_stimuli
from stylebatch.errors import DesignError, NotFoundError
from stylebatch.manifest import open_manifest, validate
from stylebatch.pairs import Pair
from stylebatch.recipe import FIELDS, Recipe
from stylebatch.results import RESERVED_COLUMNS
from stylebatch.storage import LocalStore

URI = f"{FOLDER}/out/set.parquet"


def written(**changes: Any) -> tuple[pa.Table, list[Pair]]:
    """The table of a design's manifest as it was written, and its pairs."""
    store = study()
    write_stimuli(store, URI, make_stimuli(store, parse_design(design(**changes), FOLDER)))
    manifest = open_manifest(store, URI)
    validate(manifest, Recipe(), RESERVED_COLUMNS)
    return pq.read_table(pa.BufferReader(store.objects[URI])), [*manifest.pairs(Recipe())]


def test_the_manifest_s_columns() -> None:
    table, pairs = written(
        factors=factors(ratio=["1e-3", 0.1]),
        replicates=2,
        crop={"width": 30, "height": 20},
        foils=[{"kind": "noise"}],
    )
    assert table.column_names == [
        *("pair_id", "content", "style", "content_weight", "style_weight", "size", "content_crop", "scales"),
        *("start", "seed", "iterations", "design", "design_sha256", "cell", "factor_content", "factor_style"),
        *("factor_ratio", "replicate", "foil", "foil_of"),
    ]
    assert table.num_rows == 18
    first, last = table.slice(0, 1).to_pylist()[0], table.slice(17).to_pylist()[0]
    found = parse_design(
        design(
            factors=factors(ratio=["1e-3", 0.1]),
            replicates=2,
            crop={"width": 30, "height": 20},
            foils=[{"kind": "noise"}],
        ),
        FOLDER,
    )
    assert first == {
        "pair_id": "cat_wave_1e-3_r1",
        "content": f"{FOLDER}/cat.png",
        "style": f"{FOLDER}/wave.png",
        "content_weight": 1,
        "style_weight": 1000,
        "size": 64,
        "content_crop": list(pairs[0].recipe.content_crop or ()),
        "scales": None,
        "start": None,
        "seed": pairs[0].recipe.seed,
        "iterations": 3,
        "design": "study-1",
        "design_sha256": found.sha256,
        "cell": "cat_wave_1e-3",
        "factor_content": "cat",
        "factor_style": "wave",
        "factor_ratio": "1e-3",
        "replicate": 1,
        "foil": None,
        "foil_of": None,
    }
    assert (last["pair_id"], last["style"], last["start"]) == ("foil_noise_content_boat_r1", None, "noise")
    assert (last["foil"], last["foil_of"], last["factor_content"]) == ("noise", "boat", "boat")
    assert pairs[2].recipe.style_weight == pytest.approx(10)


def test_levels_of_several_fields_and_a_texture() -> None:
    layers = {
        "fine": {"style_layers": ["conv2_1", "conv1_1"], "style_layer_weights": [2, 1]},
        "coarse": {"style_layers": ["conv4_1"], "style_layer_weights": [1], "size": 32},
    }
    _, pairs = written(factors={"content": {"none": None}, "style": ["wave.png"], "layers": layers})
    fine, coarse = pairs
    assert (fine.content, fine.pair_id) == (None, "none_wave_fine_r1")
    assert (fine.recipe.style_layers, fine.recipe.style_layer_weights) == (("conv1_1", "conv2_1"), (1, 2))
    assert (fine.recipe.size, coarse.recipe.size) == (64, 32)


def test_one_way_to_say_the_size_replaces_the_recipe_s() -> None:
    _, pairs = written(factors=factors(pixels=[900, 1600]))
    assert {(pair.recipe.size, pair.recipe.pixels) for pair in pairs} == {(None, 900), (None, 1600)}


def test_blends_are_lists() -> None:
    table, pairs = written(
        factors={"content": ["cat.png"], "style": {"one": "wave.png", "two": ["wave.png", "scream.png"]}}
    )
    assert table.schema.field("style").type == pa.list_(pa.string())
    assert [len(pair.styles) for pair in pairs] == [1, 2]


def test_locations_are_relative_to_the_design_and_canonical_in_the_manifest() -> None:
    table, _ = written(recipe={"start": "../elsewhere/x.png", "histogram": "boat.png", "size": 32})
    assert set(table["start"].to_pylist()) == {"s3://bucket/elsewhere/x.png"}
    assert set(table["histogram"].to_pylist()) == {f"{FOLDER}/boat.png"}


@pytest.mark.parametrize("name", [name for name in FIELDS if name != "seed"])
def test_any_field_can_be_a_factor_and_no_column_is_taken_for_another(name: str) -> None:
    value = getattr(Recipe(), name)
    if value is None or name == "size":
        value = {
            "style_layer_weights": [1, 2, 3, 4, 5],
            "style_blend": [1],
            "content_crop": [0, 0, 30, 30],
            "style_crop": [0, 0, 30, 30],
            "mean_luminance": 0.5,
            "rms_contrast": 0.5,
            "histogram": "content",
            "spectrum": "content",
            "weights_family": "caffe",
            "pixels": 900,
        }.get(name, 64)
    level = [*value] if isinstance(value, tuple) else value
    table, pairs = written(recipe=None, factors=factors(**{name: [level]}))
    assert f"factor_{name}" in table.column_names
    assert name in table.column_names
    assert len(pairs) == 4


class TestSeeds:
    def seeds(self, **changes: Any) -> dict[str, int]:
        return {row.pair_id: row.fields["seed"] for row in make(**changes).stimuli}

    def test_every_row_has_its_own(self) -> None:
        seeds = self.seeds(replicates=50, foils=[{"kind": "noise", "replicates": 50}])
        assert len(set(seeds.values())) == len(seeds) == 300

    def test_another_level_replicate_or_order_leaves_the_others(self) -> None:
        small = self.seeds(foils=[{"kind": "noise"}], factors=factors(size=[16, 32]))
        more = {"size": [64, 32, 16], **factors()}
        reordered = make(factors=more, replicates=3, foils=[{"kind": "scrambled"}, {"kind": "noise"}])
        by_levels = {
            (*sorted(row.levels.items(), key=str), row.replicate): row.fields["seed"]
            for row in reordered.stimuli
            if not row.foil
        }
        for row in make(foils=[{"kind": "noise"}], factors=factors(size=[16, 32])).stimuli:
            if not row.foil:
                key = (*sorted(row.levels.items(), key=str), row.replicate)
                assert by_levels[key] == row.fields["seed"] == small[row.pair_id]
        names = {row.pair_id: row.fields["seed"] for row in reordered.stimuli if row.foil}
        assert all(names[name] == seed for name, seed in small.items() if name.startswith("foil_"))

    def test_are_these_for_ever(self) -> None:
        """By ``printf '[7,"cell","content=cat","style=wave",1]' | sha256sum``; so old sets stay."""
        assert self.seeds()["cat_wave_r1"] == 0x8A7B0D2F59495BD3 >> 1

    def test_one_for_each_replicate_if_wished(self) -> None:
        seeds = self.seeds(seeds="replicate", replicates=2)
        assert len(set(seeds.values())) == 2
        assert len({seed for name, seed in seeds.items() if name.endswith("_r1")}) == 1

    def test_follow_from_the_design_s(self) -> None:
        assert not set(self.seeds().values()) & set(self.seeds(seed=8).values())


class TestRefusals:
    def test_fields_that_contradict_one_another_are_said_with_the_cell(self) -> None:
        with pytest.raises(DesignError, match="cell cat_wave_a: style_layer_weights has 2 numbers"):
            make(factors=factors(look={"a": {"style_layer_weights": [1, 2]}}))

    def test_ids_that_are_too_long(self) -> None:
        long = {
            f"look{i}": {"x" * 40: {field: 1}} for i, field in enumerate(["history", "quality", "scales"])
        }
        with pytest.raises(DesignError, match=r"has 13. characters; at most 128 .* shorter labels"):
            make(factors=factors(**long))

    def test_ids_that_are_the_same(self) -> None:
        both = {"one": {"a_b": {"history": 1}, "a": {"history": 2}}, "two": {"c": {"scales": 1}}}
        both["two"]["b_c"] = {"scales": 2}
        with pytest.raises(DesignError, match="two rows would have the id cat_a_b_c_r1"):
            make(factors={"content": ["cat.png"], **both})

    def test_too_many_rows(self) -> None:
        sizes = [16 + i for i in range(100)]
        with pytest.raises(DesignError, match="the set would have 4,000,000 rows or more; at most 200,000"):
            make(factors=factors(size=sizes), replicates=10_000)

    def test_a_missing_image(self) -> None:
        with pytest.raises(NotFoundError, match=r"dog\.png"):
            make(factors={"content": ["dog.png"]})

    def test_rows_that_cannot_run_are_not_written(self) -> None:
        store = study()
        found = parse_design(
            design(factors={"style": ["wave.png"]}, recipe={"start": "content", "size": 32}), FOLDER
        )
        before = dict(store.objects)
        with pytest.raises(DesignError) as raised:
            write_stimuli(store, URI, make_stimuli(store, found))
        assert "the design makes rows that cannot run" in str(raised.value)
        assert f"{URI}: row 0: start is content, but content is null" in str(raised.value)
        assert store.objects == before

    def test_a_name_that_is_no_manifest_s(self) -> None:
        with pytest.raises(DesignError, match=r"set\.csv does not end in \.parquet"):
            write_stimuli(study(), f"{FOLDER}/set.csv", make())


class TestWriting:
    def test_twice_gives_the_same_bytes(self) -> None:
        store, other = study(), study()
        changes: dict[str, Any] = {
            "foils": [{"kind": "noise"}],
            "participants": {"count": 3, "order": "seeded"},
        }
        for place in (store, other):
            write_stimuli(place, URI, make(**changes))
        assert store.objects == other.objects
        assert store.objects[f"{FOLDER}/out/set-orders.tsv"] == make(**changes).orders.encode()

    def test_no_orders_without_participants(self) -> None:
        store = study()
        write_stimuli(store, URI, make())
        assert not [uri for uri in store.objects if uri.endswith(".tsv")]

    def test_on_a_disk(self, tmp_path: Path) -> None:
        store = LocalStore()
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "a.jpg").write_bytes(picture_bytes(64, 48, 1, "JPEG"))
        (tmp_path / "design.yaml").write_text("name: x\nfactors: {content: [photos/a.jpg], size: [16, 32]}\n")
        found = read_design(store, str(tmp_path / "design.yaml"))
        write_stimuli(store, f"{tmp_path}/set.parquet", make_stimuli(store, found))
        pairs = [*open_manifest(store, f"{tmp_path}/set.parquet").pairs(Recipe())]
        assert [pair.content for pair in pairs] == [f"{tmp_path}/photos/a.jpg"] * 2


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_any_design_of_these_parts_is_a_manifest_that_validates(data: st.DataObject) -> None:
    parts = {
        "size": [16, 32, 40],
        "ratio": ["1e-2", "1e-3", "1e-4"],
        "start": ["noise", "content"],
        "style_layers": [["conv1_1"], ["conv1_1", "conv2_1"]],
        "mean_luminance": [None, 0.4],
    }
    names = data.draw(st.lists(st.sampled_from(sorted(parts)), unique=True, max_size=4))
    chosen = {name: parts[name][: data.draw(st.integers(1, len(parts[name])))] for name in names}
    crop = {"width": data.draw(st.integers(1, 36)), "height": data.draw(st.integers(1, 36))}
    kinds = [
        {"kind": kind, "of": of, **(crop if kind == "crop" else {})}
        for kind, of in itertools.product(["unmodified", "scrambled", "noise", "crop"], ["content", "style"])
    ]
    changes: dict[str, Any] = {
        "seed": data.draw(st.integers(0, 2**63 - 1)),
        "factors": factors(**chosen),
        "replicates": data.draw(st.integers(1, 3)),
        "seeds": data.draw(st.sampled_from(["cell", "replicate"])),
        "crop": data.draw(st.sampled_from([[], crop, [crop, {**crop, "of": "style", "at": "centre"}]])),
        "foils": data.draw(st.lists(st.sampled_from(kinds), unique_by=str, max_size=4)),
    }
    _, pairs = written(**changes)
    for pair in pairs:
        recipe = pair.recipe
        for box, uris in ((recipe.content_crop, [pair.content]), (recipe.style_crop, pair.styles)):
            for uri in uris if box else ():
                width, height = SIZES[str(uri).removeprefix(f"{FOLDER}/")]
                assert box is not None
                assert box[0] + box[2] <= width
                assert box[1] + box[3] <= height
