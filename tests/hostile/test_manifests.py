"""Manifests that are damaged, forged or come to more than they seem, each read where it may do harm."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hostile.parquetfiles import BOMBS, damaged, parquet
from hostile.running import run_apart
from inmemory import MANIFEST, MemoryStore, make_manifest

from stylebatch.errors import ManifestError
from stylebatch.manifest import open_manifest, reading, validate
from stylebatch.recipe import FIELDS, Recipe, field_rule
from stylebatch.results import RESERVED_COLUMNS, RESULT_SCHEMA

DEFAULT = Recipe()
ALLOWED_GROWTH = 700
"""Megabytes that one file may make it use; MAX_DECODED_BYTES is 512."""
ALLOWED_SECONDS = 30


def read_apart(paths: list[Path]) -> dict[str, tuple[str, float, int]]:
    """What came of each file, by its stem: verdict, CPU seconds, growth in megabytes."""
    return {Path(path).stem: result for path, result in run_apart("validate", *paths).items()}


REFUSALS = {
    "a text of 1 MB in 10,000 rows": "row 0: content: 'xxxx",
    "the same in lists": "more than 512 MB of memory to read, most of it for column 'style.list.element'",
    "the same in an extra column": "at most 256 MB in 256 rows and 64 GB in all",
    "the same in 100,000 rows of an extra column": "16 GB: its dictionary has a text of 1048576 bytes",
    "the same in an extra column's lists": "most of it for column 'note.list.element'; write smaller row",
    "a list of 100 million": "more than 512 MB of memory to read, most of it for column 'note",
    "a list of a million styles": "row 0: style has more than 64 images",
    "a million nulls for weights": "row 0: style_blend is (None, None",
    "20,000 columns": "there are too many columns; at most 1000 are read",
    "1,001 columns": "there are 1001 columns; at most 1000 are read",
    "1,000 levels": "a column is nested in more than 32 levels",
    "10,000 levels": "there are too many columns",
    "200 million rows": "there are 200,000,000 rows; a manifest has at most 100,000,000: split it",
    "delta encoding": "column 'content': a page is written as DELTA_BYTE_ARRAY",
}


def test_bombs_are_refused_in_bounded_time_and_memory(tmp_path: Path) -> None:
    assert REFUSALS.keys() == BOMBS.keys()
    for name, make in BOMBS.items():
        (tmp_path / f"{name}.parquet").write_bytes(make())
    for name, (said, seconds, growth) in read_apart(sorted(tmp_path.glob("*.parquet"))).items():
        assert REFUSALS[name] in said, name
        assert f"{tmp_path}/{name}.parquet: " in said
        assert seconds < ALLOWED_SECONDS, name
        assert growth < ALLOWED_GROWTH, name


def ordinary(**options: Any) -> bytes:
    """A manifest with a column of every kind."""
    rows = 30
    columns = {
        "content": [f"a/{i}.jpg" for i in range(rows)],
        "style": [["s.jpg", "t.jpg"]] * rows,
        "seed": list(range(rows)),
        "style_weight": [1.0] * rows,
        "style_layers": [["conv1_1"]] * rows,
        "note": [{"x": [i, None]} for i in range(rows)],
        "category": pa.array(["l", "r"] * (rows // 2)).dictionary_encode(),
        "when": pa.array([0] * rows, pa.timestamp("us")),
    }
    return parquet(columns, row_group_size=10, **options)


def test_no_damage_ends_the_process(tmp_path: Path) -> None:
    """pyarrow 26 does end it, if the footer's own description of a damaged column is asked for."""
    kinds = [
        ordinary(compression="none"),
        ordinary(compression="zstd", data_page_version="2.0"),
        ordinary(compression="snappy", use_dictionary=False),
    ]
    for kind, whole in enumerate(kinds):
        for number, data in enumerate(damaged(whole, iter(range(250 * kind, 250 * kind + 250)))):
            (tmp_path / f"{kind}-{number}.parquet").write_bytes(data)
    found = read_apart(sorted(tmp_path.glob("*.parquet")))
    refused = [said for said, _, _ in found.values() if said != "ok"]
    assert len(found) == 750
    assert 400 < len(refused) < 750
    assert max(seconds for _, seconds, _ in found.values()) < 5
    assert all(said.isascii() and ".parquet: " in said for said in refused)


