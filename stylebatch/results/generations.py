"""Which files of an output's results count, while the parts of many units become a few merged files.

``results/_generation.json`` lists the merged files of a generation and the units in each. What it lists
counts; the rows of every other unit are in its part. Putting that one small object is the only step that
changes what counts, so whoever looks finds the former set of files or the next, and never a mixture of both:

1. The merged files of the next generation are put into ``results/_merging/``, where neither this program nor
   a plain reader of the folder takes them for results, and are read back.
2. ``_generation.json`` is replaced.
3. The new files are copied to ``results/`` itself, and what no longer counts is deleted.

A driver that is killed before step 2 leaves the former set; one that is killed after it, the next, and the
next driver completes step 3. No merged file ever has the name of one of another generation.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

from stylebatch.errors import JobError, NotFoundError
from stylebatch.layout import FORMAT_VERSION, Layout, generation_of
from stylebatch.objectstore import ObjectStore

MOST_TRIES = 5
"""Times that a generation may be switched while somebody looks at what counts."""

Spans = tuple[range, ...]
"""Units in order, as ranges of consecutive ones."""


@dataclass(frozen=True)
class MergedFile:
    """One file with the rows of many units, as ``_generation.json`` has it."""

    name: str
    """Below ``results/``."""
    units: Spans
    """Those whose rows it holds, in this order."""
    rows: int
    """How many rows."""
    size: int
    """Bytes."""
    sha256: str
    """Of the file."""
    ok: int
    """Rows with a picture."""
    failed_units: Spans = ()
    """Units with a row that has none."""
    error_counts: Mapping[str, int] = field(default_factory=dict)
    """Rows without a picture by type of error."""
    error_examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """A few of each type, as ``pair_id: message``."""

    @property
    def failed(self) -> int:
        """Rows without a picture."""
        return self.rows - self.ok


@dataclass(frozen=True)
class Generation:
    """The merged files that count."""

    number: int
    """From 1; each switch adds one."""
    rows: int
    """Of the job."""
    unit_size: int
    """Rows of a unit; the job's last one may have fewer."""
    files: tuple[MergedFile, ...]
    """In order of their first unit."""

    @property
    def units(self) -> Iterator[int]:
        """All units whose rows are in these files."""
        return chain.from_iterable(span for file in self.files for span in file.units)


def spans(units: Iterable[int]) -> Spans:
    """Units in order, as ranges of consecutive ones."""
    found: list[range] = []
    for unit in sorted(units):
        if found and found[-1].stop == unit:
            found[-1] = range(found[-1].start, unit + 1)
        else:
            found.append(range(unit, unit + 1))
    return tuple(found)


def encode_generation(generation: Generation) -> bytes:
    """The bytes of ``_generation.json``; a span is its first and its last unit."""
    found = {"format_version": FORMAT_VERSION, **asdict(generation)}
    return json.dumps(found, indent=1, sort_keys=True, default=_span).encode()


def _span(value: range) -> list[int]:
    return [value.start, value.stop - 1]


def decode_generation(data: bytes, uri: str) -> Generation:
    """The generation that ``_generation.json`` describes.

    Raises:
        JobError: It does not describe one, or is of another format.
    """
    try:
        found = json.loads(data)
        version = found.pop("format_version")
        if version == FORMAT_VERSION:
            files = tuple(_file(values) for values in found.pop("files"))
            return Generation(**_integers(found), files=files)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise JobError(
            f"{uri} is damaged, and it alone says which files of results count; put it back from a copy"
        ) from error
    raise JobError(
        f"{uri} was written by format {version}; this program reads and writes {FORMAT_VERSION}; use the "
        "version of stylebatch in its results (column stylebatch_version) or another --output"
    )


def _file(values: dict[str, Any]) -> MergedFile:
    name, sha256 = (str(values.pop(key)) for key in ("name", "sha256"))
    units, failed = (tuple(_range(*span) for span in values.pop(key)) for key in ("units", "failed_units"))
    counts = _integers(values.pop("error_counts"))
    examples = {str(kind): tuple(map(str, found)) for kind, found in values.pop("error_examples").items()}
    if generation_of(name) is None:
        raise ValueError(f"{name} is no merged file's name")
    numbers = _integers(values)
    return MergedFile(
        name=name,
        units=units,
        rows=numbers.pop("rows"),
        size=numbers.pop("size"),
        sha256=sha256,
        ok=numbers.pop("ok"),
        failed_units=failed,
        error_counts=counts,
        error_examples=examples,
    )


def _range(first: int, last: int) -> range:
    return range(first, last + 1)


