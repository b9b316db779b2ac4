"""What a job's output holds: where each object stands, and records, which are result rows as JSON."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stylebatch.errors import JobError
from stylebatch.objectstore import join_uri

FORMAT_VERSION = 2
"""Of the whole output: layout, records and parts."""

_MERGED_NAME = re.compile(r"part-([0-9]{6,})-([0-9]{6,})\.([0-9]{6,})\.parquet")

Row = Mapping[str, Any]
"""A result row by column name; a missing column is null."""


@dataclass(frozen=True)
class Layout:
    """Where a job's objects stand below its output; every name follows from the unit and the pair."""

    output: str
    """Canonical folder URI."""

    @property
    def job(self) -> str:
        """The job's identity."""
        return join_uri(self.output, "job.json")

    @property
    def success(self) -> str:
        """Written last, with counts."""
        return join_uri(self.output, "_SUCCESS")

    @property
    def lease(self) -> str:
        """Who works on the output."""
        return join_uri(self.output, "lease.json")

    @property
    def progress(self) -> str:
        """How far the driver has come, told by itself."""
        return join_uri(self.output, "progress.json")

    @property
    def results(self) -> str:
        """The folder of the parts."""
        return join_uri(self.output, "results")

    @property
    def generation(self) -> str:
        """Which merged files count. Readers of a folder pass over names that begin with _."""
        return join_uri(self.results, "_generation.json")

    @property
    def merging(self) -> str:
        """The folder of merged files that such readers are not to see yet."""
        return join_uri(self.results, "_merging")

    @property
    def all_images(self) -> str:
        """The folder above every unit's images."""
        return join_uri(self.output, "images")

    @property
    def all_records(self) -> str:
        """The folder above every open unit's records."""
        return join_uri(self.output, "records")

    @property
    def all_checkpoints(self) -> str:
        """The folder above every open unit's checkpoints."""
        return join_uri(self.output, "checkpoints")

    @property
    def reopened(self) -> str:
        """The folder of the parts whose failed rows are being run again."""
        return join_uri(self.output, "reopened")

    def images(self, unit: int) -> str:
        """The folder of a unit's images."""
        return join_uri(self.all_images, f"{unit:06d}")

    def records(self, unit: int) -> str:
        """The folder of an open unit's records."""
        return join_uri(self.all_records, f"{unit:06d}")

    def checkpoint(self, unit: int, pair_id: str) -> str:
        """Where a long pair stands."""
        return join_uri(self.all_checkpoints, f"{unit:06d}", f"{pair_id}.ckpt")

    def image(self, unit: int, pair_id: str, suffix: str) -> str:
        """A pair's picture; storing it commits the pair."""
        return join_uri(self.images(unit), pair_id + suffix)

    def record(self, unit: int, pair_id: str, image_sha256: str) -> str:
        """What one attempt made, under the hash of its image."""
        return join_uri(self.records(unit), f"{pair_id}.{image_sha256[:16]}.json")

    def failed_record(self, unit: int, pair_id: str) -> str:
        """Why a pair failed for good."""
        return join_uri(self.records(unit), f"{pair_id}.failed.json")

    def part(self, unit: int) -> str:
        """The results of a finished unit."""
        return join_uri(self.results, part_name(unit))

    def part_unit(self, uri: str) -> int | None:
        """The unit of a part's URI; None for anything else."""
        number = part_number(uri.removeprefix(self.results + "/"))
        return number if number is not None and uri == self.part(number) else None

    def merged(self, name: str) -> str:
        """A merged file, where every reader finds it."""
        return join_uri(self.results, name)

    def staged(self, name: str) -> str:
        """The same before plain readers are to see it."""
        return join_uri(self.merging, name)


def part_name(number: int) -> str:
    """The name of a part below its folder; parts are in order."""
    return f"part-{number:06d}.parquet"


def part_number(name: str) -> int | None:
    """The number of the part with this name; None for any other name."""
    digits = name.removeprefix("part-").removesuffix(".parquet")
    is_number = digits.isascii() and digits.isdigit()
    return int(digits) if is_number and name == part_name(int(digits)) else None


def merged_name(first: int, last: int, generation: int) -> str:
    """The name of a file with the rows of units from ``first`` to ``last``; files are in order of row.

    Args:
        first: The smallest unit in it.
        last: The largest.
        generation: The one that it is new in, so that no file replaces another.
    """
    return f"part-{first:06d}-{last:06d}.{generation:06d}.parquet"


def generation_of(name: str) -> int | None:
    """The generation that a merged file is new in, by its name; None for any other name."""
    found = _MERGED_NAME.fullmatch(name)
    if found is None:
        return None
    first, last, generation = map(int, found.groups())
    return generation if merged_name(first, last, generation) == name else None


def encode_record(row: Row) -> bytes:
    """A result row as canonical JSON."""
    return json.dumps(row, sort_keys=True, separators=(",", ":")).encode()


def decode_record(data: bytes, uri: str) -> dict[str, Any]:
    """The result row of a record.

    Raises:
        JobError: The bytes are not a record.
    """
    try:
        row = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise JobError(f"{uri} is damaged: it is not JSON") from error
    if not isinstance(row, dict) or not isinstance(row.get("pair_id"), str):
        raise JobError(f"{uri} is damaged: it is not a record")
    return row


def image_sha256(data: bytes) -> str:
    """The hash that ties a picture's file to its record."""
    return hashlib.sha256(data).hexdigest()
