"""What a published picture has of the appearance that was asked of it, measured anew, against the table."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from stylebatch.pair.finishing import measured_appearance
from stylebatch.pair.loading import LoadedPair

APPEARANCE_TOLERANCE = 1e-4
"""Of each measure. They are sums in float64; but a reference is resized in float32."""


def appearance_problems(row: Mapping[str, Any], loaded: LoadedPair, pixels: Tensor) -> Iterator[str]:
    """What a result row says otherwise of the appearance: one clause each.

    Args:
        row: Of the table; one of an older version has no column ``achieved``.
        loaded: The pair's sources, with the images that its appearance comes from.
        pixels: Of the published picture, ``(3, H, W)``, 0..255.
    """
    if "achieved" not in row:
        return
    told, found = row["achieved"] or {}, measured_appearance(pixels, loaded)
    for name in dict.fromkeys([*told, *found]):
        one, other = told.get(name, math.nan), found.get(name, math.nan)
        if one is None or not abs(one - other) <= APPEARANCE_TOLERANCE:
            yield f"{name} achieved is {_said(one)} in the table and {_said(other)} as measured"


def _said(value: float | None) -> str:
    return "missing" if value is None or math.isnan(value) else f"{value:.7g}"
