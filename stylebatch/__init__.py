"""stylebatch: the algorithm of Gatys, Ecker and Bethge over whole collections of images.

The public API is re-exported here, each name imported when it is first used: ``stylebatch --help`` needs no
torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from stylebatch.errors import StylebatchError
from stylebatch.recipe import PRESETS, Recipe

if TYPE_CHECKING:
    from stylebatch.pair.stylize import stylize
    from stylebatch.pictures.encoding import to_pillow
    from stylebatch.synthesis.optimizers import StopReason
    from stylebatch.synthesis.problems import Solution

__version__ = "0.1.0"

__all__ = ["PRESETS", "Recipe", "Solution", "StopReason", "StylebatchError", "stylize", "to_pillow"]

_HOMES = {
    "Solution": "stylebatch.synthesis.problems",
    "StopReason": "stylebatch.synthesis.optimizers",
    "stylize": "stylebatch.pair.stylize",
    "to_pillow": "stylebatch.pictures.encoding",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'stylebatch' has no attribute {name!r}")
