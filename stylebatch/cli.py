"""The commands: parse, call the library, print. The only module that prints or exits."""

import argparse
import itertools
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import stylebatch
from stylebatch.errors import JobStoppedError, RecipeError, StylebatchError
from stylebatch.recipe import FILE_SUFFIXES, PRESETS, Recipe, parse_fields

ALL_OK, SOME_FAILED, REFUSED, STOPPED = 0, 1, 2, 3
"""Exit codes: every pair ok; some pairs failed; refused before any work; stopped part-way, resumable."""

PLAN_PAIRS = 2000
"""Pairs whose images ``validate`` looks at."""
LINE_EVERY = 5.0
"""Seconds between progress lines where there is no terminal."""

Command = Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    command: Command = options.command
    try:
        return command(options)
    except JobStoppedError as error:
        _complain(error)
        print("Run the same command again to go on where it stopped.", file=sys.stderr)
        return STOPPED
    except StylebatchError as error:
        _complain(error)
        return REFUSED
    except KeyboardInterrupt:
        print("\nInterrupted. Run the same command again to go on where it stopped.", file=sys.stderr)
        return STOPPED


def _complain(error: StylebatchError) -> None:
    print(f"stylebatch: {error}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="stylebatch",
        description="A Neural Algorithm of Artistic Style (Gatys, Ecker, Bethge 2015) over collections.",
        epilog="Exit codes: 0 all ok, 1 some pairs failed, 2 refused before any work, 3 stopped part-way.",
    )
    parser.add_argument("--version", action="version", version=f"stylebatch {stylebatch.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (_add_run, _add_stylize, _add_manifest, _add_validate, _add_show, _add_demo):
        add(commands)
    return parser


def _add_run(commands: Any) -> None:
    run = commands.add_parser("run", help="run the pairs of a manifest", description=_run.__doc__)
    run.add_argument(
        "manifest", metavar="MANIFEST", help="a Parquet file or a folder of them, local or s3://"
    )
    run.add_argument("--output", "-o", required=True, metavar="OUT", help="a folder, local or s3://")
    _add_recipe_options(run)
    _add_worker_options(run)
    run.add_argument(
        "--unit-size", type=_positive, metavar="N", help="rows finished and published together (256)"
    )
    run.set_defaults(command=_run)


def _add_picture_limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-pixels", type=_positive, metavar="N", help="refuse source images of more pixels (200 million)"
    )


def _add_worker_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=_positive, metavar="N", help="default: by GPUs, or by cores")
    parser.add_argument(
        "--address", metavar="RAY", help="a Ray cluster (auto, host:port); default: Ray on this machine"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "gpu"), default="auto", help="auto: GPUs if Ray has any"
    )
    parser.add_argument(
        "--batch", type=_positive, metavar="N", help="at most N pictures in a forward pass; default: by size"
    )
    _add_picture_limit(parser)


def _add_recipe_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", metavar="NAME", help=f"start from a recipe: {', '.join(PRESETS)}")
    parser.add_argument("--recipe", metavar="FILE.yaml", help="recipe fields from a YAML file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="set one recipe field; repeatable"
    )


def _add_stylize(commands: Any) -> None:
    one = commands.add_parser("stylize", help="stylize one picture", description=_stylize.__doc__)
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
    one.set_defaults(command=_stylize)


def _add_manifest(commands: Any) -> None:
    make = commands.add_parser("manifest", help="make a manifest", description=_manifest.__doc__)
    make.add_argument(
        "contents", nargs="+", metavar="CONTENT", help="images, folders, globs or s3:// prefixes"
    )
    make.add_argument("--style", nargs="+", required=True, metavar="STYLE", help="likewise")
    make.add_argument("--output", "-o", required=True, metavar="OUT.parquet", help="the manifest to write")
    make.set_defaults(command=_manifest)


def _add_validate(commands: Any) -> None:
    check = commands.add_parser("validate", help="check a manifest", description=_validate.__doc__)
    check.add_argument("manifest", metavar="MANIFEST", help="a Parquet file or a folder of them")
    _add_recipe_options(check)
    _add_picture_limit(check)
    check.set_defaults(command=_validate)


