"""All problems of a manifest, in one report."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stylebatch.errors import ManifestError
from stylebatch.manifest import validate
from stylebatch.manifest import validation as validation_module
from stylebatch.manifest.repetitions import Hasher
from stylebatch.manifest.schema import KNOWN_COLUMNS
from stylebatch.recipe import FIELDS, Recipe

DEFAULT = Recipe()
RESERVED = frozenset({"loss", "image"})
ONE = {"content": ["a.jpg"], "style": ["b.jpg"]}


def problems(manifest: Any, default: Recipe = DEFAULT) -> list[str]:
    """The lines of the report after its heading, without the manifest's name."""
    try:
        validate(manifest, default, RESERVED)
    except ManifestError as error:
        heading, *lines = str(error).splitlines()
        assert "rows count from 0" in heading
        return [line.removeprefix(f"{manifest.uri}: ") for line in lines]
    return []


def test_a_good_manifest_passes(opened: Any) -> None:
    columns = {
        "pair_id": ["x", None, "y"],
        "content": ["a.jpg", None, "c.jpg"],
        "style": [["b.jpg"], ["b.jpg", "d.jpg"], None],
        "style_blend": [None, [1.0, 2.0], None],
        "condition": ["left", "right", None],
    }
    assert problems(opened(columns)) == []


def test_ten_faults_make_one_report_that_names_all_ten(opened: Any) -> None:
    columns = {
        "content": ["a.jpg", None, "c.jpg", "ftp://h/d.jpg", "e.jpg", "f.jpg", "f.jpg", None],
        "style": [["s.jpg"], [], ["s.jpg"], ["s.jpg"], ["s.jpg", None], ["s.jpg"], ["s.jpg"], ["s.jpg"]],
        "pair_id": ["one", "two", "One", "../up", "five", "six", "six", "eight"],
        "style_weight": [1.0, 1.0, -3.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        "style_blend": [[1.0], None, [1.0], [1.0, 2.0], None, None, None, None],
        "start": pa.array([None] * 7 + ["content"]),
        "seed": [0.5] * 8,
        "iteratoins": [1.0] * 8,
        "loss": [1.0] * 8,
    }
    expected = [
        "column 'seed' is double; it must be an integer type",
        "column 'loss' has the name of a result column; rename it",
        "column 'iteratoins' is not a recipe field",
        "row 1: content and style are both null; give one of them",
        "row 2: style_weight is -3.0; it must be a finite number from 0 to 1e+15",
        "row 3: pair_id is '../up'; it must be 1 to 128 characters",
        "row 3: content: ftp:// locations are not supported",
        "row 3: style_blend has 2 numbers for 1 styles; give one for each style",
        "row 4: style is a list with a null in it; leave it out",
        "row 7: start is content, but content is null",
        "rows 0 and 2 have the pair_ids 'one' and 'One', which differ only by letter case",
        "rows 5 and 6 have the same pair_id 'six'",
    ]
    found = problems(opened(columns))
    assert len(found) == len(expected)
    for line in expected:
        assert [line in one for one in found].count(True) == 1, line


@pytest.mark.parametrize(
    ("name", "values", "allowed"),
    [
        ("content", pa.array([1]), "a string type"),
        ("content", pa.array([b"a.jpg"]), "a string type"),
        ("content", pa.array([["a.jpg"]]), "a string type"),
        ("style", pa.array([True]), "a string type or a list of strings"),
        ("style", pa.array([[1]]), "a string type or a list of strings"),
        ("style", pa.array([[["a.jpg"]]]), "a string type or a list of strings"),
        ("pair_id", pa.array([7]), "a string type"),
        ("style_weight", pa.array(["1e3"]), "an integer or floating-point type"),
        ("style_weight", pa.array([True]), "an integer or floating-point type"),
        ("size", pa.array([512.0]), "an integer type"),
        ("size", pa.array([True]), "an integer type"),
        ("pooling", pa.array([1]), "a string type"),
        ("style_layers", pa.array(["conv1_1"]), "a list of strings"),
        ("style_blend", pa.array([1.0]), "a list of numbers"),
        ("style_blend", pa.array([["1"]]), "a list of numbers"),
    ],
)
def test_a_mistyped_column(opened: Any, name: str, values: pa.Array, allowed: str) -> None:
    manifest = opened({**ONE, name: values})
    data_type = manifest.schema.field(name).type
    assert problems(manifest)[0].startswith(f"column '{name}' is {data_type}; it must be {allowed}")


def test_rows_are_not_judged_by_columns_that_cannot_be_read(opened: Any) -> None:
    found = problems(opened({"content": [1, 2], "style": ["a.jpg", "ftp://b"]}))
    assert found[1:] == ["... and the rows were not checked, because their content or style cannot be read"]
    found = problems(opened({"content": ["a.jpg"] * 2, "seed": [1.0, 2.0]}))
    assert len(found) == 1  # without their seeds the rows look the same, which they are not


def test_rows_are_not_judged_by_a_misspelt_content(opened: Any) -> None:
    found = problems(
        opened({"contents": ["a.jpg", "b.jpg"], "style": ["s.jpg"] * 2}), Recipe(start="content")
    )
    assert len(found) == 2
    assert "did you mean content?" in found[0]
    assert found[1].startswith("... and the rows were not checked")
    found = problems(opened({"content": ["a.jpg"] * 2, "seeds": [1, 2]}))
    assert len(found) == 1


def test_a_column_that_is_there_twice(opened: Any) -> None:
    table = pa.Table.from_arrays([pa.array(["a.jpg"])] * 2 + [pa.array([1])] * 2, ["content"] * 2 + ["x"] * 2)
    found = problems(opened(table))
    assert found[:2] == [
        "column 'content' is there 2 times; keep one",
        "column 'x' is there 2 times; keep one",
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("style_wieght", "style_weight"),
        ("stlye_weight", "style_weight"),
        ("contnet", "content"),
        ("contents", "content"),
        ("Content", "content"),
        (" content ", "content"),
        ("styel", "style"),
        ("pairid", "pair_id"),
        ("iteration", "iterations"),
        ("Seed", "seed"),
        ("style_layer", "style_layers"),
    ],
)
def test_a_slip_of_the_pen_in_a_name(opened: Any, name: str, meant: str) -> None:
    columns = {known: values for known, values in ONE.items() if known != meant}
    assert (
        f"column '{name}' is not a recipe field (did you mean {meant}?); "
        "rename it if it is meant as an extra column"
    ) in problems(opened({**columns, name: ["x"]}))


