"""Which files of results count, and reading them while they are merged."""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from inmemory import MemoryStore
from test_results import LAYOUT, no_extras, ok_row

from stylebatch.errors import JobError
from stylebatch.layout import generation_of, merged_name
from stylebatch.objectstore import StoredObject
from stylebatch.results import encode_part, open_results, read_results
from stylebatch.results.generations import (
    MOST_TRIES,
    Generation,
    MergedFile,
    decode_generation,
    encode_generation,
    look_at_results,
    look_from_outside,
    spans,
)

OUTPUT = "s3://bucket/out"
FILE = MergedFile(
    name=merged_name(0, 4, 2),
    units=(range(0, 2), range(4, 5)),
    rows=5,
    size=11,
    sha256="a" * 64,
    ok=3,
    failed_units=(range(4, 5),),
    error_counts={"PictureError": 2},
    error_examples={"PictureError": ("p8: it is empty", "p9: it is empty")},
)
GENERATION = Generation(2, 10, 2, (FILE,))


def part(*numbers: int) -> bytes:
    return encode_part([ok_row(number) for number in numbers], no_extras(len(numbers)))


class TestNames:
    def test_a_merged_file_stands_between_the_parts_that_it_replaces(self) -> None:
        """Plain readers take files in order of name: so they find rows in order of row."""
        names = [LAYOUT.part(1), LAYOUT.merged(merged_name(2, 40, 3)), LAYOUT.part(41)]
        assert names == sorted(names)
        assert names[1] == f"{OUTPUT}/results/part-000002-000040.000003.parquet"

    @pytest.mark.parametrize(("first", "last", "generation"), [(0, 0, 1), (5, 1_234_567, 12)])
    def test_a_name_tells_its_generation(self, first: int, last: int, generation: int) -> None:
        assert generation_of(merged_name(first, last, generation)) == generation

    @pytest.mark.parametrize(
        "name",
        [
            "part-000001.parquet",
            "part-000001-000002.000001.parquet.bak",
            "part-1-2.1.parquet",
            "part-0000001-000002.000001.parquet",
            "part-٠٠٠٠٠١-000002.000001.parquet",
            "part-000001-000002-000001.parquet",
            "",
        ],
    )
    def test_other_names_tell_none(self, name: str) -> None:
        assert generation_of(name) is None

    def test_a_merged_file_is_no_part(self) -> None:
        assert LAYOUT.part_unit(LAYOUT.merged(merged_name(0, 4, 2))) is None


class TestDescriptions:
    def test_a_generation_comes_back(self) -> None:
        assert decode_generation(encode_generation(GENERATION), "x") == GENERATION
        assert decode_generation(encode_generation(Generation(1, 0, 1, ())), "x").files == ()

    def test_spans_are_their_first_and_last_unit(self) -> None:
        (file,) = json.loads(encode_generation(GENERATION))["files"]
        assert file["units"] == [[0, 1], [4, 4]]

    @pytest.mark.parametrize("units", [(), (3,), (3, 4, 5), (5, 3, 4, 9), (0, 2, 4)])
    def test_spans_hold_every_unit_once(self, units: tuple[int, ...]) -> None:
        found = spans(units)
        assert [unit for span in found for unit in span] == sorted(units)
        assert all(one.stop < other.start for one, other in itertools.pairwise(found))

    @pytest.mark.parametrize(
        "change",
        [
            {"number": "2"},
            {"rows": None},
            {"files": 7},
            {"files": [{}]},
            {"surprise": 1},
            {"files": [{**json.loads(encode_generation(GENERATION))["files"][0], "name": "../x.parquet"}]},
            {"files": [{**json.loads(encode_generation(GENERATION))["files"][0], "units": [[1]]}]},
        ],
    )
    def test_a_damaged_one_is_refused(self, change: dict[str, Any]) -> None:
        found = json.loads(encode_generation(GENERATION)) | change
        with pytest.raises(JobError, match=r"^x is damaged, and it alone says which files of results count"):
            decode_generation(json.dumps(found).encode(), "x")

    @pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
    def test_what_is_no_json_object_is_refused(self, data: bytes) -> None:
        with pytest.raises(JobError, match="put it back from a copy"):
            decode_generation(data, "x")

    def test_another_format_is_refused_by_name(self) -> None:
        found = json.loads(encode_generation(GENERATION)) | {"format_version": 3, "more": []}
        with pytest.raises(JobError, match="x was written by format 3; this program reads and writes 2"):
            decode_generation(json.dumps(found).encode(), "x")


