"""What makes a job this job, and the check that its output is its own."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stylebatch.errors import JobError
from stylebatch.manifest import Manifest
from stylebatch.objectstore import ObjectStore
from stylebatch.recipe import Recipe
from stylebatch.results import FORMAT_VERSION, Layout

DEFAULT_UNIT_SIZE = 256


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
        JobError: The output belongs to another job; the message lists every difference.
    """
    mine = job.identity()
    data = json.dumps(mine, indent=2, sort_keys=True).encode()
    if store.put_if_absent(job.layout.job, data):
        return True
    theirs = _read_identity(store, job.layout.job)
    differences = [*_differences(theirs, mine)]
    if differences:
        raise JobError(
            f"{job.output} is another job's output; give another --output, or repeat that job's settings:\n"
            + "\n".join(f"  {difference}" for difference in differences)
        )
    return False


def _read_identity(store: ObjectStore, uri: str) -> dict[str, Any]:
    try:
        identity = json.loads(store.get(uri))
    except (ValueError, RecursionError) as error:
        raise JobError(f"{uri} is damaged: it is not JSON; give another --output") from error
    if not isinstance(identity, dict) or not isinstance(identity.get("recipe"), dict):
        raise JobError(f"{uri} is not a stylebatch job; give another --output")
    return identity


def _differences(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> Iterator[str]:
    """Every setting that differs; where the manifest lies does not count, what it holds does."""
    for name, here in mine.items():
        there = theirs.get(name)
        if name == "recipe":
            yield from (f"recipe: {line}" for line in _differences(there or {}, here))
        elif name != "manifest" and there != here:
            yield f"{name} is {there!r} there and {here!r} here"
