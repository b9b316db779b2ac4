"""Photographs that scikit-image carries in its wheel, for the benchmarks beside this file."""

from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from stylebatch.pictures import decode, resize
from stylebatch.pictures.encoding import to_tensor


def photograph(name: str, longer_side: int) -> Tensor:
    """One of them by its name without suffix, as ``(3, H, W)``, RGB, 0..255."""
    package = find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("scikit-image is not installed; run: pip install 'stylebatch[demo]'")
    path = next(Path(package.submodule_search_locations[0], "data").glob(f"{name}.*g"))
    picture = decode(path.read_bytes(), str(path))
    scale = longer_side / max(picture.size)
    return to_tensor(resize(picture, (round(picture.width * scale), round(picture.height * scale))))
