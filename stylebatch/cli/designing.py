"""``stylebatch design``: manifests of experiments that are laid out beforehand."""

from typing import Any

from stylebatch.cli.equating import add_equated
from stylebatch.cli.figures import add_figure_designs
from stylebatch.cli.stimuli import add_stimuli


def add_design(commands: Any) -> None:
    """Add ``design`` and its kinds to the commands."""
    meaning = "make the manifest of a designed experiment"
    parser = commands.add_parser("design", help=meaning, description=f"{meaning.capitalize()}.")
    kinds = parser.add_subparsers(title="designs", required=True, metavar="DESIGN")
    for add in (add_figure_designs, add_stimuli, add_equated):
        add(kinds)