def _add_show(commands: Any) -> None:
    show = commands.add_parser("show", help="print how a picture was made", description=_show.__doc__)
    show.add_argument("file", metavar="FILE", help="a PNG or JPEG that stylebatch made")
    show.set_defaults(command=_show)


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser("demo", help="stylize a few photographs", description=_demo.__doc__)
    demo.add_argument("--output", "-o", default="demo-output", metavar="OUT", help="a folder (demo-output)")
    _add_worker_options(demo)
    demo.set_defaults(command=_demo, unit_size=None)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def _run(options: argparse.Namespace) -> int:
    """Stylize every pair of a manifest. Run again, it goes on where it stopped."""
    return _run_manifest(options, options.manifest, options.output, _recipe(options))


def _run_manifest(options: argparse.Namespace, manifest_uri: str, output: str, recipe: Recipe) -> int:
    from stylebatch.cluster.driver import run_job
    from stylebatch.cluster.jobs import make_job
    from stylebatch.display import closing_lines
    from stylebatch.job import DEFAULT_UNIT_SIZE
    from stylebatch.pictures import DEFAULT_MAX_PIXELS
    from stylebatch.storage import UriStore

    store = UriStore()
    job = make_job(store, manifest_uri, output, recipe, options.unit_size or DEFAULT_UNIT_SIZE)
    print(f"{job.manifest.num_rows} pairs from {job.manifest.uri}")
    with _progress_shown() as observe:
        tally = run_job(
            job,
            store,
            workers=options.workers,
            address=options.address,
            device=options.device,
            largest_batch=options.batch,
            max_pixels=options.max_pixels or DEFAULT_MAX_PIXELS,
            observe=observe,
        )
    print(*closing_lines(tally, job.manifest.num_rows, job.output), sep="\n")
    return SOME_FAILED if tally.failed else ALL_OK


@contextmanager
def _progress_shown() -> Iterator[Callable[[Any], None]]:
    """An observer that shows a live table on a terminal, and a line every few seconds elsewhere."""
    from rich.console import Console
    from rich.live import Live

    from stylebatch.display import live_view, progress_line

    console = Console()
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            yield lambda progress: live.update(live_view(progress))
        return
    last_line = -LINE_EVERY

    def print_line(progress: Any) -> None:
        nonlocal last_line
        if time.monotonic() - last_line >= LINE_EVERY:
            last_line = time.monotonic()
            print(progress_line(progress), flush=True)

    yield print_line


def _stylize(options: argparse.Namespace) -> int:
    """Stylize one picture. Write none for CONTENT to make a texture, none for STYLE to reconstruct."""
    from stylebatch.display import duration
    from stylebatch.manifest import resolve_locations
    from stylebatch.objectstore import resolve_uri
    from stylebatch.pair.stylize import stylize_file
    from stylebatch.pictures import DEFAULT_MAX_PIXELS
    from stylebatch.storage import UriStore

    recipe = resolve_locations(_with_format(_recipe(options), options))
    content = None if options.content == "none" else resolve_uri(options.content)
    styles = [resolve_uri(style) for style in options.styles if style != "none"]
    started = time.monotonic()
    with _evaluations_shown(recipe.iterations) as on_evaluation:
        solution = stylize_file(
            content,
            styles,
            resolve_uri(options.output),
            recipe,
            UriStore(),
            max_pixels=options.max_pixels or DEFAULT_MAX_PIXELS,
            on_evaluation=on_evaluation,
        )
    print(
        f"{options.output}: {solution.image.shape[2]} x {solution.image.shape[1]}, loss {solution.loss:.4g} "
        f"(content {solution.content_loss:.4g}, style {solution.style_loss:.4g}), {solution.evaluations} "
        f"evaluations ({solution.stop_reason}), {duration(time.monotonic() - started)}"
    )
    return ALL_OK


