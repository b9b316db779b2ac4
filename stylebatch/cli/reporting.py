"""The commands on a finished output: ``describe``, ``verify``, ``similarity``."""

import argparse
import time
from typing import Any

from stylebatch.cli.arguments import positive, whole
from stylebatch.cli.exits import ALL_OK, SOME_FAILED
from stylebatch.cli.telling import bar_shown


def describe(options: argparse.Namespace) -> int:
    """Write the methods paragraphs of a set, its table for other programs, and what every column means."""
    from stylebatch.objectstore import resolve_uri
    from stylebatch.report.describe import describe as write_description
    from stylebatch.storage import UriStore

    output = resolve_uri(options.output)
    folder = resolve_uri(options.folder) if options.folder else None
    written = write_description(UriStore(), output, folder)
    print(*written.files, sep="\n")
    print(f"{_count(written.ok, 'stimulus', 'stimuli')} described; {written.failed} failed.")
    if written.planned is not None and written.ok + written.failed < written.planned:
        print(f"The job is not finished: {written.ok + written.failed} of {written.planned} rows have ended.")
    return ALL_OK


def verify(options: argparse.Namespace) -> int:
    """Compute the losses of published pictures anew, check every hash, and make a few pictures again.

    Exit code 0: the table tells the truth; 1: it does not, with a line for each problem.
    """
    from stylebatch.audit.devices import threads_of_a_worker, torch_device
    from stylebatch.audit.verdict import VerifyOptions, verdict_lines
    from stylebatch.audit.verifying import verify as verify_output
    from stylebatch.display import duration
    from stylebatch.objectstore import resolve_uri
    from stylebatch.pictures import DEFAULT_MAX_PIXELS
    from stylebatch.storage import UriStore

    how = VerifyOptions(
        resynthesize=options.resynthesize,
        seed=options.seed,
        device=torch_device(options.device),
        threads=options.threads or threads_of_a_worker(),
        max_pixels=options.max_pixels or DEFAULT_MAX_PIXELS,
    )
    started = time.monotonic()
    with bar_shown("pictures") as on_row:
        verdict = verify_output(UriStore(), resolve_uri(options.output), how, _complain, on_row)
    print(*verdict_lines(verdict), sep="\n")
    print(f"This took {duration(time.monotonic() - started)}.")
    return SOME_FAILED if verdict.problems else ALL_OK


def similarity(options: argparse.Namespace) -> int:
    """Write a table of how far stimuli are apart, from one another and from their sources."""
    from stylebatch.audit.devices import torch_device
    from stylebatch.audit.similarity import SimilarityOptions, compare
    from stylebatch.objectstore import resolve_uri
    from stylebatch.pictures import DEFAULT_MAX_PIXELS
    from stylebatch.storage import UriStore

    how = SimilarityOptions(
        layers=tuple(options.layers) if options.layers else None,
        to_sources_only=options.sources_only,
        device=torch_device(options.device),
        max_pixels=options.max_pixels or DEFAULT_MAX_PIXELS,
    )
    destination = resolve_uri(options.destination)
    with bar_shown("pictures") as on_stimulus:
        found = compare(UriStore(), resolve_uri(options.output), destination, how, on_stimulus)
    for notice in found.notices:
        print(f"Note: {notice}")
    without = f", {found.nulls} of them without a distance (see reason)" if found.nulls else ""
    stimuli = _count(found.stimuli, "stimulus", "stimuli")
    print(f"{destination}: {_count(found.rows, 'distance', 'distances')} of {stimuli}{without}")
    for space, layers in (("content", found.layers.content), ("style", found.layers.style)):
        print(f"  {space}: {', '.join(layers)}")
    return ALL_OK


def _complain(problem: object) -> None:
    print(problem, flush=True)


def _count(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"


def add_describe(commands: Any) -> None:
    """Add ``describe`` to the command line."""
    parser = commands.add_parser(
        "describe", help="write what a paper needs about a finished set", description=describe.__doc__
    )
    _add_output(parser)
    parser.add_argument(
        "--output", "-o", dest="folder", metavar="FOLDER", help="where to write (OUT/description)"
    )
    parser.set_defaults(command=describe)


def add_verify(commands: Any) -> None:
    """Add ``verify`` to the command line."""
    parser = commands.add_parser(
        "verify", help="check that the table of a finished set is true", description=verify.__doc__
    )
    _add_output(parser)
    parser.add_argument(
        "--resynthesize", type=whole, default=3, metavar="N", help="make so many pictures again (3)"
    )
    parser.add_argument("--seed", type=whole, default=0, metavar="S", help="decides which ones (0)")
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="torch threads, as the workers had; default: by cores"
    )
    _add_device(parser)
    parser.set_defaults(command=verify)


def add_similarity(commands: Any) -> None:
    """Add ``similarity`` to the command line."""
    parser = commands.add_parser(
        "similarity", help="measure how alike the stimuli of a set are", description=similarity.__doc__
    )
    _add_output(parser)
    parser.add_argument(
        "--output", "-o", dest="destination", required=True, metavar="TABLE", help="a .parquet or .tsv file"
    )
    parser.add_argument(
        "--layers", nargs="+", metavar="LAYER", help="compare in these; default: the recipes' layers"
    )
    parser.add_argument(
        "--sources-only", action="store_true", help="compare stimuli with their sources alone"
    )
    _add_device(parser)
    parser.set_defaults(command=similarity)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUT", help="the output folder of a run, local or s3://")


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", choices=("auto", "cpu", "gpu"), default="auto", help="auto: a GPU if there is one"
    )
    parser.add_argument(
        "--max-pixels", type=positive, metavar="N", help="refuse source images of more pixels (200 million)"
    )
