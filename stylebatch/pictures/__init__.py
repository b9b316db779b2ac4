"""Bytes <-> pixels: file formats, colour, orientation, sizes, and the provenance inside published files.

What makes tensors is in :mod:`stylebatch.pictures.encoding`, apart, so that reading a header needs no torch.
"""

from stylebatch.pictures.decoding import decode, from_array, from_pillow
from stylebatch.pictures.fetching import fetch, stored_size
from stylebatch.pictures.headers import DEFAULT_MAX_PIXELS, header_size
from stylebatch.pictures.provenance import read_provenance
from stylebatch.pictures.sizes import (
    crop_corners,
    cropped,
    halved_sizes,
    output_size,
    resize,
    style_output_size,
)

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "crop_corners",
    "cropped",
    "decode",
    "fetch",
    "from_array",
    "from_pillow",
    "halved_sizes",
    "header_size",
    "output_size",
    "read_provenance",
    "resize",
    "stored_size",
    "style_output_size",
]
