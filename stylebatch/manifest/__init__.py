"""The manifest: a Parquet table of pairs, read in bounded memory through a store that is handed in."""

from stylebatch.manifest.building import PICTURE_SUFFIXES, cross, find_pictures, write_manifest
from stylebatch.manifest.reading import Manifest, open_manifest
from stylebatch.manifest.rows import Pair, resolve_locations
from stylebatch.manifest.validation import validate

__all__ = [
    "PICTURE_SUFFIXES",
    "Manifest",
    "Pair",
    "cross",
    "find_pictures",
    "open_manifest",
    "resolve_locations",
    "validate",
    "write_manifest",
]
