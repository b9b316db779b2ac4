"""What the machinery around the synthesis can carry; the table in docs/benchmarks.md.

    python benchmarks/scale.py [ROW ...]

prints a row of the table for each name (all of them without a name), each measured in processes of its own.
Driver, storage and Ray are the real ones, and so are the workers but those of the row ``crowd``; pairs are
trivial: 16 pixels, no evaluation, one shallow layer.
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scale_jobs import TRIVIAL, fabricate, long_manifest, reopen, trivial_job

from stylebatch.cluster.driver import run_job
from stylebatch.cluster.jobs import make_job
from stylebatch.cluster.options import RunOptions
from stylebatch.cluster.progress import Observer, Progress
from stylebatch.errors import ManifestError
from stylebatch.job import Job
from stylebatch.manifest import open_manifest, validate
from stylebatch.objectstore import ObjectStore
from stylebatch.recipe import Recipe
from stylebatch.results import RESERVED_COLUMNS
from stylebatch.storage import UriStore

PAIRS = 6_000
FEW, MANY, LONG = 10_000, 1_000_000, 10_000_000
OPEN_UNITS = 20
SEATS, SEAT_SECONDS, SPREAD = 1000, 5.0, 0.3
ROUNDS = 20
"""Pairs for each seat."""


def peak_megabytes() -> int:
    """The most memory that this process ever had. ``ru_maxrss`` counts that of who started it, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) >> 10


def cpu_seconds() -> float:
    """Of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class Watch:
    """Notes how far a run had come when, and what the driver had computed until then."""

    def __init__(self) -> None:
        self.notes: list[tuple[float, float, int]] = []

    def __call__(self, progress: Progress) -> None:
        """Note the first moment, and each at which more pairs have ended."""
        is_ready = progress.seconds > 0
        if is_ready and (not self.notes or progress.new > self.notes[-1][2]):
            self.notes.append((time.monotonic(), cpu_seconds(), progress.new))

    def between(self, low: float, high: float) -> tuple[float, float, int]:
        """Seconds, CPU seconds and pairs between two shares of all pairs."""
        most = self.notes[-1][2]
        part = [note for note in self.notes if low * most <= note[2] <= high * most]
        seconds, cpu, pairs = (after - before for before, after in zip(part[0], part[-1], strict=True))
        return seconds, cpu, int(pairs)


def run(job: Job, store: ObjectStore, observe: Observer, **options: Any) -> None:
    """Run a job on this machine."""
    tally = run_job(job, store, RunOptions(**{"device": "cpu"} | options), observe)
    assert tally.failed == 0, tally.error_examples


def throughput(folder: Path) -> str:
    """Pairs a second, from the first worker's being ready to ``_SUCCESS``."""
    job, watch = trivial_job(folder, PAIRS), Watch()
    run(job, UriStore(), watch, workers=2)
    seconds = time.monotonic() - watch.notes[0][0]
    return f"{PAIRS / seconds:.0f} pairs a second ({PAIRS} in {seconds:.1f} s)"


def single(folder: Path) -> str:
    """What a pair costs the driver in batches of one, in which pictures of 512 pixels are made."""
    job, watch = trivial_job(folder, PAIRS), Watch()
    run(job, UriStore(), watch, workers=2, largest_batch=1)
    seconds, cpu, pairs = watch.between(0.1, 0.9)
    return f"{pairs / seconds:.0f} pairs a second; {told(cpu / pairs)}"


def told(driver_seconds: float) -> str:
    """The driver's CPU time for a pair, and how many GPUs it is enough for."""
    return (
        f"{1e3 * driver_seconds:.2f} ms of the driver's CPU time a pair, "
        f"enough for {SEAT_SECONDS / driver_seconds:,.0f} GPUs at {SEAT_SECONDS:g} s a pair"
    )


def crowd(folder: Path, seats: str = str(SEATS)) -> str:
    """A thousand workers that only wait: what each pair costs the driver, and how long they wait for it."""
    from scale_crowd import mean_seconds, seat_workers

    job, watch = trivial_job(folder, ROUNDS * int(seats)), Watch()
    seat_workers(int(seats), job.output, SEAT_SECONDS, SPREAD)
    run(job, UriStore(), watch, largest_batch=1)
    seconds, cpu, pairs = watch.between(0.3, 0.8)
    idle = 1 - pairs * mean_seconds(SEAT_SECONDS, SPREAD) / (seconds * int(seats))
    return (
        f"{seats} workers: idle {idle:.1%}; {told(cpu / pairs)}; it was busy {cpu / seconds:.0%} of the time"
    )


