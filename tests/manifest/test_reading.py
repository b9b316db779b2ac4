"""Opening a manifest, and reading only the bytes that are needed."""

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stylebatch.errors import ManifestError, StorageUnavailableError
from stylebatch.manifest import open_manifest, validate
from stylebatch.recipe import Recipe

DEFAULT = Recipe()
FOLDER = "s3://bucket/study"
MANY = 50_000


def numbered(first: int, stop: int) -> dict[str, list[str]]:
    return {"content": [f"img/{i}.jpg" for i in range(first, stop)]}


def test_attributes(opened: Any) -> None:
    manifest = opened({"trial": [1, 2], "content": ["a.jpg", "b.jpg"], "seed": [1, 2], "side": ["l", "r"]})
    assert manifest.uri == "s3://bucket/study/pairs.parquet"
    assert manifest.num_rows == 2
    assert manifest.schema.names == ["trial", "content", "seed", "side"]
    assert manifest.extra_schema == pa.schema([("trial", pa.int64()), ("side", pa.string())])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"content,style\na.jpg,b.jpg\n", "not Parquet"),
        (b"PAR1PAR1", "not Parquet"),
        (b"PAR1" + b"\xff" * 40 + b"\x10\0\0\0PAR1", "not Parquet"),
        (b"PAR1" + b"\xff\xff\xff\x7fPAR1", "not Parquet"),
    ],
)
def test_a_file_that_is_not_parquet(store: Any, data: bytes, message: str) -> None:
    store.put("/m.parquet", data)
    with pytest.raises(ManifestError, match=message) as caught:
        open_manifest(store, "/m.parquet")
    assert str(caught.value).startswith("/m.parquet: ")
    assert "\n" not in str(caught.value)


def test_a_file_cut_anywhere_is_refused(store: Any, to_parquet: Callable[..., bytes]) -> None:
    whole = to_parquet(numbered(0, 100))
    for length in range(0, len(whole), 97):
        store.put("/m.parquet", whole[:length])
        with pytest.raises(ManifestError, match=r"empty|cut short"):
            open_manifest(store, "/m.parquet")


def test_a_missing_file_and_an_empty_folder(store: Any) -> None:
    store.put("s3://bucket/study/readme.txt", b"hello")
    for uri in ("s3://bucket/none.parquet", "s3://bucket/study"):
        with pytest.raises(ManifestError, match=f"{uri}: there is no such file, and no folder with"):
            open_manifest(store, uri)


def test_no_rows(opened: Any) -> None:
    with pytest.raises(ManifestError, match="the manifest has no rows"):
        opened({"content": pa.array([], pa.string())})


def test_opening_reads_the_footer_only(store: Any, to_parquet: Callable[..., bytes]) -> None:
    data = to_parquet(numbered(0, MANY), compression="none", use_dictionary=False)
    store.put("/m.parquet", data)
    open_manifest(store, "/m.parquet")
    assert len(data) > 500_000
    assert store.bytes_read() <= 64 * 1024


