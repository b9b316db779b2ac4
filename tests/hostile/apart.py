"""What could end a process, or fill its memory, in a process of its own.

    python apart.py validate FILE...    what came of each manifest: verdict, CPU seconds, growth in megabytes
    python apart.py rows FILE           how many rows a manifest has, read one by one, and the growth
    python apart.py decode FILE         how many pixels a picture has, and the growth

Growth is by how much the most memory that the process ever had has grown.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from stylebatch.errors import ManifestError
from stylebatch.manifest import open_manifest, validate
from stylebatch.pictures import decode
from stylebatch.recipe import Recipe
from stylebatch.results import RESERVED_COLUMNS
from stylebatch.storage import UriStore

ADDRESSABLE = 4 << 30
"""Bytes that the process may address; it begins with about 1.5 billion, most of them never used."""

Verdict = tuple[str, float, int]


def most_memory() -> int:
    """In megabytes. ``ru_maxrss`` will not do: it counts the memory of who started the process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) >> 10


def verdict(path: str) -> str:
    """``ok``, or the first words of the refusal."""
    try:
        manifest = open_manifest(UriStore(), path)
        validate(manifest, Recipe(), RESERVED_COLUMNS)
        manifest.extras(0, manifest.num_rows)
    except ManifestError as error:
        return str(error)[:1500]
    return "ok"


def validated(*paths: str) -> dict[str, Verdict]:
    """What came of each manifest."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSABLE, ADDRESSABLE))
    verdict(str(Path(paths[0]).with_name("missing.parquet")))  # imports what is imported late
    found = {}
    for path in paths:
        before, started = most_memory(), time.process_time()
        found[path] = verdict(path), time.process_time() - started, most_memory() - before
    return found


def counted(path: str) -> tuple[int, int]:
    """Rows, and the growth."""
    manifest = open_manifest(UriStore(), path)
    before = most_memory()
    return sum(1 for _ in manifest.rows()), most_memory() - before


def decoded(path: str) -> tuple[int, int]:
    """Pixels, and the growth."""
    data = Path(path).read_bytes()
    before = most_memory()
    width, height = decode(data, path).size
    return width * height, most_memory() - before


COMMANDS: dict[str, Callable[..., object]] = {"validate": validated, "rows": counted, "decode": decoded}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(COMMANDS[sys.argv[1]](*sys.argv[2:])))
