"""From columns to pairs: URIs, recipes, ids."""

import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stylebatch.errors import ManifestError
from stylebatch.manifest.identity import default_pair_id, pair_id_problem
from stylebatch.pairs import Pair
from stylebatch.recipe import Recipe

DEFAULT = Recipe()
ONE = {"content": ["a.jpg"], "style": ["b.jpg"]}


def only(manifest: Any, default: Recipe = DEFAULT) -> Pair:
    (pair,) = manifest.pairs(default)
    return pair


def test_a_pair_has_canonical_uris_its_row_and_the_default_recipe(opened: Any) -> None:
    pair = only(opened({"content": ["in/../a.jpg"], "style": ["/abs/b.png"]}))
    assert (pair.content, pair.styles) == ("s3://bucket/study/a.jpg", ("/abs/b.png",))
    assert (pair.row, pair.recipe) == (0, DEFAULT)


def test_relative_uris_of_a_local_manifest_start_at_its_folder(opened: Any) -> None:
    pair = only(opened({"content": ["in/a.jpg"], "style": ["s3://other/b.jpg"]}, uri="/data/m.parquet"))
    assert (pair.content, pair.styles) == ("/data/in/a.jpg", ("s3://other/b.jpg",))


def test_a_null_or_absent_column_is_a_reconstruction(opened: Any) -> None:
    both = list(opened({"content": ["a.jpg", None], "style": [None, "b.jpg"]}).pairs(DEFAULT))
    assert both[0].styles == ()
    assert both[1].content is None
    assert only(opened({"content": ["a.jpg"]})).styles == ()
    assert only(opened({"style": ["b.jpg"]})).content is None


def test_null_typed_columns_count_as_absent(opened: Any) -> None:
    columns = {**ONE, "pair_id": pa.nulls(1), "seed": pa.nulls(1), "style_layers": pa.nulls(1)}
    assert only(opened(columns)) == only(opened(ONE))


@pytest.mark.parametrize(
    "list_type",
    [
        pa.list_(pa.string()),
        pa.large_list(pa.large_string()),
        pa.list_(pa.string(), 2),
        pa.list_(pa.string_view()),
    ],
)
def test_a_list_is_several_styles(opened: Any, list_type: pa.DataType) -> None:
    styles = pa.array([["b.jpg", "c.jpg"]], list_type)
    assert only(opened({"content": ["a.jpg"], "style": styles})).styles == (
        "s3://bucket/study/b.jpg",
        "s3://bucket/study/c.jpg",
    )


def test_an_empty_list_of_styles_is_null(opened: Any) -> None:
    pair = only(opened({"content": ["a.jpg"], "style": pa.array([[]], pa.list_(pa.string()))}))
    assert pair.styles == ()


@pytest.mark.parametrize(
    "text_type",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
)
def test_text_may_be_stored_in_any_arrow_text_type(opened: Any, text_type: pa.DataType) -> None:
    columns = {"content": pa.array(["a.jpg"]).cast(text_type), "pooling": pa.array(["max"]).cast(text_type)}
    pair = only(opened(columns))
    assert (pair.content, pair.recipe.pooling) == ("s3://bucket/study/a.jpg", "max")


@pytest.mark.parametrize(
    ("field", "values", "expected"),
    [
        ("style_weight", pa.array([5], pa.uint8()), 5.0),
        ("style_weight", pa.array([0.5], pa.float32()), 0.5),
        ("style_weight", pa.array([np.float16(0.5)], pa.float16()), 0.5),
        ("seed", pa.array([2**62], pa.uint64()), 2**62),
        ("convention", pa.array(["neural-style"]), "neural-style"),
        ("content_layers", pa.array([["conv5_1", "conv2_1"]]), ("conv2_1", "conv5_1")),
        ("style_layer_weights", pa.array([[1, 0, 0, 0, 2]]), (1.0, 0.0, 0.0, 0.0, 2.0)),
        ("style_blend", pa.array([[0.5]]), (0.5,)),
    ],
)
def test_a_recipe_field_may_be_a_column(opened: Any, field: str, values: pa.Array, expected: Any) -> None:
    assert getattr(only(opened({**ONE, field: values})).recipe, field) == expected


def test_null_in_a_recipe_column_is_the_default_and_a_size_replaces_another(opened: Any) -> None:
    columns = {
        "content": ["a.jpg", "b.jpg"],
        "seed": pa.array([None, 7], pa.int64()),
        "shorter_side": pa.array([None, 300], pa.int32()),
    }
    first, second = opened(columns).pairs(Recipe(seed=3, size=256))
    assert (first.recipe.seed, first.recipe.size, first.recipe.shorter_side) == (3, 256, None)
    assert (second.recipe.seed, second.recipe.size, second.recipe.shorter_side) == (7, None, 300)