@pytest.mark.parametrize("name", ["condition", "trial", "context", "style1", "contrast", "artist", "x y", ""])
def test_other_names_are_extras(opened: Any, name: str) -> None:
    assert problems(opened({**ONE, name: ["x"]})) == []


def test_no_known_name_is_taken_for_another_one(opened: Any) -> None:
    assert len(set(KNOWN_COLUMNS)) == len(KNOWN_COLUMNS) == 3 + len(FIELDS)


def test_neither_content_nor_style(opened: Any) -> None:
    found = problems(opened({"contents": ["a.jpg"]}))
    assert found[0] == "there is neither a content nor a style column; a pair needs one of them"
    assert "did you mean content?" in found[1]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"content": pa.array([None], pa.string())}, "content and style are both null"),
        ({"style": ["a.jpg"], "start": ["content"]}, "start is content, but content is null"),
        ({"content": ["a.jpg"], "start": ["recoloured"]}, "start is recoloured, but style is null"),
        ({"style": ["a.jpg"], "start": ["recoloured"]}, "start is recoloured, but content is null"),
        ({"style": ["a.jpg"], "style_weight": [0]}, "content is null and style_weight is 0"),
        ({"content": ["a.jpg"], "content_weight": [0]}, "style is null and content_weight is 0"),
        ({"content": [""]}, "content: '' is not a location"),
        ({"content": ["a\nb.jpg"]}, r"content: 'a\nb.jpg' is not a location"),
        ({"content": ["x" * 10_000]}, "content: 'xxxxx"),
        ({"content": ["~no-such-user-here/a.jpg"]}, "content: "),
        ({"style": ["s3://a"]}, "style: 's3://a' names no bucket"),
        (
            {**ONE, "start": ["noisy"]},
            "start is 'noisy'; it must be noise, content, recoloured, scrambled, or",
        ),
        ({**ONE, "start": ["ftp://h/a.png"]}, "start: ftp:// locations are not supported"),
        ({**ONE, "style_weight": [float("nan")]}, "style_weight is nan; it must be a finite number"),
        ({**ONE, "style_blend": pa.array([[]], pa.list_(pa.float64()))}, "style_blend is (); it must be"),
        ({**ONE, "style_blend": [[None, 1.0]]}, "style_blend is (None, 1.0); it must be"),
        ({**ONE, "style_layers": [["conv9_1"]]}, "style_layers is ('conv9_1',); it must be"),
        (
            {**ONE, "style_layers": [["conv1_1"]], "style_layer_weights": [[1, 2]]},
            "style_layer_weights has 2",
        ),
        ({**ONE, "size": [300], "pixels": [90_000]}, "size and pixels are both given"),
        ({**ONE, "seed": pa.array([2**64 - 1], pa.uint64())}, "seed is 18446744073709551615; it must be"),
    ],
)
def test_a_bad_row(opened: Any, columns: Any, problem: str) -> None:
    (found,) = problems(opened(columns))
    assert found.startswith("row 0: " + problem)
    assert len(found) < 1500


