"""What can be typed: commands, their arguments and options."""

import argparse
from typing import Any

import stylebatch
from stylebatch.cli.arguments import gpu_share, positive, seconds, workers
from stylebatch.cli.commands import make_manifest, show, stylize, validate_manifest
from stylebatch.cli.designing import add_design
from stylebatch.cli.features import add_features
from stylebatch.cli.figures import add_figure
from stylebatch.cli.reporting import add_describe, add_similarity, add_verify
from stylebatch.cli.results import add_results
from stylebatch.cli.running import demo, run
from stylebatch.cli.status import add_status
from stylebatch.cli.submitting import add_submit
from stylebatch.cli.watching import add_watch_spot
from stylebatch.recipe import PRESETS


def make_parser() -> argparse.ArgumentParser:
    """The whole command line; ``command`` and ``is_resumable`` are set by the command chosen."""
    parser = argparse.ArgumentParser(
        prog="stylebatch",
        description="A Neural Algorithm of Artistic Style (Gatys, Ecker, Bethge 2015) over collections.",
        epilog="Exit codes: 0 all ok; 1 some pairs failed; 2 refused before any work; "
        "3 stopped part-way, and the same command goes on.",
    )
    parser.set_defaults(is_resumable=False)
    parser.add_argument("--version", action="version", version=f"stylebatch {stylebatch.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_run(commands)
    add_submit(commands, _add_run_options)
    for add in (_add_stylize, _add_manifest, add_design, _add_validate, _add_show):
        add(commands)
    for add in (add_status, add_results, add_figure, add_describe, add_verify, add_similarity):
        add(commands)
    add_features(commands, _add_feature_running)
    add_watch_spot(commands)
    _add_demo(commands)
    return parser


def _add_run(commands: Any) -> None:
    parser = commands.add_parser("run", help="run the pairs of a manifest", description=run.__doc__)
    _add_run_options(parser)
    parser.set_defaults(command=run, is_resumable=True)


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "manifest", metavar="MANIFEST", help="a Parquet file or a folder of them, local or s3://"
    )
    parser.add_argument("--output", "-o", required=True, metavar="OUT", help="a folder, local or s3://")
    _add_recipe_options(parser)
    _add_worker_options(parser)
    _add_checkpoints(parser)
    _add_telling(parser)
    parser.add_argument(
        "--unit-size", type=positive, metavar="N", help="rows finished and published together (256)"
    )
    parser.add_argument(
        "--no-merge",
        dest="merge",
        action="store_const",
        const=False,
        help="leave the results in one file for each unit; default: merge many into few at the end",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--retry-failed", action="store_true", help="run the rows again that failed")
    again.add_argument(
        "--restart", action="store_true", help="delete the results in OUT and start over; never the default"
    )


def _add_picture_limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-pixels", type=positive, metavar="N", help="refuse source images of more pixels (200 million)"
    )


def _add_worker_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        type=workers,
        metavar="N",
        help="N; MIN:MAX, as the cluster has room; auto (default): by GPUs or cores, more as machines join",
    )
    parser.add_argument(
        "--gpus-per-worker", type=gpu_share, metavar="X", help="below 1, workers share a GPU (1)"
    )
    parser.add_argument(
        "--address", metavar="RAY", help="a Ray cluster (auto, host:port); default: Ray on this machine"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "gpu"), default="auto", help="auto: GPUs if Ray has any"
    )
    parser.add_argument(
        "--batch",
        type=positive,
        dest="largest_batch",
        metavar="N",
        help="at most N pictures in a forward pass (by size); with 1, every run gives the same files",
    )
    for name, meaning in (
        ("--stall-timeout", "seconds without progress after which a worker is replaced (600)"),
        ("--grace", "seconds that running batches have to finish after SIGTERM or Ctrl-C (30)"),
    ):
        parser.add_argument(name, type=seconds, metavar="S", help=meaning)
    _add_picture_limit(parser)


def _add_checkpoints(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint-seconds",
        type=seconds,
        metavar="S",
        help="seconds of synthesis between two checkpoints of a pair (60)",
    )


def _add_telling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log-json", metavar="FILE", help="append every event as a line of JSON; - is standard output"
    )
    parser.add_argument(
        "--metrics",
        action=argparse.BooleanOptionalAction,
        help="count for Prometheus what happens; default: with --address",
    )


def _add_feature_running(parser: argparse.ArgumentParser) -> None:
    _add_worker_options(parser)
    _add_telling(parser)


def _add_recipe_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", metavar="NAME", help=f"start from a recipe: {', '.join(PRESETS)}")
    parser.add_argument("--recipe", metavar="FILE.yaml", help="recipe fields from a YAML file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="set one recipe field; repeatable"
    )


def _add_stylize(commands: Any) -> None:
    one = commands.add_parser("stylize", help="stylize one picture", description=stylize.__doc__)
    one.add_argument("content", metavar="CONTENT", help="the content image; none makes a texture")
    one.add_argument(
        "styles",
        nargs="+",
        metavar="STYLE",
        help="one or several style images; none reconstructs the content",
    )
    one.add_argument("--output", "-o", required=True, metavar="OUT.png", help="the file to write")
    _add_recipe_options(one)
    _add_picture_limit(one)
    one.set_defaults(command=stylize)


def _add_manifest(commands: Any) -> None:
    make = commands.add_parser("manifest", help="make a manifest", description=make_manifest.__doc__)
    make.add_argument(
        "contents", nargs="+", metavar="CONTENT", help="images, folders, globs or s3:// prefixes"
    )
    make.add_argument("--style", nargs="+", required=True, metavar="STYLE", help="likewise")
    make.add_argument("--output", "-o", required=True, metavar="OUT.parquet", help="the manifest to write")
    make.set_defaults(command=make_manifest)


def _add_validate(commands: Any) -> None:
    check = commands.add_parser("validate", help="check a manifest", description=validate_manifest.__doc__)
    check.add_argument("manifest", metavar="MANIFEST", help="a Parquet file or a folder of them")
    _add_recipe_options(check)
    _add_picture_limit(check)
    check.set_defaults(command=validate_manifest)


def _add_show(commands: Any) -> None:
    parser = commands.add_parser("show", help="print how a picture was made", description=show.__doc__)
    parser.add_argument("file", metavar="FILE", help="a PNG or JPEG that stylebatch made")
    parser.set_defaults(command=show)


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser("demo", help="stylize a few photographs", description=demo.__doc__)
    parser.add_argument("--output", "-o", default="demo-output", metavar="OUT", help="a folder (demo-output)")
    _add_worker_options(parser)
    _add_checkpoints(parser)
    parser.set_defaults(command=demo, is_resumable=True, unit_size=None, log_json=None)
