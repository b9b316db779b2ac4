"""How fast stylebatch is, beside what people use today; the table in docs/benchmarks.md.

    python benchmarks/bench.py [ROW ...]

prints a row of the table for each name (all of them without a name), and how long it took. Everything is a
ratio taken in one run, the two sides in turn on the same threads: machines are shared and their speed changes
from minute to minute.
"""

import sys
import tempfile
import time
from pathlib import Path

import torch
from measures import ROWS
from peers import THREADS


def main(names: list[str]) -> int:
    """Measure the rows of these names."""
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        print(f"there is no row {', '.join(unknown)}; the rows are {', '.join(ROWS)}", file=sys.stderr)
        return 2
    torch.set_num_threads(THREADS)
    print("| row | what | target | measured |")
    print("|---|---|---|---|")
    for name in names or ROWS:
        what, target, measure = ROWS[name]
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            print(f"| {name} | {what} | {target} | {measure(Path(folder))} |", flush=True)
        print(f"{name}: {(time.monotonic() - started) / 60:.1f} min", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
