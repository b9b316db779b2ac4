"""Which parts become which merged files: decided from sizes alone, without storage."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from stylebatch.results.generations import MergedFile, spans


@dataclass(frozen=True)
class MergeLimits:
    """When parts are merged, and how large what comes of it is."""

    target: int = 256 * 2**20
    """Bytes after which a merged file ends, if enough is left for another one."""
    smallest: int = 128 * 2**20
    """Bytes that must be left for another file; so a file has at most so many more than ``target``."""
    many_parts: int = 256
    """So many parts are merged however small they are."""
    worthwhile: int = 8
    """Parts that must become one file on average, for merging to be worth reading and writing them."""
    group_rows: int = 8192
    """Rows of a row group, at most, unless a unit alone has more. A row group is in memory while it is
    written, and what a file says of it, 0.07 MB, until the file ends, for a moment twice. With 8,192 rows
    both take about the same for a million rows."""
    group_bytes: int = 4 * 2**20
    """Bytes of the parts that become a row group, likewise."""
    group_memory: int = 16 * 2**20
    """Bytes that the rows of a row group take in memory, likewise. What takes more, as is known only when it
    has been read, becomes several row groups."""


DEFAULT_LIMITS = MergeLimits()
"""Merged files have 128 to 384 MB, where the whole table has as much."""


@dataclass(frozen=True)
class Group:
    """Units that become a row group."""

    units: tuple[int, ...]
    """In order."""
    size: int
    """Bytes that they take where they stand now."""


@dataclass(frozen=True)
class MergePlan:
    """The next generation."""

    kept: tuple[MergedFile, ...]
    """Files that stay as they are."""
    runs: tuple[tuple[Group, ...], ...]
    """What is merged: runs of consecutive units, none of which shares a file with another."""


def is_worthwhile(files: Sequence[MergedFile], parts: Mapping[int, int], limits: MergeLimits) -> bool:
    """Whether parts should be merged at the end of a run.

    Where there are merged files already, every part is merged. Else files must become eight times fewer, and
    the parts must either be many or together be as large as a merged file should be.

    Args:
        files: The merged files that count.
        parts: The bytes of the parts that count, by unit.
        limits: What is many, and how large a merged file should be.
    """
    if files or not parts:
        return bool(parts)
    total = sum(parts.values())
    merged = max(1, round(total / limits.target))
    is_much = len(parts) >= limits.many_parts or total >= limits.smallest
    return is_much and len(parts) >= limits.worthwhile * merged


def may_be_worthwhile(units: int, limits: MergeLimits) -> bool:
    """Whether a job of so many units can have parts that should be merged; without looking at them."""
    return units >= limits.worthwhile


def plan_merge(
    files: Sequence[MergedFile], parts: Mapping[int, int], unit_size: int, limits: MergeLimits
) -> MergePlan:
    """Merge every part; of merged files, those that lack units inside are written anew with them.

    So are files beside parts that are too few for a file of their own.

    Args:
        files: The merged files that count.
        parts: The bytes of the parts that count, by unit.
        unit_size: Rows of a unit.
        limits: How large files and row groups are.
    """
    kept = [file for file in files if len(file.units) == 1]
    sizes = dict(parts)
    for file in files:
        if len(file.units) > 1:
            sizes |= unit_sizes(file)
    while neighbour := _neighbour_of_few(kept, sizes, limits):
        kept.remove(neighbour)
        sizes |= unit_sizes(neighbour)
    runs = (tuple(_groups(run, sizes, unit_size, limits)) for run in spans(sizes))
    return MergePlan(tuple(kept), tuple(runs))


def _neighbour_of_few(
    kept: Sequence[MergedFile], sizes: Mapping[int, int], limits: MergeLimits
) -> MergedFile | None:
    """A file beside units that are too few for a file of their own."""
    for run in spans(sizes):
        if sum(sizes[unit] for unit in run) < limits.smallest:
            beside = (
                file for file in kept if run.stop == file.units[0].start or run.start == file.units[0].stop
            )
            if found := next(beside, None):
                return found
    return None


def plan_without(
    file: MergedFile, units: frozenset[int], unit_size: int, limits: MergeLimits
) -> tuple[tuple[Group, ...], ...]:
    """What is left of a merged file without some units, to be written anew: one run, or none."""
    left = {unit: size for unit, size in unit_sizes(file).items() if unit not in units}
    return (tuple(_groups(sorted(left), left, unit_size, limits)),) if left else ()


def unit_sizes(file: MergedFile) -> dict[int, int]:
    """About how many bytes each unit of a merged file takes."""
    units = [unit for span in file.units for unit in span]
    return dict.fromkeys(units, max(1, file.size // len(units)))


def ends_here(written: int, read: int, left: int, limits: MergeLimits) -> bool:
    """Whether a merged file ends before its next row group.

    Args:
        written: Bytes of the file so far.
        read: Bytes of the parts that have gone into it.
        left: Bytes of the parts of its run that are still to come.
        limits: How large a file should be.
    """
    will_be_written = left * written / max(1, read)
    return written >= limits.target and will_be_written >= limits.smallest


def _groups(
    units: Sequence[int], sizes: Mapping[int, int], unit_size: int, limits: MergeLimits
) -> Iterator[Group]:
    most_units = max(1, limits.group_rows // unit_size)
    group: list[int] = []
    size = 0
    for unit in units:
        if group and (len(group) == most_units or size + sizes[unit] > limits.group_bytes):
            yield Group(tuple(group), size)
            group, size = [], 0
        group.append(unit)
        size += sizes[unit]
    if group:
        yield Group(tuple(group), size)