def memory(folder: Path) -> str:
    """The driver's peak for 10^4 and 10^6 rows; the long job finds all but 20 units finished."""
    peaks = {}
    for rows in (FEW, MANY):
        place = folder / str(rows)
        place.mkdir()
        job = unfinished(place, rows, OPEN_UNITS)
        peaks[rows] = int(inside("peak_of_run", place, ""))
    reopen(job, OPEN_UNITS)
    merging = int(inside("peak_of_run", place, "merge"))
    return (
        f"{peaks[FEW]} MB for {FEW:,} rows, {peaks[MANY]} MB for {MANY:,}: "
        f"{peaks[MANY] - peaks[FEW]} MB more; "
        f"{merging} MB if the parts are merged at the end"
    )


def peak_of_run(folder: Path, merge: str) -> str:
    """The peak of a process that only runs a job, beginning with its manifest."""
    run(job_of(folder), UriStore(), lambda progress: None, workers=2, merge=bool(merge))
    return str(peak_megabytes())


def unfinished(folder: Path, rows: int, open_units: int) -> Job:
    """A job of which only some units are left, their parts made without pictures."""
    job = trivial_job(folder, rows)
    fabricate(job, open_units)
    return job


def job_of(folder: Path) -> Job:
    """The job that stands in a folder."""
    return make_job(UriStore(), f"{folder}/pairs.parquet", f"{folder}/out", TRIVIAL)


def resume(folder: Path) -> str:
    """From the start of the process to the first new pair of a job with 10^6 finished rows."""
    units = len(unfinished(folder, MANY + 256 * OPEN_UNITS, OPEN_UNITS).units) - OPEN_UNITS
    seconds, requests = inside("resumed", folder, str(time.time())).split()
    return f"{float(seconds):.1f} s; {int(requests) / units:.2f} requests for each of {units} finished units"


class CountingStore(UriStore):
    """Counts what its process asks of parts."""

    calls = 0

    def _store(self, uri: str) -> ObjectStore:
        CountingStore.calls += "/results/" in uri
        return super()._store(uri)


def resumed(folder: Path, started: str) -> str:
    """Seconds and requests until a pair has ended."""
    found: list[tuple[float, int]] = []

    def note(progress: Progress) -> None:
        if progress.workers and len(found) == 0:
            found.append((0.0, CountingStore.calls))
        if progress.new and len(found) == 1:
            found.append((time.time() - float(started), 0))

    run(job_of(folder), CountingStore(), note, workers=2)
    return f"{found[1][0]} {found[0][1]}"


def validation(folder: Path) -> str:
    """A manifest of 10^7 rows in which three ids, or pairs, stand twice."""
    told = []
    for with_ids, what in ((True, "pair_id given"), (False, "ids made from the row")):
        manifest = folder / f"{with_ids}.parquet"
        long_manifest(manifest, LONG, with_ids)
        told.append(f"{what}: {inside('validated', manifest)}")
        manifest.unlink()
    return "; ".join(told)


def validated(manifest: Path) -> str:
    """Seconds, peak, and what was found."""
    started, found = time.monotonic(), ""
    try:
        validate(open_manifest(UriStore(), str(manifest)), Recipe(), RESERVED_COLUMNS)
    except ManifestError as error:
        found = str(error)
    lines = found.splitlines()[1:]
    assert len(lines) == 3, found
    assert all("pair_id" in line for line in lines), found
    return f"{time.monotonic() - started:.0f} s, peak {peak_megabytes()} MB"


ROWS: Mapping[str, tuple[str, str, Callable[[Path], str]]] = {
    "throughput": (
        "pairs through driver, workers, local storage, records and parts",
        "150 a second",
        throughput,
    ),
    "single": ("the same in batches of one", "", single),
    "crowd": ("1,000 workers that wait 5 s a pair", "2,000 GPUs", crowd),
    "memory": ("driver's peak memory from 10^4 to 10^6 rows", "50 MB more; 500 MB", memory),
    "validation": ("validating 10^7 rows", "3 min; 1 GB", validation),
    "resume": ("resuming with 10^6 finished rows, to the first new pair", "20 s", resume),
}
"""What is measured, the target, and how, by the row's name."""
INSIDE: Mapping[str, Callable[..., str]] = {
    **{name: measure for name, (_, _, measure) in ROWS.items()},
    "peak_of_run": peak_of_run,
    "resumed": resumed,
    "validated": validated,
}
"""What runs in a process of its own."""


def inside(name: str, *arguments: object) -> str:
    """What a function of this module returns in a process of its own."""
    command = [sys.executable, __file__, "--inside", name, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.splitlines()[-1]


def main(names: list[str]) -> int:
    """Measure the rows of these names."""
    if names[:1] == ["--inside"]:
        print(INSIDE[names[1]](Path(names[2]), *names[3:]))
        return 0
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        print(f"there is no row {', '.join(unknown)}; the rows are {', '.join(ROWS)}", file=sys.stderr)
        return 2
    print("| row | what | target | measured |\n|---|---|---|---|", flush=True)
    for name in names or ROWS:
        what, target, _ = ROWS[name]
        with tempfile.TemporaryDirectory() as folder:
            print(f"| {name} | {what} | {target} | {inside(name, folder)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
