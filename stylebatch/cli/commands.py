"""The commands that need no cluster: ``stylize``, ``manifest``, ``validate``, ``show``."""

import argparse
import itertools
import time

from stylebatch.cli.exits import ALL_OK, SOME_FAILED
from stylebatch.cli.settings import program, recipe_of
from stylebatch.cli.telling import bar_shown
from stylebatch.errors import RecipeError
from stylebatch.recipe import FILE_SUFFIXES, Recipe

PLAN_PAIRS = 2000
"""Pairs whose images ``validate`` looks at."""


def stylize(options: argparse.Namespace) -> int:
    """Stylize one picture. Write none for CONTENT to make a texture, none for STYLE to reconstruct."""
    from stylebatch.display import duration
    from stylebatch.objectstore import resolve_uri
    from stylebatch.pair.stylize import stylize_file
    from stylebatch.pairs import resolve_locations
    from stylebatch.pictures import DEFAULT_MAX_PIXELS
    from stylebatch.storage import UriStore

    recipe = resolve_locations(_with_format(recipe_of(options), options))
    content = None if options.content == "none" else resolve_uri(options.content)
    styles = [resolve_uri(style) for style in options.styles if style != "none"]
    started = time.monotonic()
    most = recipe.scales * recipe.iterations
    with bar_shown("evaluations") as show_bar:
        solution = stylize_file(
            content,
            styles,
            resolve_uri(options.output),
            recipe,
            UriStore(),
            max_pixels=options.max_pixels or DEFAULT_MAX_PIXELS,
            on_evaluation=lambda evaluations: show_bar(evaluations, most),
        )
    used = " + ".join(map(str, (*solution.smaller_evaluations, solution.evaluations)))
    print(
        f"{options.output}: {solution.image.shape[2]} x {solution.image.shape[1]}, loss {solution.loss:.4g} "
        f"(content {solution.content_loss:.4g}, style {solution.style_loss:.4g}), {used} "
        f"evaluations ({solution.stop_reason}), {duration(time.monotonic() - started)}"
    )
    return ALL_OK


def _with_format(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    """The recipe with the format that the output's name asks for.

    Raises:
        RecipeError: The name asks for one format and ``--set format`` for another, or for none we write.
    """
    suffix = "." + options.output.rpartition(".")[2].lower()
    suffix = {".jpeg": ".jpg", ".tiff": ".tif"}.get(suffix, suffix)
    wanted = next((name for name, own in FILE_SUFFIXES.items() if own == suffix), None)
    is_set = any(text.startswith("format=") for text in options.set)
    if wanted is None or (is_set and recipe.format != wanted):
        raise RecipeError(
            f"{options.output} does not end as a file of its format does; use {FILE_SUFFIXES[recipe.format]} "
            f"for {recipe.format} (formats: {', '.join(FILE_SUFFIXES)})"
        )
    return recipe.replace({"format": wanted})


def make_manifest(options: argparse.Namespace) -> int:
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
    print(f"Next: {program()} run {options.output} --output OUT --preset photo")
    return ALL_OK


def validate_manifest(options: argparse.Namespace) -> int:
    """Check every row of a manifest and say what a run would do."""
    from stylebatch.display import plan_lines
    from stylebatch.job import plan_run
    from stylebatch.manifest import open_manifest, validate
    from stylebatch.objectstore import resolve_uri
    from stylebatch.pictures import DEFAULT_MAX_PIXELS
    from stylebatch.results import RESERVED_COLUMNS
    from stylebatch.storage import UriStore

    store, recipe = UriStore(), recipe_of(options)
    manifest = open_manifest(store, resolve_uri(options.manifest))
    validate(manifest, recipe, RESERVED_COLUMNS)
    pairs = itertools.islice(manifest.pairs(recipe), PLAN_PAIRS)
    plan = plan_run(pairs, store, max_pixels=options.max_pixels or DEFAULT_MAX_PIXELS)
    print(*plan_lines(plan, manifest.num_rows), sep="\n")
    return SOME_FAILED if plan.unreadable else ALL_OK


def show(options: argparse.Namespace) -> int:
    """Print the recipe, losses, hashes and versions inside a picture that stylebatch made."""
    import yaml

    from stylebatch.objectstore import resolve_uri
    from stylebatch.pictures import fetch, read_provenance
    from stylebatch.storage import UriStore

    provenance = read_provenance(fetch(UriStore(), resolve_uri(options.file)), options.file)
    print(yaml.safe_dump(provenance, sort_keys=False, default_flow_style=None, width=110), end="")
    return ALL_OK
