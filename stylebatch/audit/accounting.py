"""Whether every row of a job is accounted for: its parts, their rows, and the counts of ``_SUCCESS``."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stylebatch.errors import JobError, NotFoundError
from stylebatch.job.identity import read_identity
from stylebatch.layout import Layout
from stylebatch.objectstore import ObjectStore

STATUSES = ("ok", "failed")


@dataclass(frozen=True)
class Plan:
    """What a job was to make."""

    rows: int
    """Of its manifest."""
    unit_size: int
    """Rows of a unit; the last one may have fewer."""
    manifest: str
    """Its canonical URI when the job ran."""
    manifest_sha256: str
    """Its fingerprint."""

    @property
    def units(self) -> range:
        """All units."""
        return range(-(-self.rows // self.unit_size))

    def unit_rows(self, unit: int) -> range:
        """The rows of a unit; none of one that there is not."""
        first = unit * self.unit_size
        return range(first, max(first, min(first + self.unit_size, self.rows)))


def read_plan(store: ObjectStore, layout: Layout) -> Plan:
    """What ``job.json`` says that the job was to make.

    Raises:
        JobError: There is no ``job.json``, or it does not say.
    """
    identity = read_identity(store, layout)
    if identity is None:
        raise JobError(f"there is no {layout.job}; is {layout.output} the output of a stylebatch run?")
    rows, unit_size = identity.get("rows"), identity.get("unit_size")
    if not isinstance(rows, int) or not isinstance(unit_size, int) or unit_size < 1:
        raise JobError(f"{layout.job} does not say how many rows the job has; put it back from a copy")
    manifest, sha256 = identity.get("manifest"), identity.get("manifest_sha256")
    if not isinstance(manifest, str) or not isinstance(sha256, str):
        raise JobError(f"{layout.job} does not say what manifest the job ran; put it back from a copy")
    return Plan(rows, unit_size, manifest, sha256)


def part_problems(plan: Plan, unit: int, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is wrong with the rows of a part as a whole: one clause each."""
    expected = plan.unit_rows(unit)
    numbers = [row["row"] for row in rows]
    if numbers != [*expected]:
        missing, foreign = sorted({*expected} - {*numbers}), sorted({*numbers} - {*expected}, key=str)
        told = [f"rows {_some(missing)} are missing"] if missing else []
        told += [f"rows {_some(foreign)} do not belong there"] if foreign else []
        yield f"it should hold rows {_span(expected)} in order: {', '.join(told) or 'they are not in order'}"
    names = [row["pair_id"] for row in rows]
    twice = sorted({name for name in names if names.count(name) > 1}) if len({*names}) < len(names) else []
    if twice:
        yield f"pair ids are there more than once: {_some(twice)}"
    for row in rows:
        if row["status"] not in STATUSES:
            allowed = ", ".join(STATUSES)
            yield f"the status of {row['pair_id']} is {row['status']!r}; it must be one of {allowed}"


def success_problems(
    store: ObjectStore, layout: Layout, plan: Plan, counted: Mapping[str, int], units: Sequence[int]
) -> Iterator[str]:
    """Whether ``_SUCCESS``, if it is there, says what the parts say.

    Args:
        store: Where the output is.
        layout: Names below it.
        plan: What the job was to make.
        counted: What the parts hold: ``rows``, ``ok`` and ``failed``.
        units: Those that have a part.
    """
    told = read_success(store, layout)
    if told is None:
        return
    missing = sorted({*plan.units} - {*units})
    if missing:
        yield f"it is there, but parts of units are missing: {_some(missing)}"
    for name, number in counted.items():
        if told.get(name) != number:
            yield f"{name} is {told.get(name)} there and {number} in the parts"


def read_success(store: ObjectStore, layout: Layout) -> dict[str, Any] | None:
    """What ``_SUCCESS`` holds; None if it is not there, nothing if it cannot be read."""
    try:
        told = json.loads(store.get(layout.success))
    except NotFoundError:
        return None
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _span(rows: range) -> str:
    return f"{rows.start} to {rows.stop - 1}" if rows else "of no unit of this job"


def _some(items: Sequence[Any], most: int = 5) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(str(item) for item in items[:most]) + more
