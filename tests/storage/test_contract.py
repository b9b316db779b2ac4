"""What every store promises, on a local folder and on a real S3 server."""

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from places import DATA, READS, Place, race

from stylebatch.errors import NotFoundError
from stylebatch.objectstore import ObjectStore
from stylebatch.storage.probing import holds_conditions


@pytest.mark.parametrize("data", [DATA, b""], ids=["bytes", "empty"])
def test_what_was_put_comes_back(place: Place, uri: str, data: bytes) -> None:
    place.store.put(uri, data)
    assert place.store.get(uri) == data
    assert place.store.size(uri) == len(data)


def test_put_replaces_what_was_there(place: Place, uri: str) -> None:
    place.store.put(uri, DATA)
    place.store.put(uri, b"new")
    assert place.store.get(uri) == b"new"


@pytest.mark.parametrize("data", [DATA, b""], ids=["bytes", "empty"])
def test_a_file_and_a_copy_of_it_come_back(place: Place, uri: str, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a file of this machine"
    path.write_bytes(data)
    copy = f"{place.folder}/elsewhere/ä copy"
    for wanted in (data, data + b"more"):
        path.write_bytes(wanted)
        place.store.put_file(uri, path)
        place.store.copy(uri, copy)
        assert place.store.get(uri) == place.store.get(copy) == wanted
    place.store.put(uri, b"another")
    assert place.store.get(copy) == data + b"more"


def test_what_is_missing_cannot_be_copied(place: Place, uri: str) -> None:
    with pytest.raises(NotFoundError) as raised:
        place.store.copy(uri, f"{place.folder}/copy")
    assert uri in str(raised.value)
    assert place.names() == []


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (100, 50, DATA[100:150]),
        (len(DATA) - 10, 50, DATA[-10:]),
        (len(DATA), 50, b""),
        (len(DATA) + 10, 50, b""),
        (100, 0, b""),
    ],
    ids=["middle", "over the end", "at the end", "beyond the end", "nothing"],
)
def test_a_range_is_cut_at_the_end(place: Place, uri: str, start: int, length: int, expected: bytes) -> None:
    place.store.put(uri, DATA)
    assert place.store.get_range(uri, start, length) == expected


# Conditional puts


def test_put_if_absent_keeps_the_first(place: Place, uri: str) -> None:
    assert place.store.put_if_absent(uri, b"first") is True
    assert place.store.put_if_absent(uri, b"second") is False
    assert place.store.get(uri) == b"first"


def test_an_equal_object_that_was_there_before_is_not_taken_for_ones_own(place: Place, uri: str) -> None:
    assert place.store.put_if_absent(uri, b"same") is True
    assert place.store.put_if_absent(uri, b"same") is False


def test_exactly_one_of_eight_racing_puts_is_let_through(place: Place, uri: str) -> None:
    stored = race(8, lambda writer: place.store.put_if_absent(uri, b"writer %d" % writer))
    assert stored.count(True) == 1
    assert place.store.get(uri) == b"writer %d" % stored.index(True)


def test_put_if_version_replaces_the_version_that_it_names(place: Place, uri: str) -> None:
    place.store.put(uri, b"first")
    first = place.store.version(uri)
    second = place.store.put_if_version(uri, b"second", first)
    assert second == place.store.version(uri) != first
    assert place.store.put_if_version(uri, b"third", first) is None
    assert place.store.get(uri) == b"second"
    assert second is not None
    assert place.store.put_if_version(uri, b"third", second) == place.store.version(uri)
    assert place.store.get(uri) == b"third"


def test_put_if_version_does_not_bring_back_what_is_gone(place: Place, uri: str) -> None:
    place.store.put(uri, b"first")
    version = place.store.version(uri)
    place.store.delete(uri)
    assert place.store.put_if_version(uri, b"second", version) is None
    assert place.names() == []


def test_exactly_one_of_sixteen_racing_replacements_is_let_through_each_time(place: Place) -> None:
    def contest(round: int) -> tuple[int, bytes, list[str | None]]:
        uri = f"{place.folder}/lease-{round}"
        store: ObjectStore = pickle.loads(pickle.dumps(place.store))  # a gate of its own: all sixteen at once
        store.put(uri, b"before")
        version = store.version(uri)
        got = race(16, lambda writer: store.put_if_version(uri, b"writer %d" % writer, version))
        return round, store.get(uri), got

    with ThreadPoolExecutor(5) as contests:  # SeaweedFS takes seconds to refuse fifteen, whatever the object
        results = [*contests.map(contest, range(5))]

    for round, stored, got in results:
        winners = [writer for writer in range(16) if got[writer] is not None]
        assert len(winners) == 1
        assert stored == b"writer %d" % winners[0]
        assert got[winners[0]] == place.store.version(f"{place.folder}/lease-{round}")
    assert place.names() == [f"lease-{round}" for round in range(5)]