def test_a_row_group_of_a_million_rows_is_read_in_pieces(tmp_path: Path) -> None:
    path, rows = tmp_path / "million.parquet", 1_000_000
    table = pa.table({"content": [f"{'photographs/' * 8}{i}.jpg" for i in range(rows)]})
    for options in ({}, {"use_dictionary": False}):
        pq.write_table(table, path, row_group_size=rows, compression="zstd", **options)
        counted, growth = run_apart("rows", path)
        assert counted == rows
        assert growth < 60  # the texts alone are 110 MB


def refusal(columns: Any, **options: Any) -> str:
    """Why a manifest of these columns is refused."""
    with pytest.raises(ManifestError) as raised:
        validate(make_manifest(MemoryStore(), columns, **options), DEFAULT, RESERVED_COLUMNS)
    return str(raised.value)


ONE = {"content": ["a.jpg"], "style": ["b.jpg"]}


@pytest.mark.parametrize("name", [name for name in RESULT_SCHEMA.names if name in RESERVED_COLUMNS])
def test_a_column_cannot_pass_for_a_result(name: str) -> None:
    assert f"{MANIFEST}: column '{name}' has the name of a result column; rename it" in refusal(
        {**ONE, name: [1]}
    )


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "\u202egnp", "x\0", "y" * 256, "\ufeffcontent"])
def test_a_column_s_name_can_be_shown(name: str) -> None:
    said = refusal({**ONE, name: [1]})
    assert "has a name that cannot be shown; rename it to at most 255 printable characters" in said
    assert said.replace("\n", "").isprintable()
    assert len(said) < 1000


def test_a_thousand_bad_columns_are_counted() -> None:
    said = refusal({**ONE, **{f"bad\n{i}": [1] for i in range(900)}})
    assert said.count("cannot be shown") == 20
    assert "... and 880 more problems with columns" in said
    assert len(said) < 10_000


@pytest.mark.parametrize(
    "data_type",
    [
        pa.int32(),
        pa.float64(),
        pa.bool_(),
        pa.binary(),
        pa.timestamp("us"),
        pa.date32(),
        pa.decimal128(5, 2),
        pa.duration("s"),
        pa.struct([("x", pa.string())]),
        pa.map_(pa.string(), pa.string()),
        pa.list_(pa.list_(pa.string())),
        pa.dictionary(pa.int8(), pa.int64()),
    ],
    ids=str,
)
@pytest.mark.parametrize("column", ["pair_id", "content", "style", "start", "pooling", "style_layers"])
def test_a_column_of_another_type_is_refused_by_name(column: str, data_type: pa.DataType) -> None:
    columns = {"content": ["a.jpg"], "style": ["b.jpg"], column: pa.nulls(1, data_type)}
    said = refusal(columns)
    assert f"{MANIFEST}: column '{column}' is " in said
    assert "it must be a " in said


def test_a_type_with_a_thousand_names_is_shown_in_short() -> None:
    huge = pa.struct([(f"field{i}\n", pa.string()) for i in range(900)])
    said = refusal({**ONE, "seed": pa.nulls(1, huge)})
    assert len(said) < 1000
    assert said.replace("\n", "").isprintable()


ARROW_TYPES = {
    "number": pa.float64(),
    "integer": pa.int64(),
    "text": pa.string(),
    "texts": pa.list_(pa.string()),
    "numbers": pa.list_(pa.float64()),
}


def test_a_null_in_every_place() -> None:
    kinds = {name: ARROW_TYPES[field_rule(name).kind] for name in FIELDS}
    nulls = {name: pa.nulls(3, kind) for name, kind in kinds.items()}
    columns = {"content": ["a", "b", None], "style": [["x"], None, ["y"]], "pair_id": [None] * 3, **nulls}
    manifest = make_manifest(MemoryStore(), {**columns, "note": pa.nulls(3, pa.string())})
    validate(manifest, DEFAULT, RESERVED_COLUMNS)
    assert [pair.recipe for pair in manifest.pairs(DEFAULT)] == [DEFAULT] * 3
    said = refusal(
        {"content": pa.array([None], pa.string()), "style": pa.array([[None]], pa.list_(pa.string()))}
    )
    assert "row 0: style is a list with a null in it" in said


