"""``stylebatch design stimuli``: from a design file to a manifest, and what is balanced in it."""

import argparse
from typing import Any

from stylebatch.cli.exits import ALL_OK
from stylebatch.cli.settings import program


def add_stimuli(kinds: Any) -> None:
    """Add the command to those of ``stylebatch design``."""
    parser = kinds.add_parser(
        "stimuli", help="a factorial stimulus set from a YAML file", description=design_stimuli.__doc__
    )
    parser.add_argument("design", metavar="DESIGN.yaml", help="the design; docs/stimuli.md has its keys")
    parser.add_argument(
        "--output", "-o", required=True, metavar="MANIFEST.parquet", help="the manifest to write"
    )
    parser.set_defaults(command=design_stimuli)


def design_stimuli(options: argparse.Namespace) -> int:
    """Make the manifest of a stimulus set, and say what is balanced and what is confounded."""
    from stylebatch.design.balance_lines import balance_lines, contents_line
    from stylebatch.design.design_file import read_design
    from stylebatch.design.stimuli import make_stimuli, orders_location, write_stimuli
    from stylebatch.errors import DesignError
    from stylebatch.objectstore import resolve_uri
    from stylebatch.storage import UriStore

    store = UriStore()
    design = read_design(store, options.design)
    try:
        stimuli = make_stimuli(store, design)
    except DesignError as error:
        raise DesignError(f"{resolve_uri(options.design)}: {error}") from None
    write_stimuli(store, resolve_uri(options.output), stimuli)
    balance = stimuli.balance
    print(f"{options.output}: {contents_line(balance)}")
    if balance.orders:
        orders = orders_location(options.output)
        print(f"{orders}: participants: {balance.orders.participants}, trials of each: {balance.rows}")
    print("Balance:")
    for line in balance_lines(balance):
        print(f"  {line}")
    for note in stimuli.notes:
        print(f"Note: {note}")
    print(f"Next: {program()} run {options.output} --output OUT")
    return ALL_OK
