"""The command ``status``: how a run stands, from its output alone."""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from stylebatch.cli.exits import ALL_OK, RUNNING, SOME_FAILED, STOPPED

WATCH_SECONDS = 5.0
"""Between two looks."""


class Show(Protocol):
    """Shows a few lines, in place of the last ones where that is possible."""

    def __call__(self, lines: Iterable[str]) -> None:
        """Show them."""
        ...


def status(options: argparse.Namespace) -> int:
    """Say how a run stands: progress, rate, time left, failures by kind, workers, last heartbeat.

    Nothing but the output is asked, so this works from any machine that can read it. Exit codes: 0 finished,
    every pair ok; 1 finished, some failed; 2 there is no run, or it cannot be read; 3 nobody works on it (it
    was stopped, or its driver has died), and the same run command goes on; 4 a driver works on it.
    """
    from stylebatch.cluster.feature_status import find_features
    from stylebatch.job.status import find_job, read_status
    from stylebatch.objectstore import resolve_uri
    from stylebatch.storage import UriStore

    store, output = UriStore(), resolve_uri(options.output)
    with _shown(options.is_json, options.watch) as show:
        while True:
            found = read_status(store, output, finders=(find_job, find_features))
            show(_lines(found, options.is_json))
            code = _exit_code(found)
            if not options.watch or code != RUNNING:
                return code
            time.sleep(WATCH_SECONDS)


def _lines(found: Any, is_json: bool) -> Iterable[str]:
    from stylebatch.cli.status_lines import status_lines

    return [json.dumps(found.to_dict())] if is_json else status_lines(found)


def _exit_code(found: Any) -> int:
    from stylebatch.job.status import State

    if found.state == State.FINISHED:
        return SOME_FAILED if found.failed else ALL_OK
    return RUNNING if found.state == State.RUNNING else STOPPED


@contextmanager
def _shown(is_json: bool, is_watching: bool) -> Iterator[Show]:
    """Prints; while watching on a terminal, in one place."""
    if is_json or not is_watching or not sys.stdout.isatty():
        yield lambda lines: print(*lines, sep="\n", flush=True)
        return
    from rich.live import Live
    from rich.text import Text

    with Live(auto_refresh=False) as live:
        yield lambda lines: live.update(Text("\n".join(lines)), refresh=True)


def add_status(commands: Any) -> None:
    """Add ``status`` to the command line."""
    parser = commands.add_parser("status", help="say how a run stands", description=status.__doc__)
    parser.add_argument("output", metavar="OUT", help="the output folder of a run, local or s3://")
    parser.add_argument(
        "--json", action="store_true", dest="is_json", help="the facts as one object, on one line"
    )
    parser.add_argument(
        "--watch", action="store_true", help=f"look again every {WATCH_SECONDS:g} s until nobody works on it"
    )
    parser.set_defaults(command=status)