def test_a_storage_fault_while_reading_keeps_its_type(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = opened(numbered(0, 10))

    def fail(*_: Any) -> bytes:
        raise StorageUnavailableError("slow down")

    monkeypatch.setattr(manifest.store, "get_range", fail)
    for read in (lambda: list(manifest.pairs(DEFAULT)), lambda: validate(manifest, DEFAULT, frozenset())):
        with pytest.raises(StorageUnavailableError, match="slow down"):
            read()


@pytest.mark.parametrize("first_row", [0, 1, 99, 100, 101, 4096, 9999, 10_000])
def test_pairs_start_at_any_row(opened: Any, first_row: int) -> None:
    manifest = opened(numbered(0, 10_000), row_group_size=100)
    rows = [(pair.row, pair.content) for pair in manifest.pairs(DEFAULT, first_row)]
    assert rows == [(i, f"{FOLDER}/img/{i}.jpg") for i in range(first_row, 10_000)]


def test_earlier_row_groups_are_not_read(store: Any, opened: Any) -> None:
    manifest = opened(numbered(0, MANY), row_group_size=1000, compression="none", use_dictionary=False)
    store.ranges.clear()
    assert next(manifest.pairs(DEFAULT, MANY - 500)).row == MANY - 500
    assert store.bytes_read() < len(store.objects[manifest.uri]) / 40
    first_byte_of_group = manifest.files[0].metadata.row_group(49).column(0).data_page_offset
    assert all(start >= first_byte_of_group for _, start, _ in store.ranges)


def test_later_row_groups_and_extras_are_not_read_ahead(store: Any, opened: Any) -> None:
    columns = {**numbered(0, 20_000), "thumbnail": [i.to_bytes(4, "big") * 25 for i in range(20_000)]}
    manifest = opened(columns, row_group_size=1000, compression="none", use_dictionary=False)
    store.ranges.clear()
    assert len(list(manifest.pairs(DEFAULT))) == 20_000
    contents = store.bytes_read()
    assert contents < 20_000 * 25
    store.ranges.clear()
    next(manifest.pairs(DEFAULT))
    assert store.bytes_read() < contents / 3


def test_a_huge_row_group_is_read_in_pieces(store: Any, opened: Any) -> None:
    columns = {"content": [f"{'x' * 100}/{i}.jpg" for i in range(MANY)]}
    manifest = opened(columns, row_group_size=MANY, compression="none", use_dictionary=False)
    store.ranges.clear()
    assert next(manifest.pairs(DEFAULT)).row == 0
    assert max(length for _, _, length in store.ranges) <= 1 << 20
    assert store.bytes_read() < len(store.objects[manifest.uri]) / 2


class TestFolder:
    @pytest.fixture
    def folder(self, store: Any, to_parquet: Callable[..., bytes]) -> str:
        for name, first in (("part-2", 20), ("part-1", 0), ("part-3", 30)):
            store.put(
                f"{FOLDER}/{name}.parquet",
                to_parquet(numbered(first, first + 20 if not first else first + 10)),
            )
        store.put(f"{FOLDER}/_SUCCESS", b"")
        store.put(f"{FOLDER}/.part-0.parquet", b"being written")
        store.put(f"{FOLDER}/_delta/0.parquet", b"private")
        store.put("s3://bucket/study-2/part-9.parquet", b"another study")
        return FOLDER

    def test_files_follow_in_order_of_name(self, store: Any, folder: str) -> None:
        manifest = open_manifest(store, folder)
        assert manifest.num_rows == 40
        contents = [pair.content for pair in manifest.pairs(DEFAULT)]
        assert contents == [f"{FOLDER}/img/{i}.jpg" for i in range(40)]
        assert [pair.row for pair in manifest.pairs(DEFAULT, 25)] == list(range(25, 40))

    def test_earlier_files_are_not_read(self, store: Any, folder: str) -> None:
        manifest = open_manifest(store, folder)
        store.ranges.clear()
        assert len(list(manifest.pairs(DEFAULT, 30))) == 10
        assert {uri for uri, _, _ in store.ranges} == {f"{FOLDER}/part-3.parquet"}

    def test_an_empty_file_among_others_is_no_matter(
        self, store: Any, folder: str, to_parquet: Callable[..., bytes]
    ) -> None:
        store.put(f"{folder}/part-15.parquet", to_parquet({"content": pa.array([], pa.string())}))
        assert [pair.row for pair in open_manifest(store, folder).pairs(DEFAULT)] == list(range(40))

    @pytest.mark.parametrize(
        ("columns", "difference"),
        [
            (
                {"content": pa.array(["a"], pa.large_string())},
                r"column 0 is 'content' \(large_string\), but in",
            ),
            (
                {"style": ["a"]},
                r"column 0 is 'style' \(string\), but in part-1.parquet it is 'content' \(string\)",
            ),
            ({"content": ["a"], "x": [1]}, r"column 1 is 'x' \(int64\), but in part-1.parquet it is none"),
        ],
    )
    def test_files_must_have_the_same_columns(
        self, store: Any, folder: str, to_parquet: Callable[..., bytes], columns: Any, difference: str
    ) -> None:
        store.put(f"{folder}/part-4.parquet", to_parquet(columns))
        with pytest.raises(ManifestError, match=rf"part-4.parquet: {difference}"):
            open_manifest(store, folder)

    def test_a_damaged_file_is_named(self, store: Any, folder: str) -> None:
        store.put(f"{folder}/part-4.parquet", b"not parquet")
        with pytest.raises(ManifestError, match=r"part-4\.parquet: the file is not Parquet"):
            open_manifest(store, folder)

    def test_columns_in_folder_names_are_refused(
        self, store: Any, folder: str, to_parquet: Callable[..., bytes]
    ) -> None:
        store.put(f"{folder}/side=left/part.parquet", to_parquet(numbered(0, 1)))
        with pytest.raises(ManifestError, match=r"'side=left/part\.parquet' keeps columns in folder names"):
            open_manifest(store, folder)

    def test_extras_cross_files(self, store: Any, to_parquet: Callable[..., bytes]) -> None:
        for i in range(3):
            columns = {**numbered(10 * i, 10 * i + 10), "trial": range(10 * i, 10 * i + 10)}
            store.put(f"/m/{i}.parquet", to_parquet(columns, row_group_size=3))
        extras = open_manifest(store, "/m").extras(8, 14)
        assert extras.column("trial").to_pylist() == list(range(8, 22))


class TestExtras:
    def test_every_type_comes_back_untouched(self, opened: Any) -> None:
        moment = datetime.datetime(2024, 5, 17, 12, tzinfo=datetime.UTC)
        table = pa.table(
            {
                "content": ["a.jpg", "b.jpg"],
                "when": pa.array([moment, None], pa.timestamp("us", tz="Europe/Berlin")),
                "condition": pa.array([{"angle": 1.5, "tags": ["x", None]}, None]),
                "thumbnail": pa.array([b"\x00\xff", None], pa.binary()),
                "price": pa.array([Decimal("1.10"), None], pa.decimal128(9, 2)),
                "group": pa.array(["l", "r"]).dictionary_encode(),
                "a.b": pa.array([1, 2], pa.int8()),
                "style.note": pa.array(["x", "y"], pa.large_string()),
                "nothing": pa.nulls(2),
            }
        )
        manifest = opened(table)
        validate(manifest, DEFAULT, frozenset())
        assert manifest.extras(0, 2).equals(table.drop(["content"]))
        assert manifest.extra_schema.equals(table.drop(["content"]).schema)

    def test_a_run_of_rows_reads_its_row_groups_only(self, store: Any, opened: Any) -> None:
        columns = {**numbered(0, 10_000), "trial": range(10_000)}
        manifest = opened(columns, row_group_size=100, compression="none", use_dictionary=False)
        store.ranges.clear()
        assert manifest.extras(4950, 120).column("trial").to_pylist() == list(range(4950, 5070))
        assert store.bytes_read() < 4000

    def test_a_run_beyond_the_end_is_cut(self, opened: Any) -> None:
        manifest = opened({**numbered(0, 10), "trial": range(10)})
        assert manifest.extras(8, 100).column("trial").to_pylist() == [8, 9]
        assert manifest.extras(100, 5).num_rows == 0
        assert manifest.extras(100, 5).schema == manifest.extra_schema

    def test_without_extras_nothing_is_read_and_the_rows_are_counted(self, store: Any, opened: Any) -> None:
        manifest = opened(numbered(0, 10))
        store.ranges.clear()
        assert [manifest.extras(*run).num_rows for run in ((0, 4), (8, 4), (20, 4))] == [4, 2, 0]
        assert manifest.extras(0, 4).num_columns == 0
        assert store.ranges == []

    def test_a_row_group_survives_the_way_into_a_results_part(self, opened: Any) -> None:
        manifest = opened(
            {**numbered(0, 4), "side": pa.array(["l", "r"] * 2).dictionary_encode()}, row_group_size=2
        )
        sink = pa.BufferOutputStream()
        pq.write_table(manifest.extras(1, 2).append_column("loss", pa.array([1.0, 2.0])), sink)
        assert pq.read_table(sink.getvalue()).column("side").to_pylist() == ["r", "l"]


class TestFingerprint:
    def test_it_is_the_same_for_the_same_bytes_and_changes_with_one(self, store: Any, opened: Any) -> None:
        manifest = opened(numbered(0, 1000))
        before = manifest.fingerprint()
        assert len(before) == 64
        data = store.objects[manifest.uri]
        store.put("/copy.parquet", data)
        assert open_manifest(store, "/copy.parquet").fingerprint() == before
        changed = bytearray(data)
        changed[len(data) // 3] ^= 1
        store.put(manifest.uri, bytes(changed))
        assert manifest.fingerprint() != before

    def test_names_and_order_of_files_count(self, store: Any, to_parquet: Callable[..., bytes]) -> None:
        first, second = to_parquet(numbered(0, 1)), to_parquet(numbered(1, 2))
        layouts = [
            {"a": first, "b": second},
            {"a": second, "b": first},
            {"a": first, "c": second},
            {"a": first},
        ]
        fingerprints = []
        for i, layout in enumerate(layouts):
            for name, data in layout.items():
                store.put(f"/{i}/{name}.parquet", data)
            fingerprints.append(open_manifest(store, f"/{i}").fingerprint())
        assert len(set(fingerprints)) == len(layouts)

    def test_large_files_are_read_in_ranges(self, store: Any, opened: Any) -> None:
        columns = {"content": ["a.jpg"], "blob": [bytes(9 << 20)]}
        manifest = opened(columns, compression="none", use_dictionary=False)
        store.ranges.clear()
        manifest.fingerprint()
        assert max(length for _, _, length in store.ranges) == 4 << 20
        assert store.bytes_read() == len(store.objects[manifest.uri])

    def test_a_file_that_shrinks_meanwhile(self, store: Any, opened: Any) -> None:
        manifest = opened(numbered(0, 10))
        store.put(manifest.uri, store.objects[manifest.uri][:-1])
        with pytest.raises(ManifestError, match="changed while it was read"):
            manifest.fingerprint()
