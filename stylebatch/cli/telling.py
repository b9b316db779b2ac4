"""What a command shows while it works, and the event log that a run writes."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from io import FileIO
from typing import Any

from stylebatch.errors import StorageError

LINE_EVERY = 5.0
"""Seconds between progress lines where there is no terminal."""


@contextmanager
def progress_shown(thing: str = "pair") -> Iterator[Callable[[Any], None]]:
    """An observer that shows a live table on a terminal, and a line every few seconds elsewhere.

    What the user should know besides is printed as it comes.

    Args:
        thing: What is counted.
    """
    from rich.console import Console
    from rich.live import Live

    from stylebatch.display import live_view

    console = Console()
    if not console.is_terminal:
        yield _line_printer(thing)
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:

        def show(progress: Any) -> None:
            for notice in progress.notices:
                console.print(notice, style="yellow", markup=False, highlight=False)
            live.update(live_view(progress, thing))

        yield show


def _line_printer(thing: str) -> Callable[[Any], None]:
    from stylebatch.display import progress_line

    last_line = -LINE_EVERY

    def print_lines(progress: Any) -> None:
        nonlocal last_line
        for notice in progress.notices:
            print(f"stylebatch: {notice}", file=sys.stderr, flush=True)
        if time.monotonic() - last_line >= LINE_EVERY:
            last_line = time.monotonic()
            print(progress_line(progress, thing), flush=True)

    return print_lines


@contextmanager
def bar_shown(thing: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing elsewhere; it is told how many of how many are done.

    Args:
        thing: What is counted, in the plural.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done, total: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), thing, TimeRemainingColumn())
    is_shared = sys.stdout.isatty()  # lines for a file go there, whatever the bar does
    with Progress(*columns, console=console, transient=True, redirect_stdout=is_shared) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def events_logged(place: str | None) -> Iterator[list[Any]]:
    """Who writes events to a file, if one is wanted; if it is standard output, words go to standard error."""
    if place is None:
        yield []
        return
    from stylebatch.cluster.event_log import event_log

    words = redirect_stdout(sys.stderr) if place == "-" else nullcontext()
    with _log_file(place) as file, words, event_log(file) as log:
        yield [log]


def _log_file(place: str) -> FileIO:
    if place == "-":
        return FileIO(os.dup(sys.stdout.fileno()), "w")
    try:
        return FileIO(place, "a")
    except OSError as error:
        raise StorageError(
            f"--log-json {place}: {error.strerror}; give a file on this machine, in a folder that exists"
        ) from error
