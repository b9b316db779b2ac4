"""The command ``features``: what the network says of images, as a table."""

import argparse
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from stylebatch.cli.exits import ALL_OK, SOME_FAILED
from stylebatch.cli.settings import given
from stylebatch.cli.telling import events_logged, progress_shown
from stylebatch.recipe import DEFAULT_SIZE, PAPER_STYLE_LAYERS


def add_features(commands: Any, add_run_options: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add the command ``features`` to the others.

    Args:
        commands: What :meth:`argparse.ArgumentParser.add_subparsers` returned.
        add_run_options: Adds the options that say how many workers there are, where, of what kind, and who is
            told what happens.
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
    add_run_options(parser)
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
    with events_logged(options.log_json) as watchers:
        return _run_watched(options, watchers)


def _run_watched(options: argparse.Namespace, watchers: list[Any]) -> int:
    from stylebatch.cluster.features import make_request, run_features
    from stylebatch.cluster.options import RunOptions
    from stylebatch.storage import UriStore

    store, settings = UriStore(), _settings(options)
    request = make_request(store, _found(store, options.images), options.output, settings)
    print(f"{len(request.images)} images, {settings.row_bytes / 1e3:.4g} kB of features each")
    with progress_shown("image") as observe:
        tally = run_features(request, store, RunOptions(**given(RunOptions, options)), observe, watchers)
    print(*_closing_lines(tally, options.output), sep="\n")
    return SOME_FAILED if tally.failed else ALL_OK


def _settings(options: argparse.Namespace) -> Any:
    from stylebatch.pair.feature_request import FeatureSettings

    chosen = given(FeatureSettings, options)
    if options.layers:
        chosen.setdefault("content_layers", options.layers)
    return FeatureSettings(**chosen)


def _found(store: Any, places: list[str]) -> list[str]:
    """The pictures at these places, each once."""
    from stylebatch.manifest import find_pictures

    found = (find_pictures(store, place) for place in places)
    return list(dict.fromkeys(itertools.chain.from_iterable(found)))


def _closing_lines(tally: Any, output: str) -> Iterator[str]:
    yield f"{output}: {tally.ok} of {tally.ended} images measured, {tally.failed} failed"
    examples = [example for some in tally.error_examples.values() for example in some]
    yield from (f"  {example}" for example in examples)
    if tally.failed > len(examples):
        yield f"  ... and {tally.failed - len(examples)} more (column error)"