def test_credentials_in_a_location_are_not_repeated(opened: Any) -> None:
    (found,) = problems(opened({"content": ["s3://key:secret@bucket/a.jpg"]}))
    assert "credentials" in found
    assert "secret" not in found


def test_a_default_recipe_can_be_wrong_for_a_row(opened: Any) -> None:
    assert problems(opened({"style": ["a.jpg"]}), Recipe(start="content")) == [
        "row 0: start is content, but content is null; give this row start noise, or a location"
    ]
    assert "style_blend has 2 numbers for 1 styles" in problems(opened(ONE), Recipe(style_blend=(1, 1)))[0]


def test_the_first_twenty_bad_rows_are_listed_and_the_others_counted(opened: Any) -> None:
    found = problems(opened({"content": pa.array([None] * 1020 + ["a.jpg"], pa.string())}))
    rows = [line for line in found if line.startswith("row ")]
    assert rows == [f"row {i}: content and style are both null; give one of them" for i in range(20)]
    assert "... and 1,000 more rows with problems" in found


def test_two_rows_that_are_the_same_pair(opened: Any) -> None:
    contents = [f"{i}.jpg" for i in range(10)]
    contents[9] = contents[3]
    assert problems(opened({"content": contents, "style": ["s.jpg"] * 10})) == [
        "rows 3 and 9 are the same pair with the same recipe; "
        "drop one, give them different seeds, or give each a pair_id"
    ]
    assert problems(opened({"content": contents, "seed": range(10)})) == []
    assert problems(opened({"content": contents, "pair_id": [f"p{i}" for i in range(10)]})) == []


def test_many_repetitions_are_counted(opened: Any) -> None:
    found = problems(opened({"content": ["a.jpg"] * 5000, "style": ["b.jpg"] * 5000}))
    assert len(found) == 21
    assert found[0].startswith("rows 0 and 1 are the same pair")
    assert found[19].startswith("rows 0 and 20 are the same pair")
    assert found[20] == "... and 4,979 more rows that have the id of an earlier row"


def test_rows_that_only_share_a_hash_are_no_repetition(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hasher, "__call__", lambda self, texts: np.ones(len(texts), np.uint64))
    assert problems(opened({"content": ["a.jpg", "b.jpg"]})) == []


def test_an_id_that_equals_the_default_id_of_another_row(opened: Any) -> None:
    (pair,) = opened({"content": ["a.jpg"]}).pairs(DEFAULT)
    found = problems(opened({"content": ["a.jpg", "b.jpg"], "pair_id": [None, pair.pair_id]}))
    assert found == [f"rows 0 and 1 have the same pair_id '{pair.pair_id}'; each pair needs its own"]


