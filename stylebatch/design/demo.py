"""The demo: photographs from scikit-image's wheel, and the manifest that pairs them.

The package is located, never imported: its data are plain files, and its own loaders may go to the network.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from stylebatch.errors import JobError
from stylebatch.manifest import write_manifest
from stylebatch.objectstore import ObjectStore, join_uri

SOURCES = "sources"
"""The folder of the photographs, beside the demo's manifest."""
HINT = "run: pip install 'stylebatch[demo]'"


class DemoPair(NamedTuple):
    """One row of the demo's manifest."""

    pair_id: str
    """The name of the result."""
    content: str
    """The content's file name in scikit-image's ``data`` folder."""
    style: str
    """The style's file name there."""
    title: str
    """What the picture shows: an extra column, which travels to the results."""
    style_weight: float
    """β, for a content weight of 1."""


DEMO_PAIRS: tuple[DemoPair, ...] = (
    DemoPair("astronaut-ihc", "astronaut.png", "ihc.png", "An astronaut, under the microscope", 1e3),
    DemoPair("coffee-retina", "coffee.png", "retina.jpg", "Coffee, seen on a retina", 4e3),
    DemoPair("chelsea-gravel", "chelsea.png", "gravel.png", "Chelsea the cat, in gravel", 1e3),
    DemoPair("rocket-hubble", "rocket.jpg", "hubble_deep_field.jpg", "A rocket, bound for deep space", 5e2),
)

DEMO_RECIPE: Mapping[str, tuple[Any, pa.DataType]] = {
    "start": ("content", pa.string()),
    "size": (224, pa.int64()),
    "iterations": (100, pa.int64()),
}
"""The recipe columns that are the same in every row, with their types: a demo that ends in minutes."""


def demo_table(sources: str = SOURCES) -> pa.Table:
    """The demo's manifest.

    Args:
        sources: The folder of the photographs, as the manifest's URIs name it: relative to the manifest,
            or canonical.

    Returns:
        A row for each of :data:`DEMO_PAIRS`.
    """
    pairs = DEMO_PAIRS
    columns = {
        "pair_id": pa.array([pair.pair_id for pair in pairs], pa.string()),
        "content": pa.array([join_uri(sources, pair.content) for pair in pairs], pa.string()),
        "style": pa.array([join_uri(sources, pair.style) for pair in pairs], pa.string()),
        "style_weight": pa.array([pair.style_weight for pair in pairs], pa.float64()),
        "title": pa.array([pair.title for pair in pairs], pa.string()),
    }
    shared = {name: pa.array([value] * len(pairs), kind) for name, (value, kind) in DEMO_RECIPE.items()}
    return pa.table(columns | shared)


def write_demo(store: ObjectStore, folder: str) -> str:
    """Copy the demo's photographs to ``folder/sources``, and write ``folder/manifest.parquet`` beside it.

    Args:
        store: Where to write.
        folder: Canonical URI of a folder; files of the same names in it are replaced.

    Returns:
        The manifest's canonical URI.

    Raises:
        JobError: scikit-image is not installed, or does not carry one of the photographs.
        StorageError: A file cannot be written.
    """
    write_sources(store, join_uri(folder, SOURCES))
    manifest = join_uri(folder, "manifest.parquet")
    write_manifest(store, manifest, demo_table())
    return manifest


def write_sources(store: ObjectStore, folder: str) -> None:
    """Copy the demo's photographs, which the ready figures go over too, from the installed scikit-image.

    Args:
        store: Where to write.
        folder: Canonical URI of a folder; files of the same names in it are replaced.

    Raises:
        JobError: scikit-image is not installed, or does not carry one of the photographs.
        StorageError: A file cannot be written.
    """
    names = sorted({name for pair in DEMO_PAIRS for name in (pair.content, pair.style)})
    photographs = {name: _photograph(name) for name in names}
    for name, data in photographs.items():
        store.put(join_uri(folder, name), data)


def _photograph(name: str) -> bytes:
    """A file of scikit-image's ``data`` folder."""
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise JobError(f"the demo needs scikit-image's photographs, and it is not installed; {HINT}")
    path = Path(package.origin).parent / "data" / name
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise JobError(f"{path}: the demo's photograph cannot be read ({reason}); {HINT}") from error
