"""One row of a designed manifest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stylebatch.errors import DesignError

MOST_ROWS = 200_000
"""Of a set."""


@dataclass(frozen=True)
class Stimulus:
    """One picture of a set: a replicate of a cell, or a foil."""

    cell: str
    """What it is, whichever replicate."""
    replicate: int
    """From 1."""
    levels: Mapping[str, str | None]
    """The label of each factor's level; None where a foil is none of them, or of several."""
    content: str | None
    """Canonical URI."""
    styles: tuple[str, ...]
    """Canonical URIs."""
    fields: Mapping[str, Any]
    """Recipe fields, its seed among them."""
    foil: str | None = None
    """The foil's label; None: a replicate of a cell."""
    foil_of: str | None = None
    """The label of the image that it is a foil of."""

    @property
    def pair_id(self) -> str:
        """Its name in the manifest, and its picture's."""
        return f"{self.cell}_r{self.replicate}"


def check_count(rows: int) -> None:
    """Raise DesignError for more rows than a set may have."""
    if rows > MOST_ROWS:
        raise DesignError(
            f"the set would have {rows:,} rows or more; at most {MOST_ROWS:,} are made: split the design"
        )
