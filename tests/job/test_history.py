"""What became of the pairs of an open unit: images, records, former parts."""

import itertools
import threading
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from inmemory import MemoryStore
from simulated import JobMaker, ok_row, pairs, picture

from stylebatch.errors import OutputConflictError, StorageUnavailableError
from stylebatch.job import Job, committed_row, store_failure
from stylebatch.job.history import PENDING, History, unit_history
from stylebatch.job.ledger import read_ledger
from stylebatch.layout import encode_record, image_sha256
from stylebatch.recipe import FILE_SUFFIXES, Recipe
from stylebatch.work import Task, failed_row


def put_record(job: Job, store: MemoryStore, number: int, image: bytes, **changes: Any) -> dict[str, Any]:
    pair = pairs(job)[number]
    row = ok_row(pair, image) | changes
    record = job.layout.record(number // job.unit_size, pair.pair_id, image_sha256(image))
    store.put(record, encode_record(row))
    return row


def put_image(job: Job, store: MemoryStore, number: int, image: bytes, suffix: str = ".png") -> str:
    uri = job.layout.image(number // job.unit_size, pairs(job)[number].pair_id, suffix)
    store.put(uri, image)
    return uri


def put_failure(job: Job, store: MemoryStore, number: int, **changes: Any) -> dict[str, Any]:
    row = failed_row(pairs(job)[number], "PictureError", "it is empty", 2) | changes
    store_failure(job, store, number // job.unit_size, row)
    return row


def history(job: Job, store: MemoryStore, unit: int, notices: list[str] | None = None) -> History:
    ledger = read_ledger(job, store)
    members = [pairs(job)[number] for number in job.unit_rows(unit)]
    return unit_history(job, store, ledger, unit, members, ([] if notices is None else notices).append)


class TestEndedRows:
    def test_the_record_that_matches_the_image_counts(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        put_record(job, store, 0, b"lost")
        won = put_record(job, store, 0, b"won")
        put_record(job, store, 0, b"lost too")
        put_image(job, store, 0, b"won")
        assert history(job, store, 0) == History(ended={"p0": won})

    def test_a_record_without_an_image_is_an_attempt_that_came_to_nothing(
        self, make_job: JobMaker, store: MemoryStore
    ) -> None:
        job = make_job()
        put_record(job, store, 0, b"never stored")
        assert history(job, store, 0) == History()

    def test_a_failed_record_counts(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        put_record(job, store, 0, b"never stored")
        failure = put_failure(job, store, 0)
        assert history(job, store, 0) == History(ended={"p0": failure})

    @pytest.mark.parametrize("status", ["failed", PENDING])
    def test_an_image_beats_a_failed_record(
        self, make_job: JobMaker, store: MemoryStore, status: str
    ) -> None:
        job = make_job()
        put_failure(job, store, 0, status=status)
        won = put_record(job, store, 0, b"image")
        put_image(job, store, 0, b"image")
        assert history(job, store, 0) == History(ended={"p0": won})

    def test_a_failed_record_that_is_to_be_done_again_keeps_count(
        self, make_job: JobMaker, store: MemoryStore
    ) -> None:
        job = make_job()
        put_failure(job, store, 1, status=PENDING)
        assert history(job, store, 0) == History(attempts={"p1": 2})

    def test_an_image_that_no_record_matches_does_not_count(
        self, make_job: JobMaker, store: MemoryStore
    ) -> None:
        job = make_job()
        put_record(job, store, 0, b"image")
        put_image(job, store, 0, b"image, edited by hand")
        assert history(job, store, 0) == History()
        failure = put_failure(job, store, 0)
        assert history(job, store, 0) == History(ended={"p0": failure})

    def test_units_do_not_mix(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        put_failure(job, store, 3)
        assert history(job, store, 1).ended.keys() == {"p3"}
        assert history(job, store, 0) == History()

    def test_a_unit_of_which_nothing_is_stored_costs_nothing(
        self, make_job: JobMaker, store: MemoryStore
    ) -> None:
        job = make_job()
        ledger = read_ledger(job, store)
        members = pairs(job)[:2]
        store.operations.clear()
        assert unit_history(job, store, ledger, 0, members, print) == History()
        assert store.operations == []

    def test_an_image_that_goes_while_it_is_looked_at_does_not_count(
        self, make_job: JobMaker, store: MemoryStore
    ) -> None:
        job = make_job()
        put_record(job, store, 0, b"image")
        image = put_image(job, store, 0, b"image")
        get = store.get

        def removes_first(uri: str) -> bytes:
            if uri == image:
                store.delete(uri)
            return get(uri)

        store.get = removes_first  # type: ignore[method-assign]
        assert history(job, store, 0) == History()

    def test_the_storage_s_errors_are_no_damage(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        put_failure(job, store, 0)
        store.errors["get", job.layout.failed_record(0, "p0")] = StorageUnavailableError("no answer")
        with pytest.raises(StorageUnavailableError):
            history(job, store, 0)

    def test_images_are_read_by_several_threads(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job(rows=6, unit_size=6)
        for number in range(6):
            put_record(job, store, number, b"image")
            put_image(job, store, number, b"image")
        together = threading.Barrier(4)  # met only by four at once
        get, met = store.get, itertools.count()

        def waits(uri: str) -> bytes:
            if "/images/" in uri and next(met) < 4:
                together.wait(timeout=20)
            return get(uri)

        store.get = waits  # type: ignore[method-assign]
        assert len(history(job, store, 0).ended) == 6


class TestDamagedRecords:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "is damaged: it is not JSON"),
            (b"{", "is damaged: it is not JSON"),
            (b"\xff\xfe", "is damaged: it is not JSON"),
            (b"[]", "is damaged: it is not a record"),
            (b'{"pair_id": 1}', "is damaged: it is not a record"),
        ],
    )
    @pytest.mark.parametrize("is_failed", [True, False])
    def test_one_that_is_none_is_ignored_and_said(
        self, make_job: JobMaker, store: MemoryStore, data: bytes, reason: str, is_failed: bool
    ) -> None:
        job = make_job()
        put_image(job, store, 0, b"image")
        uri = job.layout.record(0, "p0", image_sha256(b"image"))
        if is_failed:
            uri = job.layout.failed_record(0, "p0")
        store.put(uri, data)
        notices: list[str] = []
        assert history(job, store, 0, notices) == History()
        assert notices == [f"{uri} {reason}; it is ignored and its pair is done again"]

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"pair_id": "p1"}, "is of pair 'p1' in row 0"),
            ({"row": 1}, "is of pair 'p0' in row 1"),
            ({"row": None}, "is of pair 'p0' in row None"),
            ({"status": "failed"}, "does not say what its name says"),
            ({"status": PENDING}, "does not say what its name says"),
            ({"status": ["ok"]}, "does not say what its name says"),
            ({"image_sha256": "0" * 64}, "does not say what its name says"),
            ({"loss": "small"}, "holds what no result column can"),
            ({"loss_curve": 3}, "holds what no result column can"),
            ({"layer_losses": {"conv1_1": "x"}}, "holds what no result column can"),
            ({"evaluations": 2**70}, "holds what no result column can"),
            ({"evaluations": [1]}, "holds what no result column can"),
        ],
    )
    def test_one_that_is_another_s_or_holds_nonsense_is_ignored_and_said(
        self, make_job: JobMaker, store: MemoryStore, changes: dict[str, Any], reason: str
    ) -> None:
        job = make_job()
        put_record(job, store, 0, b"image", **changes)
        put_image(job, store, 0, b"image")
        notices: list[str] = []
        assert history(job, store, 0, notices) == History()
        (notice,) = notices
        assert reason in notice
        assert notice.endswith("it is ignored and its pair is done again")

    def test_the_failed_record_of_another_pair_is_ignored(
        self, make_job: JobMaker, store: MemoryStore
    ) -> None:
        job = make_job()
        other = failed_row(pairs(job)[1], "PictureError", "it is empty", 1)
        store.put(job.layout.failed_record(0, "p0"), encode_record(other))
        assert history(job, store, 0) == History()

    def test_a_damaged_failed_record_does_not_hide_an_image(
        self, make_job: JobMaker, store: MemoryStore
    ) -> None:
        job = make_job()
        won = put_record(job, store, 0, b"image")
        put_image(job, store, 0, b"image")
        store.put(job.layout.failed_record(0, "p0"), b"{")
        notices: list[str] = []
        assert history(job, store, 0, notices) == History(ended={"p0": won})
        assert notices == []


HEX = "0123456789abcdef"
LOOKALIKES = ["a", "a.failed", f"a.{HEX}", "a.png", "a.json", "a.failed.json", f"a.{HEX}.failed", "-", "a."]


class TestNames:
    """Ids that look like what is added to them."""

    @pytest.mark.parametrize("picture_format", FILE_SUFFIXES)
    @pytest.mark.parametrize("ended", [LOOKALIKES, *([name] for name in LOOKALIKES)])
    def test_each_pair_has_its_own_names(
        self, make_job: JobMaker, store: MemoryStore, ended: Iterable[str], picture_format: str
    ) -> None:
        recipe = Recipe(size=48, iterations=3, format=picture_format)
        job = make_job(rows=len(LOOKALIKES), unit_size=100, columns={"pair_id": LOOKALIKES}, recipe=recipe)
        expected = {}
        for pair in pairs(job):
            if pair.pair_id in ended:
                image = picture(pair)
                expected[pair.pair_id] = put_record(job, store, pair.row, image)
                put_image(job, store, pair.row, image, FILE_SUFFIXES[picture_format])
        assert history(job, store, 0) == History(ended=expected)

    @pytest.mark.parametrize("failed", [LOOKALIKES, *([name] for name in LOOKALIKES)])
    def test_each_failure_is_one_pair_s(
        self, make_job: JobMaker, store: MemoryStore, failed: Iterable[str]
    ) -> None:
        job = make_job(rows=len(LOOKALIKES), unit_size=100, columns={"pair_id": LOOKALIKES})
        for pair in pairs(job):
            if pair.pair_id in failed:
                put_failure(job, store, pair.row)
            put_record(job, store, pair.row, b"lost")
        assert history(job, store, 0).ended.keys() == set(failed)

    def test_an_image_in_another_format_than_the_pair_s_is_not_its_picture(
        self, make_job: JobMaker, store: MemoryStore
    ) -> None:
        job = make_job()
        put_record(job, store, 0, b"image")
        put_image(job, store, 0, b"image", ".jpg")
        assert history(job, store, 0) == History()


class TestCommittedRow:
    def test_the_winner_is_found_without_a_listing(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        put_record(job, store, 2, b"mine")
        won = put_record(job, store, 2, b"theirs")
        put_image(job, store, 2, b"theirs")
        task = Task(pairs(job)[2], 1)
        store.operations.clear()
        assert committed_row(job, store, task) == won
        assert [method for method, _ in store.operations] == ["get", "get"]

    def test_a_picture_that_nobody_recorded_is_a_conflict(
        self, make_job: JobMaker, store: MemoryStore
    ) -> None:
        job = make_job()
        put_record(job, store, 2, b"mine")
        image = put_image(job, store, 2, b"from elsewhere")
        with pytest.raises(OutputConflictError) as raised:
            committed_row(job, store, Task(pairs(job)[2], 1))
        assert str(raised.value) == (
            f"{image} is there, but no record has its hash: it was changed, or put there by something else. "
            "Delete it and run with --retry-failed"
        )
        assert store.objects[image] == b"from elsewhere"

    def test_a_picture_with_a_damaged_record_is_a_conflict(
        self, make_job: JobMaker, store: MemoryStore
    ) -> None:
        job = make_job()
        put_image(job, store, 2, b"theirs")
        store.put(job.layout.record(1, "p2", image_sha256(b"theirs")), b"{")
        with pytest.raises(OutputConflictError, match="no record has its hash"):
            committed_row(job, store, Task(pairs(job)[2], 1))

    def test_a_picture_that_has_gone_is_a_conflict(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job()
        with pytest.raises(OutputConflictError, match=r"p2\.png was there when .* and is gone now; run with"):
            committed_row(job, store, Task(pairs(job)[2], 1))

    def test_the_format_is_that_of_the_pair(self, make_job: JobMaker, store: MemoryStore) -> None:
        job = make_job(recipe=Recipe(size=48, iterations=3, format="jpeg"))
        won = put_record(job, store, 2, b"image")
        put_image(job, store, 2, b"image", ".jpg")
        task = Task(pairs(job)[2], 1)
        assert committed_row(job, store, task) == won
        other = replace(task.pair, recipe=Recipe(size=48, iterations=3))
        with pytest.raises(OutputConflictError):
            committed_row(job, store, Task(other, 1))
