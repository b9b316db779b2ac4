"""Screening whole columns is a shortcut: it passes only what looking at each row passes, nearly all of it."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stylebatch.manifest.rows import PairMaker, read_rows
from stylebatch.manifest.screening import Screen
from stylebatch.pairs import Pair
from stylebatch.recipe import FIELDS, Recipe, field_rule

FOLDERS = ("s3://bucket/study", "/data/in", "/", "s3://bucket")
DEFAULTS = (
    Recipe(),
    Recipe(start="content"),
    Recipe(start="recoloured", histogram="style"),
    Recipe(style_blend=(1, 2)),
    Recipe(content_weight=0),
    Recipe(style_weight=0, spectrum="content"),
)

ordinary = st.sampled_from(["a.jpg", "in/b c.jpg", "in/a=1/b,c(1)'+.png", "/abs/a.jpg", "s3://other/x/y.png"])
strange = st.sampled_from(
    [
        *(
            "",
            ".",
            "..",
            "a/../b",
            "./a",
            "a//b",
            "/proc/1",
            "/sys/x",
            "/process/a.jpg",
            "~/a",
            "~x/a",
            "a/~b",
        ),
        *(
            "s3://",
            "s3://b/a",
            "s3://bad bucket/a",
            "s3://k:s@bucket/a",
            "S3:/x",
            "s3:x",
            "data:x",
            "ftp://h/a",
        ),
        *(
            "file:///a/b",
            "http://h/a?key=1",
            "a?key=b",
            "a&sig=b",
            "x;token=y",
            "a@b",
            "a:b",
            "a\nb",
            "a\x00b",
        ),
        *(
            "é.jpg",
            "a%20b.jpg",
            "a#b",
            "x" * 4096,
            "x" * 4000,
            "x" * 255,
            "-a",
            " a",
            "a/",
            "/",
            "/a/",
            "a\u202eb",
        ),
    ]
)
locations = st.one_of(st.none(), ordinary, ordinary, ordinary, strange)
pair_ids = st.one_of(
    st.none(), st.sampled_from(["a", "A.b-c_9", "x" * 128, "", ".a", "a b", "x" * 129, "é", "a\n", "a/b"])
)


def values_for(name: str) -> st.SearchStrategy[Any]:
    """Right and wrong values of a recipe field, as a column holds them."""
    rule = field_rule(name)
    if rule.bounds is not None:
        low, high = rule.bounds
        near = [low, high, 0, 1, 2, -1, low - 1, 17]
        if rule.kind == "integer":
            return st.sampled_from([int(value) for value in near if -(2**63) <= value < 2**63])
        return st.sampled_from([*map(float, near), 0.5, -0.0, float("nan"), float("inf"), high * 2])
    if rule.kind == "text":
        return st.sampled_from(
            ["noise", "content", "recoloured", "max", "soft", "paper", "style", "png", "x/y.png", ""]
        )
    if rule.kind == "texts":
        return st.lists(st.sampled_from(["conv1_1", "conv2_1", "conv9_9"]), max_size=2)
    return st.lists(st.sampled_from([0.0, 1.0, 5.0, 20.0]), max_size=4)


def type_for(name: str) -> pa.DataType:
    kinds = {
        "number": pa.float64(),
        "integer": pa.int64(),
        "text": pa.string(),
        "texts": pa.list_(pa.string()),
        "numbers": pa.list_(pa.float64()),
    }
    return kinds[field_rule(name).kind]


@st.composite
def batches(draw: st.DrawFn) -> pa.RecordBatch:
    """Up to a few dozen rows with some of the columns that a manifest may have."""
    rows = draw(st.integers(1, 30))

    def column(values: st.SearchStrategy[Any], data_type: pa.DataType) -> pa.Array:
        return pa.array(draw(st.lists(values, min_size=rows, max_size=rows)), data_type)

    columns = {"content": column(locations, pa.string())}
    if draw(st.booleans()):
        columns["pair_id"] = column(pair_ids, pa.string())
    match draw(st.sampled_from(["none", "one", "list"])):
        case "one":
            columns["style"] = column(locations, pa.string())
        case "list":
            several = st.one_of(st.none(), st.lists(locations, max_size=3), st.just(["a.jpg"] * 65))
            columns["style"] = column(several, pa.list_(pa.string()))
    for name in draw(st.lists(st.sampled_from([*FIELDS]), max_size=4, unique=True)):
        columns[name] = column(st.one_of(st.none(), values_for(name)), type_for(name))
    for name in ("content", "style", "pair_id"):
        if name in columns and columns[name].type == pa.string() and draw(st.booleans()):
            columns[name] = columns[name].dictionary_encode()
    return pa.record_batch(columns)


@settings(max_examples=400, deadline=None)
@given(batches(), st.sampled_from(FOLDERS), st.sampled_from(DEFAULTS))
def test_what_passes_is_right(batch: pa.RecordBatch, folder: str, default: Recipe) -> None:
    maker = PairMaker(default, folder, batch.schema.names)
    doubtful = set(Screen(maker, folder).doubtful(batch).tolist())
    wrong = {row.number for row in read_rows(batch, 0) if not isinstance(maker.make(row), Pair)}
    assert wrong <= doubtful


@pytest.mark.parametrize("folder", ["s3://bucket/study", "/data/in"])
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.uint8(), pa.string())])
def test_ordinary_rows_pass(folder: str, kind: pa.DataType) -> None:
    rows = 50
    batch = pa.record_batch(
        {
            "pair_id": pa.array([None if i % 7 == 0 else f"pair-{i}" for i in range(rows)]).cast(kind),
            "content": pa.array([f"photographs/{i:03} (1).jpg" for i in range(rows)]).cast(kind),
            "style": pa.array([["s3://paintings/a.jpg"], None, ["x.png", "/abs/y.png"]] * 16 + [[], ["z"]]),
            "seed": pa.array([2**63 - 1 - i for i in range(rows)], pa.uint64()),
            "style_weight": pa.array([i * 1e3 for i in range(rows)], pa.float32()),
            "start": ["noise", "content"] * 25,
            "content_crop": pa.array([[i, 0, 8, 8] for i in range(rows)], pa.list_(pa.int32())),
        }
    )
    # style_weight is 0 in row 0 alone, which has a content and is right as well
    assert Screen(PairMaker(Recipe(), folder, batch.schema.names), folder).doubtful(batch).tolist() == []


def test_a_slice_of_a_batch_is_judged_by_its_own_rows() -> None:
    whole = pa.record_batch(
        {
            "content": pa.array(["ftp://x", "a.jpg", None, "b.jpg", "a b:c"]).dictionary_encode(),
            "style": pa.array([["ftp://x"], ["s.jpg", None], ["s.jpg"], None, ["t.jpg"]]),
            "seed": pa.array([-1, None, 3, 4, 5]),
        }
    )
    maker = PairMaker(Recipe(), "/in", whole.schema.names)
    screen = Screen(maker, "/in")
    for start in range(5):
        for stop in range(start + 1, 6):
            expected = [i - start for i in (0, 1, 4) if start <= i < stop]
            assert screen.doubtful(whole.slice(start, stop - start)).tolist() == expected


def test_one_row_of_each_kind_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []
    fits = PairMaker.settings_fit
    monkeypatch.setattr(PairMaker, "settings_fit", lambda self, row: looked_at.append(row) or fits(self, row))
    rows = 1000
    batch = pa.record_batch(
        {
            "content": [f"{i}.jpg" for i in range(rows)],
            "style": [["s.jpg"] * (1 + i % 2) for i in range(rows)],
            "seed": np.arange(rows) + 1,
            "pooling": ["max", "average"] * (rows // 2),
        }
    )
    assert Screen(PairMaker(Recipe(), "/in", batch.schema.names), "/in").doubtful(batch).tolist() == []
    assert [row.number for row in looked_at] == [0, 1]