def test_a_hundred_thousand_rows_build_each_recipe_once(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    replace = Recipe.replace

    def counted(self: Recipe, fields: Any) -> Recipe:
        built.append(dict(fields))
        return replace(self, fields)

    monkeypatch.setattr(Recipe, "replace", counted)
    rows = 100_000
    columns = {
        "content": [f"{i}.jpg" for i in range(rows)],
        "style_weight": [float(i % 2) for i in range(rows)],
    }
    assert problems(opened(columns)) == []
    assert built == [{"style_weight": 0.0}, {"style_weight": 1.0}]


def test_text_that_is_not_utf8(opened: Any) -> None:
    bad = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe.jpg"]).buffers())
    found = problems(opened({"content": bad}))
    assert len(found) == 1
    assert re.match("rows 0 to 0: a text is not UTF-8", found[0])


def test_a_file_that_is_damaged_in_the_middle_is_one_more_problem(
    store: Any, opened: Any, to_parquet: Callable[..., bytes]
) -> None:
    contents = [None, *(f"{i}.jpg" for i in range(20_000))]
    options = {"row_group_size": 10_000, "compression": "zstd", "use_dictionary": False}
    manifest = opened({"content": contents}, **options)
    data = bytearray(store.objects[manifest.uri])
    middle = len(data) // 2 + 4000
    data[middle : middle + 4000] = bytes(4000)
    store.objects[manifest.uri] = bytes(data)
    found = problems(manifest)
    assert found[0].startswith("row 0: content and style are both null")
    assert "is cut short or is damaged" in found[1]


def test_rows_after_very_many_bad_ones_are_not_looked_at(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation_module, "MOST_BAD", 100)
    contents = ["a.jpg", "a.jpg", *[None] * 98, "b.jpg", "b.jpg", *[None] * 5000]
    found = problems(
        opened({"content": pa.array(contents, pa.string()), "pair_id": [f"p{i}" for i in range(5102)]})
    )
    assert found[:20] == [f"row {i}: content and style are both null; give one of them" for i in range(2, 22)]
    assert found[20:] == [
        "... and 4,072 more rows with problems",
        "... and the rows from 4,096 on were not checked",
    ]


def test_ids_are_compared_with_those_of_bad_rows_and_made_ones(opened: Any) -> None:
    columns = {
        "pair_id": ["one", "ONE", "\N{KELVIN SIGN}", "k", None, None, "x" * 200, "X" * 200],
        "content": ["a.jpg", "ftp://x", "c.jpg", "d.jpg", "e.jpg", "e.jpg", "f.jpg", "g.jpg"],
        "style": pa.array(["s.jpg"] * 8).dictionary_encode(),
    }
    columns["pair_id"] = pa.array(columns["pair_id"]).dictionary_encode()
    found = problems(opened(columns))
    assert [line.partition(":")[0] for line in found[:4]] == ["row 1", "row 2", "row 6", "row 7"]
    assert [line[:12] for line in found[4:]] == [
        "rows 0 and 1",
        "rows 2 and 3",
        "rows 4 and 5",
        "rows 6 and 7",
    ]


@pytest.mark.parametrize("rows_per_group", [7, 5000, 20_000])
def test_repetitions_are_found_across_batches(opened: Any, rows_per_group: int) -> None:
    ids = [f"p{i}" for i in range(20_000)]
    ids[19_999], ids[8000] = "P3", "p7999"
    found = problems(opened({"content": ["a.jpg"] * 20_000, "pair_id": ids}, row_group_size=rows_per_group))
    assert [line.partition(" have")[0] for line in found] == ["rows 7999 and 8000", "rows 3 and 19999"]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_texts_of_every_kind_are_judged_alike(opened: Any, kind: pa.DataType) -> None:
    columns = {
        "pair_id": pa.array(["a", "A", None, "c"], kind),
        "content": pa.array(["x.jpg", "é.jpg", "y.jpg", "ftp://h/x"], kind),
        "style": pa.array([["s.jpg"], None, [], ["s.jpg", None]], pa.list_(kind)),
        "start": pa.array([None, "content", "noise", "content"], kind),
    }
    found = problems(opened(columns))
    assert [line[:21] for line in found] == [
        "row 3: content: ftp:/",
        "row 3: style is a lis",
        "rows 0 and 1 have the",
    ]
