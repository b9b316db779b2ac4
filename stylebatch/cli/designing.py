"""``stylebatch design``: commands that make manifests of a kind."""

from typing import Any

from stylebatch.cli.equating import add_equated
from stylebatch.cli.stimuli import add_stimuli


def add_design(commands: Any) -> None:
    """Add ``design`` and the kinds of designs to the command line."""
    parser = commands.add_parser(
        "design", help="make the manifest of a stimulus set", description="Make the manifest of a design."
    )
    kinds = parser.add_subparsers(title="designs", required=True, metavar="DESIGN")
    for add in (add_stimuli, add_equated):
        add(kinds)
