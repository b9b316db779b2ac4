"""What a worker's memory holds before its first picture, import by import and library by library.

    python benchmarks/worker_memory.py

Linux only: it reads /proc. A library's memory is that of its file's pages and of the anonymous memory right
behind them, where its variables are.
"""

import importlib
import re
import sys
from collections import Counter
from pathlib import Path

from stylebatch.recipe import Recipe
from stylebatch.storage import UriStore

IMPORTS = ("ray", "torch", "stylebatch.cluster.worker", "stylebatch.pair.batch")
MOST = 8
"""Libraries that are listed."""
MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+\s*(.*)$")


def resident() -> float:
    """This process's memory, in megabytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found.group(1)) * 1024 / 1e6 if found else 0.0


def by_library() -> Counter[str]:
    """Resident kilobytes by the name of the file that they are of, or stand behind."""
    found: Counter[str] = Counter()
    owner = ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if mapping := MAPPING.match(line):
            owner = Path(mapping.group(1)).name or owner
        elif line.startswith("Rss:"):
            found[owner] += int(line.split()[1])
    return found


def main() -> int:
    """Print both tables."""
    before = resident()
    print(f"Python and what this script imports: {before:.0f} MB")
    for name in IMPORTS:
        importlib.import_module(name)
        print(f"import {name}: {resident() - before:+.0f} MB")
        before = resident()
    libraries = by_library()
    from stylebatch.pair.networks import load_network

    network = load_network(Recipe(), UriStore(), deepest=Recipe().deepest_layer)
    print(f"the network up to {network.deepest}: {resident() - before:+.0f} MB")
    print("The largest, by library:")
    for name, kilobytes in libraries.most_common(MOST):
        print(f"  {name}: {kilobytes * 1024 / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
