"""The book of open units, and the tally."""

import itertools
from collections.abc import Callable

from stylebatch.job import Job, Tally, UnitBook
from stylebatch.job.book import MOST_EXAMPLES

JobMaker = Callable[..., Job]


def row(number: int, error: str | None = None) -> dict[str, object]:
    if error is None:
        return {"pair_id": f"p{number}", "row": number, "status": "ok"}
    return {
        "pair_id": f"p{number}",
        "row": number,
        "status": "failed",
        "error_type": error,
        "error": "no good",
    }


def test_a_unit_is_complete_in_whatever_order_its_rows_end(make_job: JobMaker) -> None:
    job = make_job(rows=5, unit_size=3)
    for order in itertools.permutations(range(3)):
        book = UnitBook(job)
        book.open(0)
        for position, number in enumerate(order):
            assert list(book.take_complete()) == [], position
            book.add(0, row(number), is_new=True)
        ((unit, rows),) = book.take_complete()
        assert (unit, [one["row"] for one in rows]) == (0, [0, 1, 2])


def test_a_complete_unit_is_handed_out_once(make_job: JobMaker) -> None:
    book = UnitBook(make_job(rows=5, unit_size=2))
    for unit in (0, 1, 2):
        book.open(unit)
    for number in (4, 3, 0, 2):
        book.add(number // 2, row(number), is_new=True)
    assert [unit for unit, _ in book.take_complete()] == [2, 1]
    assert list(book.take_complete()) == []
    book.add(0, row(1), is_new=True)
    assert [unit for unit, _ in book.take_complete()] == [0]


def test_the_tally_counts_what_was_there_before(make_job: JobMaker) -> None:
    book = UnitBook(make_job(rows=5, unit_size=5))
    book.open(0)
    book.add(0, row(0), is_new=False)
    book.add(0, row(1), is_new=True)
    book.add(0, row(2, "PictureError"), is_new=False)
    tally = book.tally
    assert (tally.ok, tally.failed, tally.skipped, tally.ended) == (2, 1, 2, 3)


def test_the_tally_groups_failures_and_keeps_a_few_examples() -> None:
    tally = Tally()
    for number in range(MOST_EXAMPLES + 4):
        tally.count(row(number, "PictureError"), is_new=True)
    tally.count(row(99, "NotFoundError"), is_new=True)
    assert tally.error_counts == {"PictureError": MOST_EXAMPLES + 4, "NotFoundError": 1}
    assert tally.error_examples["PictureError"] == [f"p{number}: no good" for number in range(MOST_EXAMPLES)]
    assert tally.error_examples["NotFoundError"] == ["p99: no good"]


def test_a_row_ends_once(make_job: JobMaker) -> None:
    """A worker that was taken for dead may report a pair that another has done since."""
    book = UnitBook(make_job(rows=5, unit_size=2))
    book.open(0)
    book.add(0, row(0), is_new=True)
    book.add(0, row(0, "PictureError"), is_new=True)
    assert book.take_complete() == []
    book.add(0, row(1), is_new=True)
    book.add(0, row(1, "PictureError"), is_new=True)
    assert book.take_complete() == [(0, [row(0), row(1)])]
    book.add(0, row(0), is_new=True)
    assert book.take_complete() == []
    assert (book.tally.ok, book.tally.failed) == (2, 0)


def test_kept_rows_count_as_ended_and_are_not_handed_out(make_job: JobMaker) -> None:
    book = UnitBook(make_job(rows=5, unit_size=3), Tally(ok=2, skipped=2))
    book.open(0)
    book.keep(0, 0)
    book.keep(0, 2)
    book.add(0, row(1), is_new=True)
    book.add(0, row(2, "PictureError"), is_new=True)
    assert book.take_complete() == [(0, [row(1)])]
    assert (book.tally.ok, book.tally.failed, book.tally.skipped) == (5, 0, 4)


def test_a_unit_may_be_kept_as_a_whole(make_job: JobMaker) -> None:
    book = UnitBook(make_job(rows=2, unit_size=2))
    book.open(0)
    book.keep(0, 0)
    book.keep(0, 1)
    assert book.take_complete() == [(0, [])]


def test_tallies_add_up() -> None:
    tallies = []
    for first in (0, 10):
        tally = Tally()
        for number in range(first, first + 4):
            tally.count(row(number, "PictureError"), is_new=False)
        tally.count(row(first + 5), is_new=True)
        tallies.append(tally)
    total = Tally(ok=1)
    for tally in tallies:
        total.add(tally)
    assert (total.ok, total.failed, total.skipped, total.ended) == (3, 8, 8, 11)
    assert total.error_counts == {"PictureError": 8}
    assert total.error_examples["PictureError"] == tallies[0].error_examples["PictureError"][:MOST_EXAMPLES]
    assert tallies[0].failed == 4
