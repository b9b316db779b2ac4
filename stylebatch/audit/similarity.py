"""How alike the stimuli of a set are, to one another and to their sources, in content and in style."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from stylebatch.audit.distances import VectorFile, distances_by_products
from stylebatch.audit.files import concerns_all
from stylebatch.audit.longtable import FORMATS, SCHEMA, LongTable
from stylebatch.audit.measuring import (
    Key,
    Layers,
    Measure,
    Ruler,
    apart,
    different_sizes,
    measure_bytes,
    vector_length,
)
from stylebatch.audit.overview import Overview, look_over, stimuli_of
from stylebatch.audit.rows import pair_of, to_measure
from stylebatch.errors import JobError, RecipeError, StylebatchError
from stylebatch.layout import Layout
from stylebatch.objectstore import ObjectStore
from stylebatch.pair.loading import Loader
from stylebatch.pair.memory import gigabytes
from stylebatch.pair.networks import load_network
from stylebatch.pairs import Pair
from stylebatch.pictures import DEFAULT_MAX_PIXELS, fetch
from stylebatch.pictures.encoding import read_published
from stylebatch.recipe import FILE_SUFFIXES

MOST_STIMULI = 2000
"""Of a set whose stimuli are compared with one another: two million pairs, each with a row a layer."""
PICTURE_CACHE_BYTES = 256 * 2**20
"""For decoded sources."""
DISK_SHARE = 0.9
"""Of the free disk space that may be used for what the network says of the stimuli."""
ROWS_AT_ONCE = 100_000
"""Of the table, on their way to the file."""

Place = tuple[Key, int, int]
"""A space and layer, and in content space the width and height of the pictures that can be compared."""
OnStimulus = Callable[[int, int], None]
"""Told how many of how many stimuli are measured."""


@dataclass(frozen=True)
class SimilarityOptions:
    """How the stimuli of a set are compared."""

    layers: tuple[str, ...] | None = None
    """Of both spaces; None: the content layers and the style layers of the stimuli's recipes."""
    to_sources_only: bool = False
    """Whether stimuli are compared with their sources alone, and not with one another."""
    device: str = "cpu"
    """A torch device."""
    max_pixels: int = DEFAULT_MAX_PIXELS
    """Of a source image."""


@dataclass(frozen=True)
class Comparison:
    """What comparing came to."""

    stimuli: int
    """Of the set."""
    layers: Layers
    """Where they were compared."""
    rows: int
    """Of the table."""
    nulls: int
    """Of them without a distance."""
    notices: tuple[str, ...]
    """What the user should be told."""


def compare(
    store: ObjectStore,
    output: str,
    destination: str,
    options: SimilarityOptions,
    on_stimulus: OnStimulus = lambda done, stimuli: None,
) -> Comparison:
    """Write the table of distances between the stimuli of an output, and from each to its sources.

    All pictures are measured with one network, that of the first stimulus. What it says of the stimuli is
    kept in temporary files; in memory are one picture, a cache of sources, and at most 256 MB of vectors.

    Args:
        store: Where everything is.
        output: Canonical URI of the output folder.
        destination: Canonical URI of the file to write; its name ends in ``.parquet`` or ``.tsv``.
        options: How.
        on_stimulus: Told how many of how many stimuli are measured.

    Raises:
        JobError: There is no stimulus, there are too many, or there is no room for the temporary files.
        RecipeError: A layer is unknown, or the destination is of no format that is written.
        StylebatchError: A picture cannot be read or measured.
    """
    table_type = next((kind for suffix, kind in FORMATS.items() if destination.endswith(suffix)), None)
    if table_type is None:
        raise RecipeError(f"{destination}: the table is written as {' or '.join(FORMATS)}; end its name so")
    overview = look_over(store, output, options.layers)
    with tempfile.TemporaryDirectory(prefix="stylebatch-similarity-") as name:
        folder = Path(name)
        if not options.to_sources_only:
            _check_extent(overview, folder)
        table = table_type(folder / "table")
        comparer = _Comparer(store, overview, options, folder, table)
        try:
            comparer.measure_all(output, on_stimulus)
            comparer.compare_all()
        finally:
            table.close()
        store.put(destination, (folder / "table").read_bytes())
    return Comparison(overview.stimuli, overview.layers, comparer.rows, comparer.nulls, overview.notices)


def _check_extent(overview: Overview, folder: Path) -> None:
    """Raise JobError for more stimuli than can be compared with one another."""
    if overview.stimuli > MOST_STIMULI:
        raise JobError(
            f"there are {overview.stimuli} stimuli; at most {MOST_STIMULI} are compared with one another: "
            "distances grow with the square of their number. --sources-only has no such limit"
        )
    sizes = ((number, measure_bytes(overview.layers, *shape)) for shape, number in overview.shapes.items())
    needed, free = sum(number * size for number, size in sizes), shutil.disk_usage(folder).free
    if needed > DISK_SHARE * free:
        raise JobError(
            f"to compare {overview.stimuli} stimuli takes {gigabytes(needed)} of temporary files and there "
            f"are {gigabytes(free)} at {folder.parent}; choose fewer or deeper --layers, set TMPDIR to a "
            "larger disk, or use --sources-only"
        )


