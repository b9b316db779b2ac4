"""The table of results: its schema and parts, the files that parts are merged into, and reading them back."""

from stylebatch.results.reading import Results, open_results, read_results
from stylebatch.results.schema import (
    COMPRESSION,
    RESERVED_COLUMNS,
    RESULT_SCHEMA,
    encode_part,
    encode_table,
    read_part,
)

__all__ = [
    "COMPRESSION",
    "RESERVED_COLUMNS",
    "RESULT_SCHEMA",
    "Results",
    "encode_part",
    "encode_table",
    "open_results",
    "read_part",
    "read_results",
]
