"""``design equated``: the manifest that gives the pictures of a finished job the mean appearance of all."""

import argparse
from typing import Any

from stylebatch.cli.exits import ALL_OK
from stylebatch.cli.settings import program

REFERENCE_SUFFIX = "-histogram.png"
"""Of the picture beside the manifest that holds the mean histogram."""


def add_equated(kinds: Any) -> None:
    """Add ``equated`` to the kinds of designs."""
    kind = kinds.add_parser(
        "equated",
        help="a finished job's pictures, with the mean appearance of all",
        description=design_equated.__doc__,
    )
    kind.add_argument("results", metavar="OUT", help="the output of a job that has ended")
    kind.add_argument("--output", "-o", required=True, metavar="MANIFEST", help="the manifest to write")
    kind.add_argument(
        "--what",
        choices=("histogram", "luminance"),
        default="histogram",
        help="histogram: of each channel (default); luminance: its mean and RMS contrast",
    )
    kind.add_argument(
        "--light",
        choices=("linear", "srgb"),
        default="linear",
        help="where the mean is taken and the pictures are changed (linear)",
    )
    kind.set_defaults(command=design_equated)


def design_equated(options: argparse.Namespace) -> int:
    """Make the manifest that gives each picture of OUT the mean histogram or luminance of all."""
    from stylebatch.design.equating import (
        equated_table,
        mean_histogram,
        mean_luminance,
        stored_pictures,
    )
    from stylebatch.manifest import write_manifest
    from stylebatch.objectstore import resolve_uri
    from stylebatch.results import read_results
    from stylebatch.storage import UriStore

    store, manifest = UriStore(), resolve_uri(options.output)
    results = read_results(store, resolve_uri(options.results))
    pictures = stored_pictures(store, results)
    appearance: dict[str, Any] = {"light": options.light, "mean_luminance": None, "rms_contrast": None}
    if options.what == "histogram":
        reference = manifest.removesuffix(".parquet") + REFERENCE_SUFFIX
        store.put(reference, mean_histogram(pictures, options.light))
        appearance["histogram"] = reference
        told = f"the mean histogram ({options.light}) is in {reference}"
    else:
        mean, contrast = mean_luminance(pictures, options.light)
        appearance |= {"histogram": None, "mean_luminance": mean, "rms_contrast": contrast}
        told = f"mean luminance {mean:.4f}, RMS contrast {contrast:.4f} ({options.light})"
    table = equated_table(results, appearance)
    write_manifest(store, manifest, table)
    print(f"{options.output}: {table.num_rows} pictures; {told}")
    if left_out := results.num_rows - table.num_rows:
        print(f"Left out: {left_out} rows that failed and have no picture")
    print(f"Next: {program()} run {options.output} --output OUT")
    return ALL_OK
