"""What progress.json holds: small whatever the run, and read with distrust."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from bulletins import BULLETIN

from stylebatch.job import Tally
from stylebatch.job.bulletin import (
    BULLETIN_FORMAT,
    MOST_KINDS,
    MOST_TEXT,
    Bulletin,
    Foreign,
    decode_bulletin,
    failure_kinds,
    short,
    stages_of,
)


def test_what_is_written_is_read_back() -> None:
    for bulletin in (BULLETIN, replace(BULLETIN, pairs_per_hour=None, seconds_left=None, listed=())):
        assert decode_bulletin(bulletin.encode()) == bulletin


def test_it_is_plain_json_with_a_version() -> None:
    found = json.loads(BULLETIN.encode())
    assert found["format_version"] == BULLETIN_FORMAT == 1
    assert (found["telling"], found["ok"], found["stages"]) == ("running", 240, BULLETIN.stages)
    assert found.keys() == {"format_version", *asdict(BULLETIN)}


def test_what_a_later_version_adds_is_left_out() -> None:
    found = json.loads(BULLETIN.encode()) | {"moon": "full"}
    assert decode_bulletin(json.dumps(found).encode()) == BULLETIN


def test_another_format_is_told_from_what_is_no_bulletin() -> None:
    found = json.loads(BULLETIN.encode()) | {"format_version": 2}
    assert decode_bulletin(json.dumps(found).encode()) == Foreign(2)


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": "many"},
        {"rows": True},
        {"ok": None},
        {"telling": "dancing"},
        {"failures": {"a": 1}},
        {"failures": [{"error_type": "E"}]},
        {"listed": [7]},
        {"notices": "a text"},
        {"stages": ["idle"]},
        {"stages": {"idle": "one"}},
        {"pairs_per_hour": "fast"},
        {"seconds_left": float("inf")},
        {"seconds_left": 10**400},
        {"holder": 5},
    ],
)
def test_a_value_of_another_kind_spoils_it(changes: dict[str, Any]) -> None:
    data = json.dumps(json.loads(BULLETIN.encode()) | changes).encode()
    assert decode_bulletin(data) == Foreign(None)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"7", b"null", b'{"format_version": 1}', b"\xff\xfe", b"[" * 100_000]
)
def test_other_bytes_are_no_bulletin(data: bytes) -> None:
    assert decode_bulletin(data) == Foreign(None)


def test_texts_of_strangers_cannot_move_the_cursor() -> None:
    found = json.loads(BULLETIN.encode()) | {"reason": "\x1b[2Jhello\nworld", "host": "x" * 10_000}
    read = decode_bulletin(json.dumps(found).encode())
    assert isinstance(read, Bulletin)
    assert read.reason == "?[2Jhello world"
    assert len(read.host) == MOST_TEXT


def test_failures_are_listed_by_how_many_there_are() -> None:
    tally = Tally()
    for number in range(MOST_KINDS + 5):
        for pair in range(number + 1):
            row = {"status": "failed", "error_type": f"E{number}", "pair_id": f"p{pair}", "error": "x" * 999}
            tally.count(row, is_new=True)
    kinds = failure_kinds(tally)
    assert [kind.count for kind in kinds] == list(range(MOST_KINDS + 5, 5, -1))
    assert {len(kind.examples) for kind in kinds} == {3}
    assert {len(example) for kind in kinds for example in kind.examples} == {MOST_TEXT}
    assert kinds[0].examples[0].startswith("p0: xxx")


def test_stages_are_counted() -> None:
    assert stages_of(["idle", "synthesizing", "synthesizing"]) == {"synthesizing": 2, "idle": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("as it is.", "as it is."),
        ("two\n\n lines\tof it", "two lines of it"),
        ("a" * MOST_TEXT, "a" * MOST_TEXT),
        ("a" * (MOST_TEXT + 1), "a" * (MOST_TEXT - 3) + "..."),
        ("\u202ereversed", "?reversed"),
    ],
)
def test_texts_are_short_and_printable(text: str, expected: str) -> None:
    assert short(text) == expected
    assert short(expected) == expected