def test_conditional_puts_are_found_to_hold_and_nothing_is_left(place: Place) -> None:
    assert place.store.has_conditional_puts(place.folder) is True
    assert place.names() == []


def test_a_probe_that_another_driver_swept_away_proves_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, probes = place.store, []
    put = store.put_if_absent

    def put_and_lose_the_first(uri: str, data: bytes) -> bool:
        stored = put(uri, data)
        if not probes:
            store.delete(uri)
        probes.append(uri)
        return stored

    monkeypatch.setattr(store, "put_if_absent", put_and_lose_the_first)
    assert holds_conditions(store, place.folder) is True
    assert len(set(probes)) == 2
    assert place.names() == []


def test_unconditional_puts_look_first(place: Place, uri: str) -> None:
    store = place.store.unconditional()
    assert store.has_conditional_puts(place.folder) is False
    assert store.put_if_version(uri, b"none", "no version") is None
    assert store.put_if_absent(uri, b"first") is True
    assert store.put_if_absent(uri, b"second") is False
    version = place.store.version(uri)
    assert store.put_if_version(uri, b"third", "another") is None
    assert store.get(uri) == b"first"
    assert store.put_if_version(uri, b"fourth", version) == place.store.version(uri) != version
    assert place.store.get(uri) == b"fourth"


# Versions and ages


def test_a_version_stays_until_the_object_changes(place: Place, uri: str) -> None:
    versions = []
    for number in range(20):
        place.store.put(uri, b"%02d" % number)
        versions.append(place.store.version(uri))
        assert place.store.version(uri) == versions[-1]
    assert len(set(versions)) == 20


def test_an_age_counts_from_the_last_put(place: Place, uri: str) -> None:
    place.store.put(uri, DATA)
    assert 0 <= place.store.age(uri) < 60


# Listing, deleting, sweeping


def test_list_goes_to_any_depth_in_order_of_uri(place: Place) -> None:
    names = ["a/b-1", "a/b.txt", "a/b/10", "a/b/2", "a/b/c/d/e", "a/é"]
    for name in reversed(names):
        place.store.put(f"{place.folder}/{name}", name.encode())
    assert place.names("a") == names
    assert [found.size for found in place.store.list(place.folder)] == [len(name.encode()) for name in names]


def test_list_leaves_out_siblings_whose_names_begin_alike(place: Place) -> None:
    for name in ["a/b/x", "a/bc/x", "a/b.txt"]:
        place.store.put(f"{place.folder}/{name}", b"x")
    assert place.names("a/b") == ["a/b/x"]


def test_list_of_one_object_finds_it_alone(place: Place) -> None:
    for name in ["a/b", "a/bc"]:
        place.store.put(f"{place.folder}/{name}", b"x")
    assert place.names("a/b") == ["a/b"]
    assert place.names("a/b/c") == []


def test_list_of_nothing_is_empty(place: Place) -> None:
    assert place.names("nowhere") == []


def test_list_leaves_out_what_storing_makes_for_itself(place: Place) -> None:
    for name in [".stylebatch-0123.tmp", ".stylebatch-0123.lock", ".stylebatch-notes", "a.tmp"]:
        place.store.put(f"{place.folder}/{name}", b"x")
    assert place.names() == [".stylebatch-notes", "a.tmp"]


def test_delete_twice_is_no_error(place: Place, uri: str) -> None:
    place.store.put(uri, DATA)
    place.store.delete(uri)
    assert place.names() == []
    place.store.delete(uri)


def test_a_sweep_of_a_folder_that_is_not_there_is_no_error(place: Place) -> None:
    place.store.sweep(f"{place.folder}/nowhere", 0)
    assert place.names() == []


# Errors, and travelling


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_what_is_missing_is_not_found_and_named(
    place: Place, uri: str, read: Callable[[ObjectStore, str], object]
) -> None:
    with pytest.raises(NotFoundError) as raised:
        read(place.store, uri)
    assert uri in str(raised.value)
    assert raised.value.__cause__ is not None


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_folder_is_not_an_object(
    place: Place, uri: str, read: Callable[[ObjectStore, str], object]
) -> None:
    place.store.put(uri, DATA)
    with pytest.raises(NotFoundError):
        read(place.store, place.folder)


def test_a_pickled_store_reads_the_same_objects(place: Place, uri: str) -> None:
    place.store.put(uri, DATA)  # so that an S3 store has its client, which must stay behind
    assert pickle.loads(pickle.dumps(place.store)).get(uri) == DATA