def test_a_start_in_the_manifest_is_relative_to_it_and_the_jobs_to_the_working_directory(
    opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    manifest = opened({"content": ["a.jpg", "b.jpg"], "start": ["first/x.png", None]})
    starts = [pair.recipe.start for pair in manifest.pairs(Recipe(start="./y.png"))]
    assert starts == ["s3://bucket/study/first/x.png", str(tmp_path / "y.png")]


def test_rows_with_the_same_columns_share_one_recipe(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    replace = Recipe.replace

    def counted(self: Recipe, fields: Any) -> Recipe:
        built.append(fields)
        return replace(self, fields)

    monkeypatch.setattr(Recipe, "replace", counted)
    contents = [f"{i}.jpg" for i in range(3000)]
    pairs = list(opened({"content": contents, "seed": [i % 3 for i in range(3000)]}).pairs(DEFAULT))
    assert built == [{"seed": 0}, {"seed": 1}, {"seed": 2}]
    assert len({id(pair.recipe) for pair in pairs}) == 3


def test_pairs_are_immutable_and_small_to_pickle_together(opened: Any) -> None:
    pairs = list(
        opened({"content": [f"{i}.jpg" for i in range(100)], "style": ["s.jpg"] * 100}).pairs(DEFAULT)
    )
    assert pickle.loads(pickle.dumps(pairs)) == pairs
    assert len(pickle.dumps(pairs)) < 100 * 150
    with pytest.raises(FrozenInstanceError):
        pairs[0].row = 1  # type: ignore[misc]


def test_a_bad_row_that_nobody_validated_is_refused_when_it_is_met(opened: Any) -> None:
    pairs = opened({"content": ["a.jpg", "ftp://host/b.jpg"]}).pairs(DEFAULT)
    assert next(pairs).row == 0
    with pytest.raises(ManifestError, match=r"pairs\.parquet: row 1: content: ftp://"):
        next(pairs)


def test_bad_columns_that_nobody_validated_are_refused(opened: Any) -> None:
    with pytest.raises(ManifestError, match="column 'seed' is double; it must be an integer type"):
        next(opened({**ONE, "seed": [1.0]}).pairs(DEFAULT))


class TestDefaultIds:
    def test_names_and_a_hash(self, opened: Any) -> None:
        pair = only(opened({"content": ["x/My photo (1).JPG"], "style": ["starry.night.png"]}))
        assert pair.pair_id.startswith("My-photo-1--starry.night-")
        assert len(pair.pair_id.rpartition("-")[2]) == 12

    @pytest.mark.parametrize(
        ("content", "styles", "start"),
        [
            (None, ["s.jpg"], "texture--s-"),
            ("c.jpg", [], "c--content-"),
            ("c.jpg", ["s.jpg", "t.jpg", "u.jpg"], "c--s-and-2-"),
            ("日本.jpg", ["..."], "picture--picture-"),
            (".hidden", ["a/"], "hidden--picture-"),
            ("x" * 5000 + ".jpg", ["y" * 5000], "x" * 40 + "--" + "y" * 40 + "-"),
        ],
    )
    def test_every_name_gives_a_safe_id(self, content: str | None, styles: list[str], start: str) -> None:
        pair_id = default_pair_id(content, styles, "{}")
        assert pair_id.startswith(start)
        assert pair_id_problem(pair_id) is None

    def test_a_moved_manifest_keeps_its_ids(self, opened: Any) -> None:
        here, there = only(opened(ONE)), only(opened(ONE, uri="/elsewhere/m.parquet"))
        assert here.content != there.content
        assert here.pair_id == there.pair_id

    def test_this_id_never_changes_between_versions(self, opened: Any) -> None:
        columns = {
            "content": ["in/a.jpg"],
            "style": [["b.jpg", "c.jpg"]],
            "seed": [3],
            "style_blend": [[1, 2]],
        }
        assert only(opened(columns)).pair_id == "a--b-and-1-ef038d8b9bf2"

    def test_the_rows_own_recipe_counts_and_the_jobs_does_not(self, opened: Any) -> None:
        manifest = opened({"content": ["a.jpg"] * 3, "seed": pa.array([None, 1, 2])})
        ids = [pair.pair_id for pair in manifest.pairs(DEFAULT)]
        assert len(set(ids)) == 3
        assert ids == [pair.pair_id for pair in manifest.pairs(Recipe(seed=9))]
        assert ids[0] == only(opened({"content": ["a.jpg"]})).pair_id

    def test_a_null_recipe_column_changes_no_id(self, opened: Any) -> None:
        column = pa.array([None], pa.float64())
        assert only(opened({**ONE, "tv_weight": column})).pair_id == only(opened(ONE)).pair_id

    def test_equal_names_in_different_folders_differ(self, opened: Any) -> None:
        first, second = opened({"content": ["1/a.jpg", "2/a.jpg"]}).pairs(DEFAULT)
        assert first.pair_id != second.pair_id


@pytest.mark.parametrize("pair_id", ["a", "_", "-", "A.b-c_9", "x" * 128, "a..b", "0"])
def test_safe_pair_ids(opened: Any, pair_id: str) -> None:
    assert only(opened({**ONE, "pair_id": [pair_id]})).pair_id == pair_id


@pytest.mark.parametrize(
    "pair_id",
    [
        *("", ".", "..", ".a", "a/b", "../a", "a\0", "a\n", "\n", "a b", "x" * 129, "x" * 10_000),
        *(
            "a\\b",
            "a:b",
            "\N{CYRILLIC SMALL LETTER A}",
            "a\N{FULLWIDTH DIGIT ONE}",
            "e\N{COMBINING ACUTE ACCENT}",
        ),
    ],
)
def test_unsafe_pair_ids(opened: Any, pair_id: str) -> None:
    with pytest.raises(
        ManifestError, match=r"row 0: pair_id is .*; it must be 1 to 128 characters"
    ) as caught:
        only(opened({**ONE, "pair_id": [pair_id]}))
    assert len(str(caught.value)) < 400
    assert str(caught.value).isascii()
    assert "\n" not in str(caught.value)
