"""The judges of a finished output find what they are there to find, and nothing in a good one."""

import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faultchecks import (
    LOSSES,
    TOLERANCE,
    computation_problems,
    loss_problems,
    output_problems,
    part_rows,
)

PAIR_IDS = ["a", "b", "c"]
Rows = list[dict[str, Any]]
Objects = dict[str, bytes]


def good_rows(batch: int = 1) -> Rows:
    return [
        {
            "pair_id": pair_id,
            "row": number,
            "status": "ok",
            "image": f"s3://bucket/out/images/000000/{pair_id}.png",
            "image_sha256": hashlib.sha256(pair_id.encode()).hexdigest(),
            **dict.fromkeys(LOSSES, 100.0),
            "batch": batch,
            "error_type": None,
            "error": None,
        }
        for number, pair_id in enumerate(PAIR_IDS)
    ]


def part(rows: Rows) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), file)
    return file.getvalue()


def output(rows: Rows) -> Objects:
    """Two rows in the first part, the others in the second; an image for each pair."""
    return {
        "job.json": b"{}",
        "progress.json": b"{}",
        **{f"images/000000/{pair_id}.png": pair_id.encode() for pair_id in PAIR_IDS},
        "results/part-000000.parquet": part(rows[:2]),
        "results/part-000001.parquet": part(rows[2:]),
        "_SUCCESS": json.dumps({"rows": 3, "ok": 3, "failed": 0}).encode(),
    }


def by_id(rows: Rows) -> dict[str, dict[str, Any]]:
    return {row["pair_id"]: row for row in rows}


def test_nothing_is_wrong_with_a_good_output() -> None:
    rows = good_rows()
    assert part_rows(output(rows)) == rows
    assert [*output_problems(output(rows), PAIR_IDS, by_id(good_rows()))] == []


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda rows: rows.pop(0), "a is in the parts 0 times"),
        (lambda rows: rows.append(dict(rows[0])), "a is in the parts 2 times"),
        (lambda rows: rows[0].update(pair_id="z"), "z is in no manifest"),
        (lambda rows: rows.reverse(), "the parts' rows are not in the manifest's order"),
        (
            lambda rows: rows[1].update(status="failed", error_type="WorkerDied", error="why"),
            "b is failed: WorkerDied: why",
        ),
        (lambda rows: rows[2].update(image_sha256="0"), "c: its image is not the one that its row describes"),
        (
            lambda rows: rows[2].update(image="s3://bucket/out/images/000000/d.png"),
            "c: its image s3://bucket/out/images/000000/d.png is not there",
        ),
        (lambda rows: rows[0].update(loss=100.1), "a: loss is 100.1 in a batch of 1, undisturbed 100.0"),
        (lambda rows: rows[0].update(solver_loss=None), "a: solver_loss is None in a batch of 1"),
    ],
)
def test_what_is_wrong_with_rows(damage: Callable[[Rows], Any], problem: str) -> None:
    rows = good_rows()
    damage(rows)
    found = [*output_problems(output(rows), PAIR_IDS, {**by_id(good_rows()), "z": good_rows()[0]})]
    assert any(line.startswith(problem) for line in found), found


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("images/000000/extra.png", b"x", "images/000000/extra.png belongs to no row"),
        ("images/000000/a.png", b"x", "a: its image is not the one that its row describes"),
        (
            "records/000000/a.0123456789abcdef.json",
            b"{}",
            "records/000000/a.0123456789abcdef.json is left over",
        ),
        ("checkpoints/000000/a.ckpt", b"", "checkpoints/000000/a.ckpt is left over"),
        ("lease.json", b"{}", "lease.json is left over"),
        ("reopened/part-000000.parquet", b"", "reopened/part-000000.parquet is left over"),
        ("_SUCCESS", b'{"failed": 1, "ok": 2, "rows": 3}', '_SUCCESS says {"failed": 1, "ok": 2, "rows": 3}'),
    ],
)
def test_what_is_wrong_with_objects(name: str, data: bytes, problem: str) -> None:
    assert [*output_problems(output(good_rows()) | {name: data}, PAIR_IDS)] == [problem]


def test_a_missing_success_and_a_missing_image() -> None:
    objects = output(good_rows())
    del objects["_SUCCESS"], objects["images/000000/a.png"]
    assert [*output_problems(objects, PAIR_IDS)] == [
        "a: its image s3://bucket/out/images/000000/a.png is not there",
        "_SUCCESS is not there",
    ]


@pytest.mark.parametrize(("batch", "there", "count"), [(1, 1, 3), (4, 1, 0), (1, 4, 0)])
def test_losses_may_differ_a_little_where_the_batch_does(batch: int, there: int, count: int) -> None:
    rows = good_rows(batch)
    for row in rows:
        row["loss"] *= 1 + TOLERANCE / 2
    assert len([*loss_problems(rows, by_id(good_rows(there)))]) == count
    for row in rows:
        row["loss"] = 100 * (1 + 2 * TOLERANCE)
    assert len([*loss_problems(rows, by_id(good_rows(there)))]) == 3


def test_only_what_was_in_flight_at_a_kill_may_be_computed_again() -> None:
    computations = {"undisturbed": 1, "lost twice": 3, "lost unfinished": 1, "twice for nothing": 2}
    in_flight = {"lost twice": 2, "lost unfinished": 1}
    assert [*computation_problems(computations, in_flight)] == [
        "twice for nothing was computed 2 times, but in flight at 0 kills"
    ]