def _integers(values: Mapping[str, Any]) -> dict[str, int]:
    if not all(type(value) is int for value in values.values()):
        raise TypeError("a whole number is none")
    return dict(values)


@dataclass(frozen=True)
class Holdings:
    """What stands in an output's folder of results."""

    generation: Generation | None = None
    """None: nothing was ever merged."""
    parts: Mapping[int, int] = field(default_factory=dict)
    """The bytes of the parts that count, by unit, in order of it."""
    covered: frozenset[int] = frozenset()
    """Units of merged files that still have a part, or have it already."""
    hidden: frozenset[str] = frozenset()
    """Names of merged files that count and that plain readers do not see yet."""
    staged: frozenset[str] = frozenset()
    """Names of merged files that count and stand in ``results/_merging/``, too or alone."""
    stale: tuple[str, ...] = ()
    """URIs of merged files that do not count."""

    @property
    def files(self) -> tuple[MergedFile, ...]:
        """The merged files that count."""
        return self.generation.files if self.generation else ()

    @property
    def merged_units(self) -> frozenset[int]:
        """The units whose rows are in merged files."""
        return frozenset(self.generation.units) if self.generation else frozenset()


def read_generation(store: ObjectStore, layout: Layout) -> Generation | None:
    """The generation that counts; None if nothing was ever merged.

    Raises:
        JobError: Its description is damaged, or of another format.
    """
    try:
        return decode_generation(store.get(layout.generation), layout.generation)
    except NotFoundError:
        return None


def look_at_results(store: ObjectStore, layout: Layout) -> Holdings:
    """What counts, for the one driver that may change it: one listing, and a GET where parts were merged.

    Raises:
        JobError: A merged file that counts is missing or damaged, or nothing says which ones count.
    """
    sizes = {stored.uri: stored.size for stored in store.list(layout.results)}
    generation = read_generation(store, layout) if layout.generation in sizes else None
    return _holdings(layout, sizes, generation)


def look_from_outside(store: ObjectStore, layout: Layout) -> Holdings:
    """The same for somebody else, while the driver may be switching to another generation.

    If the generation is the same before and after the listing, nothing that counts was deleted meanwhile.
    """
    for _ in range(MOST_TRIES):
        before = read_generation(store, layout)
        sizes = {stored.uri: stored.size for stored in store.list(layout.results)}
        if read_generation(store, layout) == before:
            return _holdings(layout, sizes, before)
    raise JobError(f"{layout.results} changes all the time; wait until its parts are merged")


def _holdings(layout: Layout, sizes: Mapping[str, int], generation: Generation | None) -> Holdings:
    files = {file.name: file for file in (generation.files if generation else ())}
    merged = frozenset(generation.units) if generation else frozenset()
    found = ((layout.part_unit(uri), size) for uri, size in sizes.items())
    parts = dict(sorted((unit, size) for unit, size in found if unit is not None))
    staged = {name for name, file in files.items() if sizes.get(layout.staged(name)) == file.size}
    visible = {name for name, file in files.items() if sizes.get(layout.merged(name)) == file.size}
    if missing := files.keys() - staged - visible:
        raise JobError(_missing(layout, files[min(missing)], sizes))
    return Holdings(
        generation=generation,
        parts={unit: size for unit, size in parts.items() if unit not in merged},
        covered=merged & parts.keys(),
        hidden=frozenset(staged - visible),
        staged=frozenset(staged),
        stale=tuple(_stale(layout, sizes, generation)),
    )


def _missing(layout: Layout, file: MergedFile, sizes: Mapping[str, int]) -> str:
    uri = layout.merged(file.name)
    what = f"has {sizes[uri]} bytes instead of {file.size}" if uri in sizes else "is missing"
    return (
        f"{uri} {what}; it holds the results of {file.rows} rows (units {file.units[0].start} to "
        f"{file.units[-1].stop - 1}); put it back from a copy"
    )


def _stale(layout: Layout, sizes: Mapping[str, int], generation: Generation | None) -> Iterator[str]:
    """Merged files that do not count: of a former generation, or of a next one that was not switched to.

    Raises:
        JobError: One may count, but nothing says so.
    """
    names = {file.name for file in (generation.files if generation else ())}
    number = generation.number if generation else 0
    for uri in sizes:
        folder, _, name = uri.rpartition("/")
        new_in = generation_of(name)
        if new_in is None or name in names:
            continue
        if folder == layout.merging or (folder == layout.results and new_in <= number):
            yield uri
        elif folder == layout.results:
            raise JobError(
                f"{uri} holds merged results, but {layout.generation}, which says which files count, is "
                f"{'older' if generation else 'missing'}; put that one back from a copy"
            )