class _Comparer:
    """Measures the stimuli of a set and compares them.

    Args:
        store: Where everything is.
        overview: What the set asks for.
        options: How.
        folder: For temporary files.
        table: Where rows go.
    """

    def __init__(
        self,
        store: ObjectStore,
        overview: Overview,
        options: SimilarityOptions,
        folder: Path,
        table: LongTable,
    ) -> None:
        self.rows = 0
        self.nulls = 0
        self._store = store
        self._stimuli = overview.stimuli
        self._keys = overview.layers.keys
        self._keeps_measures = not options.to_sources_only
        self._folder = folder
        self._table = table
        self._names: list[str] = []
        self._shapes: list[tuple[int, int]] = []
        self._files: dict[Place, VectorFile] = {}
        recipe = pair_of(overview.first).recipe
        network = load_network(recipe, store, options.device, overview.layers.deepest)
        loader = Loader(store, PICTURE_CACHE_BYTES, options.max_pixels)
        self._ruler = Ruler(network, recipe.pooling, overview.layers, loader)

    def measure_all(self, output: str, on_stimulus: OnStimulus) -> None:
        """Measure every stimulus, and write its distances to its sources."""
        layout = Layout(output)
        for done, (unit, row) in enumerate(stimuli_of(self._store, output), start=1):
            image = layout.image(unit, row["pair_id"], FILE_SUFFIXES[row["format"]])
            measure = self._ruler.measure(read_published(fetch(self._store, image), image))
            self._compare_with_sources(to_measure(pair_of(row)), measure)
            if self._keeps_measures:
                self._keep(row["pair_id"], measure)
            on_stimulus(done, self._stimuli)

    def _keep(self, name: str, measure: Measure) -> None:
        self._names.append(name)
        self._shapes.append((measure.width, measure.height))
        for key, vector in measure.vectors.items():
            place: Place = (key, measure.width, measure.height) if key[0] == "content" else (key, 0, 0)
            if place not in self._files:
                length = vector_length(key, measure.width, measure.height)
                self._files[place] = VectorFile(self._folder / f"vectors-{len(self._files)}", length)
            self._files[place].append(vector)

    def _compare_with_sources(self, pair: Pair, measure: Measure) -> None:
        if pair.content is not None:
            source = partial(self._ruler.content, pair)
            self._add_source("stimulus-content", pair, pair.content, measure, source)
        for style in pair.styles:
            source = partial(self._ruler.style, pair, style)
            self._add_source("stimulus-style", pair, style, measure, source)

    def _add_source(
        self, kind: str, pair: Pair, uri: str, measure: Measure, source: Callable[[], Measure]
    ) -> None:
        """Write a stimulus's distances to a source; of one that cannot be read, nulls and why."""
        found: list[tuple[float | None, str | None]]
        try:
            other = source()
            found = [apart(measure, other, key) for key in self._keys]
        except StylebatchError as error:
            if concerns_all(error):
                raise
            found = [(None, str(error)) for _ in self._keys]
        rows = [
            dict(zip(SCHEMA.names, (kind, pair.pair_id, uri, *key, *one), strict=True))
            for key, one in zip(self._keys, found, strict=True)
        ]
        self._add(pa.Table.from_pylist(rows, schema=SCHEMA))

    def compare_all(self) -> None:
        """Write the distances of the stimuli that were kept, every two of them once, in order of row."""
        first, second = np.triu_indices(len(self._names), 1)
        for key in self._keys:
            found = self._distances(key)
            for start in range(0, len(first), ROWS_AT_ONCE):
                piece = slice(start, start + ROWS_AT_ONCE)
                self._add(self._stimulus_rows(key, first[piece], second[piece], found))

    def _distances(self, key: Key) -> np.ndarray:
        """The distances of all stimuli in a space and layer, ``(n, n)``; NaN where there is none."""
        found = np.full((len(self._names), len(self._names)), np.nan)
        for (own, *size), vectors in self._files.items():
            if own == key:
                is_kept_by_size = key[0] == "content"
                shapes = enumerate(self._shapes)
                places = [place for place, shape in shapes if not is_kept_by_size or shape == tuple(size)]
                found[np.ix_(places, places)] = distances_by_products(vectors.products(len(places)))
        return found

    def _stimulus_rows(self, key: Key, first: np.ndarray, second: np.ndarray, found: np.ndarray) -> pa.Table:
        names, distances = pa.array(self._names), found[first, second]
        reasons = [
            different_sizes(self._shapes[one], self._shapes[other]) if np.isnan(value) else None
            for one, other, value in zip(first, second, distances, strict=True)
        ]
        columns = (
            pa.array(["stimulus-stimulus"] * len(first)),
            names.take(pa.array(first)),
            names.take(pa.array(second)),
            *(pa.array([name] * len(first)) for name in key),
            pa.array(distances, from_pandas=True),  # NaN becomes null
            pa.array(reasons, pa.string()),
        )
        return pa.Table.from_arrays(list(columns), schema=SCHEMA)

    def _add(self, table: pa.Table) -> None:
        self._table.add(table)
        self.rows += table.num_rows
        self.nulls += table.column("distance").null_count
