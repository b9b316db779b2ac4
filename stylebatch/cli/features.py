"""The command ``features``: what the network says of images, as a table."""

import argparse
import dataclasses
import itertools
import sys
import time
from collections.abc import Callable
from typing import Any

from stylebatch.cli.exits import ALL_OK, SOME_FAILED
from stylebatch.recipe import DEFAULT_SIZE, PAPER_STYLE_LAYERS

LINE_EVERY = 5.0
"""Seconds between progress lines."""


def add_features(commands: Any, add_worker_options: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add the command ``features`` to the others.

    Args:
        commands: What :meth:`argparse.ArgumentParser.add_subparsers` returned.
        add_worker_options: Adds the options that say how many workers there are, where, and of what kind.
    """
    parser = commands.add_parser(
        "features", help="measure responses and Gram matrices", description=features.__doc__
    )
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="images, folders, globs or s3:// prefixes")
    parser.add_argument(
        "--output",
        "-o",
        required=True,
        metavar="OUT",
        help="OUT.parquet for one file; any other name is a folder of them",
    )
    _add_feature_options(parser)
    add_worker_options(parser)
    parser.set_defaults(command=features, is_resumable=True)


def _add_feature_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--layers", type=_names, metavar="L,L", help=f"of Gram matrices ({','.join(PAPER_STYLE_LAYERS)})"
    )
    parser.add_argument(
        "--content-layers", type=_names, metavar="L,L", help="of averaged responses (those of --layers)"
    )
    parser.add_argument("--size", type=int, metavar="N", help=f"the longer side in pixels ({DEFAULT_SIZE})")
    parser.add_argument(
        "--grid", type=int, metavar="N", help="average responses over N x N cells, each apart (1)"
    )
    parser.add_argument("--pooling", choices=("average", "max"), help="the network's (average)")
    parser.add_argument("--weights", metavar="NAME", help="caffe, torchvision, or a file of weights (caffe)")
    parser.add_argument("--weights-family", metavar="NAME", help="the input that a weights file wants")
    parser.add_argument(
        "--project", type=int, metavar="N", help="project longer Gram vectors to N numbers (none are)"
    )
    parser.add_argument("--project-seed", type=int, metavar="N", help="of the projection (0)")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def features(options: argparse.Namespace) -> int:
    """Measure images: averaged responses and Gram matrices, one row an image. Run again, it goes on."""
    from stylebatch.cluster.features import make_request, run_features
    from stylebatch.cluster.options import RunOptions
    from stylebatch.manifest import find_pictures
    from stylebatch.pair.feature_request import FeatureSettings
    from stylebatch.storage import UriStore

    content_layers = options.content_layers or options.layers
    settings = FeatureSettings(
        **_given(FeatureSettings, options) | _without_none(content_layers=content_layers)
    )
    store = UriStore()
    found = (find_pictures(store, place) for place in options.images)
    images = list(dict.fromkeys(itertools.chain.from_iterable(found)))
    request = make_request(store, images, options.output, settings)
    print(f"{len(images)} images, {settings.row_bytes / 1e3:.4g} kB of features each")
    tally = run_features(request, store, RunOptions(**_given(RunOptions, options)), _line_printer())
    print(f"{options.output}: {tally.measured} of {tally.total} images measured, {tally.failed} failed")
    for image, error in tally.examples:
        print(f"  {image}: {error}")
    if tally.failed > len(tally.examples):
        print(f"  ... and {tally.failed - len(tally.examples)} more (column error)")
    return SOME_FAILED if tally.failed else ALL_OK


def _given(kind: Any, options: argparse.Namespace) -> dict[str, Any]:
    """The fields of a dataclass that the options set."""
    return _without_none(
        **{field.name: getattr(options, field.name, None) for field in dataclasses.fields(kind)}
    )


def _without_none(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _line_printer() -> Callable[[Any], None]:
    from stylebatch.display import duration

    last_line = -LINE_EVERY

    def print_lines(progress: Any) -> None:
        nonlocal last_line
        for notice in progress.notices:
            print(f"stylebatch: {notice}", file=sys.stderr, flush=True)
        if time.monotonic() - last_line < LINE_EVERY:
            return
        last_line = time.monotonic()
        ended = progress.ok + progress.failed
        left = progress.seconds_left
        time_left = "" if left is None else f", {duration(left)} left"
        print(f"{ended}/{progress.total} images, {progress.failed} failed{time_left}", flush=True)

    return print_lines
