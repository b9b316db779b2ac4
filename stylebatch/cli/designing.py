"""``design``: manifests of experiments that are laid out beforehand."""

from typing import Any

from stylebatch.cli.figures import add_figure_designs


def add_design(commands: Any) -> None:
    """Add ``design`` and its kinds to the commands."""
    meaning = "make the manifest of a designed experiment"
    parser = commands.add_parser("design", help=meaning, description=f"{meaning.capitalize()}.")
    kinds = parser.add_subparsers(title="designs", required=True, metavar="DESIGN")
    add_figure_designs(kinds)