@pytest.fixture
def store() -> MemoryStore:
    """Units 0, 1 and 4 are merged; units 2 and 3 are in parts."""
    return MemoryStore(
        {
            LAYOUT.generation: encode_generation(GENERATION),
            LAYOUT.merged(FILE.name): b"x" * FILE.size,
            LAYOUT.part(2): part(4, 5),
            LAYOUT.part(3): part(6, 7),
        }
    )


class TestLooking:
    def test_what_the_generation_lists_counts_and_every_other_part(self, store: MemoryStore) -> None:
        for held in (look_at_results(store, LAYOUT), look_from_outside(store, LAYOUT)):
            assert held.generation == GENERATION
            assert [*held.parts] == [2, 3]
            assert held.merged_units == {0, 1, 4}
            assert (held.covered, held.hidden, held.staged, held.stale) == (set(), set(), set(), ())

    def test_without_merged_files_nothing_more_is_asked(self) -> None:
        store = MemoryStore({LAYOUT.part(0): b"x"})
        assert look_at_results(store, LAYOUT).parts == {0: 1}
        assert store.operations == [("list", LAYOUT.results)]

    def test_a_part_of_a_merged_unit_does_not_count(self, store: MemoryStore) -> None:
        store.put(LAYOUT.part(1), b"the former part")
        held = look_at_results(store, LAYOUT)
        assert held.covered == {1}
        assert [*held.parts] == [2, 3]

    def test_a_file_that_is_not_copied_yet_counts_where_it_is(self, store: MemoryStore) -> None:
        store.copy(LAYOUT.merged(FILE.name), LAYOUT.staged(FILE.name))
        assert look_at_results(store, LAYOUT).hidden == set()
        store.put(LAYOUT.merged(FILE.name), b"half")
        held = look_at_results(store, LAYOUT)
        assert held.hidden == held.staged == {FILE.name}

    def test_files_of_other_generations_do_not_count(self, store: MemoryStore) -> None:
        former = LAYOUT.merged(merged_name(0, 4, 1))
        next_one = LAYOUT.staged(merged_name(0, 4, 3))
        for uri in (former, next_one, f"{LAYOUT.results}/notes.parquet", f"{LAYOUT.merging}/notes.txt"):
            store.put(uri, b"x")
        assert sorted(look_at_results(store, LAYOUT).stale) == sorted([former, next_one])

    def test_a_file_that_counts_and_is_gone_is_named(self, store: MemoryStore) -> None:
        store.delete(LAYOUT.merged(FILE.name))
        with pytest.raises(
            JobError,
            match=r"000002\.parquet is missing; it holds the results of 5 rows \(units 0 to 4\); put it",
        ):
            look_at_results(store, LAYOUT)
        store.put(LAYOUT.merged(FILE.name), b"half")
        with pytest.raises(JobError, match=r"has 4 bytes instead of 11"):
            look_from_outside(store, LAYOUT)

    @pytest.mark.parametrize("left", ["missing", "older"])
    def test_merged_files_that_nothing_lists_are_never_taken_for_rubbish(
        self, store: MemoryStore, left: str
    ) -> None:
        """They may hold the only copy of the rows."""
        if left == "missing":
            store.delete(LAYOUT.generation)
        else:
            store.put(LAYOUT.merged(merged_name(2, 3, 3)), b"x")
        with pytest.raises(
            JobError, match=rf"_generation\.json, which says which files count, is {left}; put"
        ):
            look_at_results(store, LAYOUT)