@pytest.mark.parametrize(
    "name", [name for name in FIELDS if ARROW_TYPES[field_rule(name).kind] == pa.float64()]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), -1.0, 1e300])
def test_numbers_that_no_field_holds(name: str, value: float) -> None:
    assert f"{MANIFEST}: row 0: {name} is {value}; it must be a finite number from" in refusal(
        {**ONE, name: [value]}
    )


@pytest.mark.parametrize(
    "name", [name for name in FIELDS if ARROW_TYPES[field_rule(name).kind] == pa.int64()]
)
@pytest.mark.parametrize("value", [-(2**63), -1, 2**63 - 1])
def test_whole_numbers_that_no_field_holds(name: str, value: int) -> None:
    if (name, value) != ("seed", 2**63 - 1):
        assert f"row 0: {name} is {value}; it must be a whole number from" in refusal({**ONE, name: [value]})


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_a_text_of_any_length_is_quoted_in_short(kind: pa.DataType) -> None:
    for name in ("content", "style", "pair_id", "start", "weights", "pooling"):
        said = refusal({**ONE, name: pa.array(["é" * 100_000], kind)})
        assert "row 0: " in said
        assert len(said) < 1500


def outcome(data: bytes) -> str:
    store = MemoryStore({MANIFEST: data})
    try:
        validate(open_manifest(store, MANIFEST), DEFAULT, RESERVED_COLUMNS)
    except ManifestError as error:
        return str(error)
    return "read"


@pytest.mark.parametrize("options", [{}, {"data_page_version": "2.0"}, {"use_dictionary": False}])
def test_pages_that_were_changed_are_read_or_refused(options: dict[str, Any]) -> None:
    columns = {"content": [f"{i % 9}" for i in range(40)], "seed": range(40), "side": pa.array(["l"] * 40)}
    whole = parquet({**columns, "side": columns["side"].dictionary_encode()}, compression="none", **options)
    pages = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    outcomes = [outcome(whole[:i] + bytes([255]) + whole[i + 1 :]) for i in range(4, pages)]
    assert "read" in outcomes
    assert all(said == "read" or MANIFEST in said for said in outcomes)


def test_an_extra_column_that_is_damaged_is_found_before_any_work() -> None:
    note = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    assert "rows 0 to 0: an extra column is damaged" in refusal({**ONE, "note": note})
    whole = parquet({"content": ["a"] * 1, "note": ["n" * 5000]}, compression="none", use_dictionary=False)
    data = whole.replace(b"n" * 5000, b"\xff" * 5000)
    store = MemoryStore({MANIFEST: data})
    with pytest.raises(ManifestError, match="an extra column is damaged"):
        validate(open_manifest(store, MANIFEST), DEFAULT, RESERVED_COLUMNS)


def test_a_footer_that_lies_about_its_length() -> None:
    whole = parquet(ONE)
    for length in (0, 1, len(whole), 2**31 - 1, 2**32 - 1):
        store = MemoryStore({MANIFEST: whole[:-8] + length.to_bytes(4, "little") + b"PAR1"})
        with pytest.raises(ManifestError, match=f"^{MANIFEST}: the file is not Parquet"):
            open_manifest(store, MANIFEST)
    padded = b"PAR1" + bytes(9 << 20) + whole[4:-8] + (9 << 20).to_bytes(4, "little") + b"PAR1"
    store = MemoryStore({MANIFEST: padded})
    with pytest.raises(ManifestError, match="the footer has 9437192 bytes; at most 8388608 are read"):
        open_manifest(store, MANIFEST)
    assert sum(length for _, length in store.read) < 1 << 20


def test_a_folder_of_many_files_has_a_limit_on_their_footers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_FOOTERS_BYTES", 1 << 10)
    store = MemoryStore({f"/m/{i}.parquet": parquet(ONE) for i in range(5)})
    with pytest.raises(ManifestError, match="/m: the footers of its 5 files have more than"):
        open_manifest(store, "/m")
