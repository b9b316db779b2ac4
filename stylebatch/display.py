"""How a run looks to who started it: a live table on a terminal, lines elsewhere. Prints nothing."""

from collections.abc import Iterable, Iterator

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from stylebatch.cluster.progress import Progress, WorkerProgress
from stylebatch.job import RunPlan, Tally
from stylebatch.work import Activity

MOST_SHAPES = 8
"""Shapes that a plan lists."""


def duration(seconds: float) -> str:
    """Seconds as people say them: ``42 s``, ``3 min 20 s``, ``5 h 07 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count(number: int, thing: str) -> str:
    """``1 pair``, ``2 pairs``."""
    return f"{number} {thing}{'' if number == 1 else 'es' if thing.endswith('ch') else 's'}"


def rate(per_hour: float, thing: str) -> str:
    """``240 pairs/h``, ``0.43 pairs/h``."""
    return f"{per_hour:.0f} {thing}s/h" if per_hour >= 10 else f"{per_hour:.2g} {thing}s/h"


def progress_line(progress: Progress, thing: str = "pair") -> str:
    """One line for a log: done, failed, rate, time left, workers.

    Args:
        progress: Where a run stands.
        thing: What is counted.
    """
    parts = [f"{progress.ok + progress.failed}/{progress.total} done", f"{progress.failed} failed"]
    if progress.pairs_per_hour is not None and progress.seconds_left is not None:
        parts += [rate(progress.pairs_per_hour, thing), f"{duration(progress.seconds_left)} left"]
    return ", ".join(parts) + " | " + "; ".join(activity_text(worker.activity) for worker in progress.workers)


def activity_text(activity: Activity) -> str:
    """What a worker is doing, in a few words."""
    if activity.stage != "synthesizing":
        return activity.stage
    more = f" and {len(activity.pair_ids) - 1} more" if len(activity.pair_ids) > 1 else ""
    return f"{activity.pair_ids[0]}{more} ({activity.evaluations}/{activity.iterations})"


def live_view(progress: Progress, thing: str = "pair") -> Group:
    """What the terminal shows while a run goes on.

    Args:
        progress: Where it stands.
        thing: What is counted.
    """
    done = progress.ok + progress.failed
    head = Table.grid(padding=(0, 2))
    bar = ProgressBar(total=max(1, progress.total), completed=done, width=40)
    head.add_row(bar, _summary(progress, thing))
    return Group(head, _worker_table(progress.workers))


def _summary(progress: Progress, thing: str) -> Text:
    text = Text(f"{progress.ok + progress.failed} of {count(progress.total, thing)}")
    if progress.failed:
        text.append(f"  {progress.failed} failed", style="red")
    if progress.pairs_per_hour is not None and progress.seconds_left is not None:
        text.append(f"  {rate(progress.pairs_per_hour, thing)}  {duration(progress.seconds_left)} left")
    return text


def _worker_table(workers: Iterable[WorkerProgress]) -> Table:
    table = Table.grid(padding=(0, 2))
    for number, worker in enumerate(workers, start=1):
        activity = worker.activity
        bar = ProgressBar(total=max(1, activity.iterations), completed=activity.evaluations, width=20)
        place = f"{worker.host} {worker.device}".strip()
        table.add_row(f"worker {number}", place, bar, Text(activity_text(activity)))
    return table


def closing_lines(tally: Tally, total: int, output: str) -> Iterator[str]:
    """What a run says at its end: how many failed, why, and where to look."""
    before = f" {tally.skipped} had ended before this run." if tally.skipped else ""
    yield f"{tally.ok} of {count(total, 'pair')} ok, {tally.failed} failed.{before}"
    for kind, number in tally.error_counts.most_common():
        yield f"  {number} x {kind}:"
        yield from (f"    {example}" for example in tally.error_examples[kind])
        if number > len(tally.error_examples[kind]):
            yield f"    ... and {number - len(tally.error_examples[kind])} more"
    yield f"Pictures: {output}/images"
    yield f"Table:    {output}/results (Parquet; status, losses, hashes and errors of every row)"


def plan_lines(plan: RunPlan, rows: int) -> Iterator[str]:
    """What ``validate`` says that a run would do."""
    yield f"{count(rows, 'pair')}: every row is valid."
    if plan.pairs < rows:
        yield f"Of the first {plan.pairs}:"
    shapes = plan.shapes.most_common()
    for (width, height), number in shapes[:MOST_SHAPES]:
        yield f"  {count(number, 'picture')} of {width} x {height}"
    if len(shapes) > MOST_SHAPES:
        yield f"  ... and {len(shapes) - MOST_SHAPES} more shapes"
    if plan.batches:
        yield f"  {count(plan.batches, 'batch')}, the largest of {count(plan.largest, 'picture')}"
        yield f"  about {plan.peak_bytes / 2**30:.1f} GB of memory in each CPU worker"
    if plan.unreadable:
        yield f"  {count(len(plan.unreadable), 'pair')} would fail:"
        yield from (f"    {reason}" for reason in plan.unreadable[:MOST_SHAPES])
        if len(plan.unreadable) > MOST_SHAPES:
            yield f"    ... and {len(plan.unreadable) - MOST_SHAPES} more"
