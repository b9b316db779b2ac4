"""Where the objects of an output of ``features`` stand.

Readers of a folder of Parquet files pass over names that begin with ``_``.
"""

from dataclasses import dataclass

from stylebatch.layout import part_name, part_number
from stylebatch.objectstore import join_uri
from stylebatch.pair.feature_request import names_one_file

PARTS_SUFFIX = ".parts"
"""Of the folder that holds the parts of a table that is one file."""
REQUEST_NAME = "_request.json"
"""Whose parts these are."""


@dataclass(frozen=True)
class FeatureLayout:
    """A Parquet file whose parts stand beside it until it is there, or a folder of parts."""

    output: str
    """Canonical URI."""

    @property
    def is_one_file(self) -> bool:
        """Whether the parts are put together at the end; a folder holds them as they are."""
        return names_one_file(self.output)

    @property
    def results(self) -> str:
        """The folder of the parts, and of all that is said about them."""
        return self.output + PARTS_SUFFIX if self.is_one_file else self.output

    @property
    def request(self) -> str:
        """Whose parts these are."""
        return join_uri(self.results, REQUEST_NAME)

    @property
    def lease(self) -> str:
        """Who works on the output."""
        return join_uri(self.results, "_lease.json")

    @property
    def progress(self) -> str:
        """How far the driver has come, told by itself."""
        return join_uri(self.results, "_progress.json")

    @property
    def success(self) -> str:
        """That a folder has all its parts, with counts; a file says so by being there."""
        return join_uri(self.results, "_SUCCESS")

    def part(self, number: int) -> str:
        """A part of the table."""
        return join_uri(self.results, part_name(number))

    def part_unit(self, uri: str) -> int | None:
        """The number of a part's URI; None for anything else."""
        number = part_number(uri.removeprefix(self.results + "/"))
        return number if number is not None and uri == self.part(number) else None
