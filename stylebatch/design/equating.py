"""A set of pictures given the mean appearance of the set: the manifest of a second run over a finished one.

What a set has in common is known only when all of it is there. So a first job makes the pictures; the
manifest made here starts from each of them, evaluates nothing, and gives it the histogram or the luminance
that is the mean of all. Content, style and recipe stay, so that the losses of the changed pictures are
measured too.
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from stylebatch.errors import JobError
from stylebatch.objectstore import ObjectStore
from stylebatch.pictures import fetch
from stylebatch.pictures.appearance import Pixels, at_ranks, from_light, luminance_moments, sorted_values
from stylebatch.pictures.encoding import read_published
from stylebatch.recipe import FIELDS
from stylebatch.results import RESULT_SCHEMA

REFERENCE_SIDE = 256
"""Width and height in pixels of the picture that holds the mean histogram."""


def mean_histogram(pictures: Iterable[Pixels], light: str) -> bytes:
    """A picture whose channels have the mean histogram of several: at each rank the mean of their values.

    Args:
        pictures: Each ``(H, W, 3)``, sRGB values, 0..1; all count alike, whatever their sizes.
        light: ``linear`` or ``srgb``: of what values the mean is taken.

    Returns:
        A PNG file, the darkest values first.
    """
    total, count = np.zeros((REFERENCE_SIDE**2, 3)), 0
    for pixels in pictures:
        total += at_ranks(sorted_values(pixels, light), REFERENCE_SIDE**2)
        count += 1
    levels = np.rint(255 * from_light(total / max(count, 1), light)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(levels.reshape(REFERENCE_SIDE, REFERENCE_SIDE, 3)).save(file, "PNG")
    return file.getvalue()


def mean_luminance(pictures: Iterable[Pixels], light: str) -> tuple[float, float]:
    """The mean of the pictures' mean luminances, and that of their RMS contrasts."""
    means, contrasts = zip(*(luminance_moments(pixels, light) for pixels in pictures), strict=True)
    return float(np.mean(means)), float(np.mean(contrasts))


def stored_pictures(store: ObjectStore, results: pa.Table) -> Iterator[Pixels]:
    """The published pictures of results that have one, in order, one at a time, in full precision.

    Raises:
        JobError: No row has a picture.
    """
    for row in _finished(results):
        pixels = read_published(fetch(store, row["image"]), row["image"])
        yield pixels.permute(1, 2, 0).numpy().astype(np.float64) / 255


def equated_table(results: pa.Table, appearance: Mapping[str, Any]) -> pa.Table:
    """The manifest that gives every picture of a job the same appearance.

    Args:
        results: Of the job; failed rows are left out.
        appearance: Recipe fields that say it, as ``{"histogram": URI}``.

    Returns:
        A row for each picture with its recipe, but that it starts from the picture, evaluates nothing and has
        the appearance; and the manifest's own columns.

    Raises:
        JobError: No row has a picture.
    """
    rows = list(_finished(results))
    changes = {"iterations": 0, "scales": 1, **appearance}
    columns = {name: [row[name] for row in rows] for name in ("pair_id", "content", "style")}
    columns["style"] = [styles or None for styles in columns["style"]]
    columns |= {name: [changes.get(name, row[name]) for row in rows] for name in FIELDS}
    columns["start"] = [row["image"] for row in rows]
    own = [name for name in results.column_names if name not in RESULT_SCHEMA.names]
    table = pa.table(
        {name: pa.array(values, RESULT_SCHEMA.field(name).type) for name, values in columns.items()}
    )
    places = pa.array([number for number, row in enumerate(results.to_pylist()) if row["status"] == "ok"])
    for name in own:
        table = table.append_column(results.schema.field(name), results.column(name).take(places))
    return table


def _finished(results: pa.Table) -> Iterator[Mapping[str, Any]]:
    rows = [row for row in results.to_pylist() if row["status"] == "ok"]
    if not rows:
        raise JobError(
            "no row of these results has a picture; see why with stylebatch results OUT --where status=failed"
        )
    yield from rows