class Switching(MemoryStore):
    """A store in which something happens while the results are listed: before, in the middle, or after."""

    def __init__(self, objects: dict[str, bytes], happens: Callable[[MemoryStore], None]) -> None:
        super().__init__(objects)
        self.happens = happens
        self.times = 1

    def list(self, prefix: str) -> Iterator[StoredObject]:
        found = [*super().list(prefix)]
        if self.times:
            self.times -= 1
            self.happens(self)
        yield from found[: len(found) // 2]
        yield from (stored for stored in found[len(found) // 2 :] if stored.uri in self.objects)


class TestLookingMeanwhile:
    def test_parts_that_are_merged_meanwhile_are_found_merged(self) -> None:
        def merge(store: MemoryStore) -> None:
            store.objects[LAYOUT.merged(FILE.name)] = b"x" * FILE.size
            store.objects[LAYOUT.generation] = encode_generation(GENERATION)
            for unit in (0, 1, 4):
                del store.objects[LAYOUT.part(unit)]

        store = Switching({LAYOUT.part(unit): b"x" for unit in range(5)}, merge)
        held = look_from_outside(store, LAYOUT)
        assert held.merged_units | held.parts.keys() == {*range(5)}
        assert len(store.calls("list")) == 2

    def test_units_that_leave_merged_files_meanwhile_are_found_in_parts(self, store: MemoryStore) -> None:
        """The listing was made before their parts came; the file that has them no longer counts after it."""
        left = replace(FILE, name=merged_name(0, 1, 3), units=(range(0, 2),), rows=4)

        def split(store: MemoryStore) -> None:
            store.objects[LAYOUT.part(4)] = b"x"
            store.objects[LAYOUT.merged(left.name)] = b"x" * FILE.size
            store.objects[LAYOUT.generation] = encode_generation(Generation(3, 10, 2, (left,)))
            del store.objects[LAYOUT.merged(FILE.name)]

        held = look_from_outside(Switching(store.objects, split), LAYOUT)
        assert held.merged_units == {0, 1}
        assert [*held.parts] == [2, 3, 4]

    def test_what_changes_all_the_time_is_said(self, store: MemoryStore) -> None:
        def switch(store: MemoryStore) -> None:
            number = decode_generation(store.objects[LAYOUT.generation], "x").number + 1
            store.objects[LAYOUT.generation] = encode_generation(replace(GENERATION, number=number))

        switching = Switching(store.objects, switch)
        switching.times = MOST_TRIES
        with pytest.raises(JobError, match="changes all the time; wait until its parts are merged"):
            look_from_outside(switching, LAYOUT)


class TestReading:
    def test_a_unit_is_read_from_its_part(self) -> None:
        store = MemoryStore({LAYOUT.part(0): part(0, 1), LAYOUT.part(7): part(14)})
        results = open_results(store, OUTPUT)
        assert results.units == [0, 7]
        assert results.where(7) == LAYOUT.part(7)
        assert results.files == [LAYOUT.part(0), LAYOUT.part(7)]
        assert results.read(7, ["row"]).to_pylist() == [{"row": 14}]
        tables = results.tables(["pair_id"])
        assert [table.to_pydict()["pair_id"] for table in tables] == [["pair-0", "pair-1"], ["pair-14"]]

    def test_a_unit_that_is_opened_again_meanwhile_is_said(self) -> None:
        store = MemoryStore({LAYOUT.part(0): part(0, 1), LAYOUT.part(1): part(2)})
        results = open_results(store, OUTPUT)
        store.delete(LAYOUT.part(1))
        with pytest.raises(JobError, match="unit 1 were opened again while they were being read; try again"):
            results.read(1)
        with pytest.raises(JobError, match="unit 1 were opened again"):
            read_results(Vanishing(store.objects | {LAYOUT.part(1): part(2)}), OUTPUT)

    def test_a_damaged_part_is_named(self) -> None:
        store = MemoryStore({LAYOUT.part(0): part(0, 1)[:-20]})
        with pytest.raises(JobError, match=r"part-000000\.parquet is damaged \(.*put it back from a copy"):
            read_results(store, OUTPUT)

    @pytest.mark.parametrize("stop_after", [1, 3])
    def test_who_stops_early_leaves_no_thread(self, stop_after: int) -> None:
        import threading

        store = MemoryStore({LAYOUT.part(unit): part(unit) for unit in range(40)})
        tables = open_results(store, OUTPUT).tables()
        for _ in range(stop_after):
            next(tables)
        tables.close()  # type: ignore[attr-defined]
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("parts")]
        assert len(set(store.calls("get"))) < 40


class Vanishing(MemoryStore):
    """A store whose part of unit 1 goes when it is asked for."""

    def get(self, uri: str) -> bytes:
        if uri == LAYOUT.part(1):
            self.objects.pop(uri, None)
        return super().get(uri)
