"""A process that reads manifests which could end it, and says what came of each.

    python reading.py MEGABYTES FILE...

It may address so much memory at most, and prints for every file the verdict, the CPU seconds, and by how
many megabytes the most memory that it ever had has grown; then the same for all.
"""

import json
import resource
import sys
import time
from pathlib import Path

from stylebatch.errors import ManifestError
from stylebatch.manifest import open_manifest, validate
from stylebatch.recipe import Recipe
from stylebatch.results import RESERVED_COLUMNS
from stylebatch.storage import UriStore


def most_memory() -> int:
    """In megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def verdict(path: str) -> str:
    """``ok``, or the first words of the refusal."""
    try:
        manifest = open_manifest(UriStore(), path)
        validate(manifest, Recipe(), RESERVED_COLUMNS)
        manifest.extras(0, manifest.num_rows)
    except ManifestError as error:
        return str(error)[:1500]
    return "ok"


def main(megabytes: int, paths: list[str]) -> None:
    """Read each file, then print what came of them."""
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    verdict(str(Path(paths[0]).with_name("missing.parquet")))  # imports what is imported late
    found = {}
    for path in paths:
        before, started = most_memory(), time.process_time()
        found[path] = verdict(path), time.process_time() - started, most_memory() - before
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
