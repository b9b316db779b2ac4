"""The manifest: a Parquet table of pairs, read in bounded memory through a store that is handed in."""

from stylebatch.manifest.building import PICTURE_SUFFIXES, cross, find_pictures, write_manifest
from stylebatch.manifest.reading import Manifest, open_manifest
from stylebatch.manifest.validation import validate

__all__ = [
    "PICTURE_SUFFIXES",
    "Manifest",
    "cross",
    "find_pictures",
    "open_manifest",
    "validate",
    "write_manifest",
]
