"""Running manifests: ``run`` and ``demo``, and what they show meanwhile."""

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from io import FileIO
from typing import Any

from stylebatch.cli.exits import ALL_OK, SOME_FAILED
from stylebatch.cli.settings import program, recipe_of
from stylebatch.errors import StorageError
from stylebatch.recipe import Recipe

LINE_EVERY = 5.0
"""Seconds between progress lines where there is no terminal."""


def run(options: argparse.Namespace) -> int:
    """Stylize every pair of a manifest. Run again, it goes on where it stopped."""
    return run_manifest(options, options.manifest, options.output, recipe_of(options))


def run_manifest(options: argparse.Namespace, manifest_uri: str, output: str, recipe: Recipe) -> int:
    """Run a manifest as the worker options say, and say how it went."""
    with _events_logged(options.log_json) as watchers:
        return _run_watched(options, manifest_uri, output, recipe, watchers)


def _run_watched(
    options: argparse.Namespace, manifest_uri: str, output: str, recipe: Recipe, watchers: list[Any]
) -> int:
    from stylebatch.cluster.driver import run_job
    from stylebatch.cluster.jobs import make_job
    from stylebatch.cluster.options import RunOptions
    from stylebatch.display import closing_lines
    from stylebatch.job import DEFAULT_UNIT_SIZE
    from stylebatch.storage import UriStore

    store = UriStore()
    job = make_job(store, manifest_uri, output, recipe, options.unit_size or DEFAULT_UNIT_SIZE)
    print(f"{job.manifest.num_rows} pairs from {job.manifest.uri}")
    given = {field.name: getattr(options, field.name, None) for field in dataclasses.fields(RunOptions)}
    run_options = RunOptions(**{name: value for name, value in given.items() if value is not None})
    with _progress_shown() as observe:
        tally = run_job(job, store, run_options, observe, watchers)
    print(*closing_lines(tally, job.manifest.num_rows, job.output), sep="\n")
    return SOME_FAILED if tally.failed else ALL_OK


@contextmanager
def _progress_shown() -> Iterator[Callable[[Any], None]]:
    """An observer that shows a live table on a terminal, and a line every few seconds elsewhere.

    What the user should know besides is printed as it comes.
    """
    from rich.console import Console
    from rich.live import Live

    from stylebatch.display import live_view

    console = Console()
    if not console.is_terminal:
        yield _line_printer()
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:

        def show(progress: Any) -> None:
            for notice in progress.notices:
                console.print(notice, style="yellow", markup=False, highlight=False)
            live.update(live_view(progress))

        yield show


def _line_printer() -> Callable[[Any], None]:
    from stylebatch.display import progress_line

    last_line = -LINE_EVERY

    def print_lines(progress: Any) -> None:
        nonlocal last_line
        for notice in progress.notices:
            print(f"stylebatch: {notice}", file=sys.stderr, flush=True)
        if time.monotonic() - last_line >= LINE_EVERY:
            last_line = time.monotonic()
            print(progress_line(progress), flush=True)

    return print_lines


@contextmanager
def _events_logged(place: str | None) -> Iterator[list[Any]]:
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


def demo(options: argparse.Namespace) -> int:
    """Stylize photographs that scikit-image carries, through the whole path, and make a contact sheet."""
    from stylebatch.design.demo import write_demo
    from stylebatch.display import duration
    from stylebatch.objectstore import join_uri, resolve_uri
    from stylebatch.report.contact_sheet import contact_sheet
    from stylebatch.results import read_results
    from stylebatch.storage import UriStore

    started = time.monotonic()
    store, output = UriStore(), resolve_uri(options.output)
    manifest = write_demo(store, output)
    code = run_manifest(options, manifest, output, Recipe())
    sheet = join_uri(output, "contact-sheet.png")
    store.put(sheet, contact_sheet(store, read_results(store, output)))
    print(f"Contact sheet: {sheet}")
    print(f"The demo took {duration(time.monotonic() - started)}. Next, your own photos:")
    print(f"  {program()} manifest PHOTOS/ --style PAINTING.jpg -o pairs.parquet")
    print(f"  {program()} run pairs.parquet --output OUT --preset photo")
    return code