def _with_format(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    """The recipe with the format that the output's name asks for.

    Raises:
        RecipeError: The name asks for one format and ``--set format`` for another, or for none we write.
    """
    suffix = "." + options.output.rpartition(".")[2].lower()
    suffix = ".jpg" if suffix == ".jpeg" else suffix
    wanted = next((name for name, own in FILE_SUFFIXES.items() if own == suffix), None)
    is_set = any(text.startswith("format=") for text in options.set)
    if wanted is None or (is_set and recipe.format != wanted):
        raise RecipeError(
            f"{options.output} does not end as a file of its format does; use {FILE_SUFFIXES[recipe.format]} "
            f"for {recipe.format} (formats: {', '.join(FILE_SUFFIXES)})"
        )
    return recipe.replace({"format": wanted})


@contextmanager
def _evaluations_shown(iterations: int) -> Iterator[Callable[[int], None]]:
    """A progress bar over evaluations, on a terminal; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda evaluations: None
        return
    columns = (BarColumn(), MofNCompleteColumn(), "evaluations", TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=iterations)
        yield lambda evaluations: bar.update(task, completed=evaluations)


def _manifest(options: argparse.Namespace) -> int:
    """Make a manifest that pairs every content with every style."""
    from stylebatch.manifest import cross, find_pictures, write_manifest
    from stylebatch.objectstore import resolve_uri
    from stylebatch.storage import UriStore

    store = UriStore()
    contents, styles = (
        list(dict.fromkeys(itertools.chain.from_iterable(find_pictures(store, place) for place in places)))
        for places in (options.contents, options.style)
    )
    write_manifest(store, resolve_uri(options.output), cross(contents, styles))
    pairs = len(contents) * len(styles)
    print(f"{options.output}: {pairs} pairs ({len(contents)} contents, {len(styles)} styles)")
    print(f"Next: {_program()} run {options.output} --output OUT --preset photo")
    return ALL_OK


def _validate(options: argparse.Namespace) -> int:
    """Check every row of a manifest and say what a run would do."""
    from stylebatch.display import plan_lines
    from stylebatch.job import plan_run
    from stylebatch.manifest import open_manifest, validate
    from stylebatch.objectstore import resolve_uri
    from stylebatch.pictures import DEFAULT_MAX_PIXELS
    from stylebatch.results import RESERVED_COLUMNS
    from stylebatch.storage import UriStore

    store, recipe = UriStore(), _recipe(options)
    manifest = open_manifest(store, resolve_uri(options.manifest))
    validate(manifest, recipe, RESERVED_COLUMNS)
    pairs = itertools.islice(manifest.pairs(recipe), PLAN_PAIRS)
    plan = plan_run(pairs, store, max_pixels=options.max_pixels or DEFAULT_MAX_PIXELS)
    print(*plan_lines(plan, manifest.num_rows), sep="\n")
    return SOME_FAILED if plan.unreadable else ALL_OK


def _show(options: argparse.Namespace) -> int:
    """Print the recipe, losses, hashes and versions inside a picture that stylebatch made."""
    import yaml

    from stylebatch.objectstore import resolve_uri
    from stylebatch.pictures import read_provenance
    from stylebatch.storage import UriStore

    provenance = read_provenance(UriStore().get(resolve_uri(options.file)), options.file)
    print(yaml.safe_dump(provenance, sort_keys=False, default_flow_style=None, width=110), end="")
    return ALL_OK


def _demo(options: argparse.Namespace) -> int:
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
    code = _run_manifest(options, manifest, output, Recipe())
    sheet = join_uri(output, "contact-sheet.png")
    store.put(sheet, contact_sheet(store, read_results(store, output)))
    print(f"Contact sheet: {sheet}")
    print(f"The demo took {duration(time.monotonic() - started)}. Next, your own photos:")
    print(f"  {_program()} manifest PHOTOS/ --style PAINTING.jpg -o pairs.parquet")
    print(f"  {_program()} run pairs.parquet --output OUT --preset photo")
    return code


def _program() -> str:
    """What to type to get this program again."""
    return "stylebatch" if shutil.which("stylebatch") else sys.argv[0]


def _recipe(options: argparse.Namespace) -> Recipe:
    """The recipe of the options: the preset, then the file's fields, then each ``--set``."""
    recipe = Recipe.preset(options.preset or "paper")
    if options.recipe:
        recipe = recipe.replace(parse_fields(_read_yaml(options.recipe)))
    return recipe.replace(parse_fields(dict(_split_setting(text) for text in options.set)))


def _split_setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f"--set {text}: write FIELD=VALUE, as in --set style_weight=1e4")
    return name.strip(), value.strip()


def _read_yaml(location: str) -> dict[str, Any]:
    import yaml

    from stylebatch.objectstore import resolve_uri
    from stylebatch.storage import UriStore

    try:
        fields = yaml.safe_load(UriStore().get(resolve_uri(location)))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecipeError(f"{location} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(fields, dict):
        raise RecipeError(f"{location} holds no fields; write lines of the form field: value")
    return {str(name): value for name, value in fields.items()}
