"""Running manifests: ``run`` and ``demo``."""

import argparse
import time
from typing import Any

from stylebatch.cli.exits import ALL_OK, SOME_FAILED
from stylebatch.cli.settings import given, program, recipe_of
from stylebatch.cli.telling import events_logged, progress_shown
from stylebatch.recipe import Recipe


def run(options: argparse.Namespace) -> int:
    """Stylize every pair of a manifest. Run again, it goes on where it stopped."""
    return run_manifest(options, options.manifest, options.output, recipe_of(options))


def run_manifest(options: argparse.Namespace, manifest_uri: str, output: str, recipe: Recipe) -> int:
    """Run a manifest as the worker options say, and say how it went."""
    with events_logged(options.log_json) as watchers:
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
    with progress_shown() as observe:
        tally = run_job(job, store, RunOptions(**given(RunOptions, options)), observe, watchers)
    print(*closing_lines(tally, job.manifest.num_rows, job.output), sep="\n")
    return SOME_FAILED if tally.failed else ALL_OK


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
