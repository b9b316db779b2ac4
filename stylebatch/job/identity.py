"""What makes a job this job, and the check that its output is its own."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stylebatch.errors import JobError, NotFoundError
from stylebatch.layout import FORMAT_VERSION, Layout
from stylebatch.manifest import Manifest
from stylebatch.objectstore import ObjectStore
from stylebatch.recipe import Recipe

DEFAULT_UNIT_SIZE = 256

RESTARTING: Mapping[str, Any] = {"format_version": FORMAT_VERSION, "restarting": True}
"""What ``job.json`` holds while an output is being emptied."""


@dataclass(frozen=True)
class Job:
    """A manifest, a default recipe and an output, with everything that decides what the output will hold."""

    manifest: Manifest
    """Validated."""
    recipe: Recipe
    """The recipe of rows that say nothing else."""
    output: str
    """Canonical folder URI."""
    weights_sha256: str
    """Of the weights that the default recipe names."""
    unit_size: int = DEFAULT_UNIT_SIZE
    """Rows that are finished and published together."""

    @property
    def layout(self) -> Layout:
        """Where the output's objects stand."""
        return Layout(self.output)

    def unit_rows(self, unit: int) -> range:
        """The rows of a unit."""
        first = unit * self.unit_size
        return range(first, min(first + self.unit_size, self.manifest.num_rows))

    @property
    def units(self) -> range:
        """All units."""
        return range(-(-self.manifest.num_rows // self.unit_size))

    def identity(self) -> dict[str, Any]:
        """What ``job.json`` holds: another value of any of these would make another output."""
        return {
            "format_version": FORMAT_VERSION,
            "manifest": self.manifest.uri,
            "manifest_sha256": self.manifest.fingerprint(),
            "rows": self.manifest.num_rows,
            "recipe": self.recipe.to_dict(),
            "weights_sha256": self.weights_sha256,
            "unit_size": self.unit_size,
        }


def claim_output(job: Job, store: ObjectStore) -> bool:
    """Write ``job.json``, or check that it is this job's.

    Returns:
        True for a new job, False for one that goes on.

    Raises:
        JobError: The output belongs to another job, of which the message lists every difference; or it was
            written in another format, is damaged, or a restart of it was interrupted.
    """
    theirs = read_identity(store, job.layout)
    if theirs is None:
        _refuse_leftovers(job, store)
        return store.put_if_absent(job.layout.job, encode_identity(job.identity())) or claim_output(
            job, store
        )
    if theirs.get("restarting"):
        raise JobError(f"a restart of {job.output} was interrupted; run again with --restart to complete it")
    differences = [*_differences(theirs, job.identity())]
    if differences:
        raise JobError(
            f"{job.output} is another job's output; give another --output, or repeat that job's settings:\n"
            + "\n".join(f"  {difference}" for difference in differences)
        )
    return False


def encode_identity(identity: Mapping[str, Any]) -> bytes:
    """The bytes of ``job.json``."""
    return json.dumps(identity, indent=2, sort_keys=True).encode()


def read_identity(store: ObjectStore, layout: Layout) -> dict[str, Any] | None:
    """What ``job.json`` holds; None if there is none.

    Raises:
        JobError: It is not a job's, or of another format.
    """
    try:
        identity = json.loads(store.get(layout.job))
    except NotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise JobError(f"{layout.job} is damaged: it is not JSON; give another --output") from error
    if isinstance(identity, dict) and "format_version" in identity:
        _refuse_other_format(layout.output, identity["format_version"])
        if identity.get("restarting") or isinstance(identity.get("recipe"), dict):
            return identity
    raise JobError(f"{layout.job} is not a stylebatch job; give another --output")


def _refuse_other_format(output: str, version: object) -> None:
    if version != FORMAT_VERSION:
        raise JobError(
            f"{output} was written by format {version}; this program reads and writes {FORMAT_VERSION}; "
            "use the version of stylebatch in its results (column stylebatch_version) or another --output"
        )


def _refuse_leftovers(job: Job, store: ObjectStore) -> None:
    """Results without a ``job.json`` are of nobody knows which job."""
    for folder in (job.layout.results, job.layout.all_records, job.layout.reopened):
        if found := next(iter(store.list(folder)), None):
            raise JobError(
                f"{job.output} holds {found.uri} but no job.json, so the job that made it is not known; "
                "put its job.json back, or give another --output"
            )


def _differences(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> Iterator[str]:
    """Every setting that differs; where the manifest lies does not count, what it holds does."""
    for name in dict.fromkeys([*mine, *theirs]):
        if name == "recipe":
            yield from (f"recipe: {line}" for line in _differences(theirs[name], mine[name]))
        elif name not in theirs:
            yield f"{name} is {mine[name]!r} here and not known there: an older stylebatch wrote it"
        elif name not in mine:
            yield f"{name} is {theirs[name]!r} there and not known here: a newer stylebatch wrote it"
        elif name != "manifest" and theirs[name] != mine[name]:
            yield f"{name} is {theirs[name]!r} there and {mine[name]!r} here"
