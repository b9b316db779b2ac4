"""From a design to its stimulus set: a manifest, orders of presentation, and what is balanced."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from stylebatch.design.balance import Balance, measure_balance, measure_orders
from stylebatch.design.cells import Cell, all_sources, check_boxes, cropped, make_cells
from stylebatch.design.crops import CROP_FIELDS, Size
from stylebatch.design.crossing import combinations
from stylebatch.design.design_file import Design
from stylebatch.design.foils import make_foils
from stylebatch.design.orders import Run, make_orders
from stylebatch.design.seeds import draw
from stylebatch.design.stimulus import Stimulus, check_count
from stylebatch.errors import DesignError, ManifestError
from stylebatch.manifest import open_manifest, validate, write_manifest
from stylebatch.objectstore import ObjectStore, join_uri
from stylebatch.pictures import stored_size
from stylebatch.recipe import FIELDS, Recipe, field_rule
from stylebatch.results import RESERVED_COLUMNS
from stylebatch.storage import LocalStore

LONGEST_ID = 128
"""Characters of a pair_id."""
SUFFIX = ".parquet"
ORDERS_HEADER = ("participant", "position", "block", "pair_id")

_COLUMN_TYPES: Mapping[str, pa.DataType] = {
    "number": pa.float64(),
    "integer": pa.int64(),
    "text": pa.string(),
    "numbers": pa.list_(pa.float64()),
    "texts": pa.list_(pa.string()),
}


@dataclass(frozen=True)
class StimulusSet:
    """Everything that a design comes to."""

    design: Design
    stimuli: tuple[Stimulus, ...]
    """Cell by cell, the first factor varying slowest, then the foils."""
    runs: tuple[Run, ...]
    """What each participant sees in which order; empty without participants."""
    balance: Balance
    """Counts and confoundings."""
    notes: tuple[str, ...]
    """What the user should know besides."""

    @property
    def table(self) -> pa.Table:
        """The manifest."""
        return pa.table(_known_columns(self.stimuli) | _extra_columns(self.design, self.stimuli))

    @property
    def orders(self) -> str:
        """The orders as tab-separated lines, with a header."""
        lines = ["\t".join(ORDERS_HEADER), *_order_lines(self.runs)]
        return "\n".join(lines) + "\n"


def make_stimuli(store: ObjectStore, design: Design) -> StimulusSet:
    """Work a design out: every row, every crop, every seed, every order.

    Args:
        store: Where the images are; their headers are read for their sizes.
        design: What to make.

    Raises:
        DesignError: A crop does not fit, fields contradict one another, or the set would be too large.
        StorageError: An image cannot be read.
        PictureError: An image is none.
    """
    chosen, fraction = combinations(design.factors, design.crossing)
    check_count(len(chosen) * design.replicates)
    cells = make_cells(design.factors, chosen, design.recipe, design.folder)
    sizes = {
        uri: stored_size(store, uri) for uri in dict.fromkeys(source.uri for source in all_sources(cells))
    }
    cells = _with_crops(design, cells, sizes)
    foils, notes = make_foils(design.foils, cells, design.factors, sizes, design.seed)
    stimuli = [*_replicates(design, cells), *foils]
    check_count(len(stimuli))
    _check_ids(stimuli)
    who = design.participants
    runs = make_orders(who, stimuli, design.seed) if who else []
    spread = measure_orders(who, runs) if who else None
    balance = measure_balance(design.factors, chosen, fraction, stimuli, spread)
    return StimulusSet(design, tuple(stimuli), tuple(runs), balance, tuple(notes))


def _with_crops(design: Design, cells: list[Cell], sizes: Mapping[str, Size]) -> list[Cell]:
    for crop in design.crops:
        if not any(cell.sources(crop.of) for cell in cells):
            raise DesignError(f"crop of {crop.of}: no cell has a {crop.of} image")
        cells = [cropped(cell, crop, design.seed, sizes) for cell in cells]
    check_boxes(cells, sizes)
    return cells


def _replicates(design: Design, cells: Iterable[Cell]) -> Iterator[Stimulus]:
    names = [factor.name for factor in design.factors]
    for cell in cells:
        labels = [factor.labels[i] for factor, i in zip(design.factors, cell.combination, strict=True)]
        levels: dict[str, str | None] = dict(zip(names, labels, strict=True))
        for replicate in range(1, design.replicates + 1):
            yield Stimulus(
                cell=cell.label,
                replicate=replicate,
                levels=levels,
                content=cell.content.uri if cell.content else None,
                styles=tuple(style.uri for style in cell.styles),
                fields={**cell.fields, "seed": _seed(design, levels, replicate)},
            )


def _seed(design: Design, levels: Mapping[str, str | None], replicate: int) -> int:
    """The seed of a row, which no other level and no order of the factors changes."""
    if design.seeds == "replicate":
        return draw(design.seed, "replicate", replicate)
    named = (f"{name}={label}" for name, label in sorted(levels.items()))
    return draw(design.seed, "cell", *named, replicate)


def _check_ids(stimuli: Iterable[Stimulus]) -> None:
    """Refuse ids that are too long or not unique, in terms of the labels that they are made of."""
    seen: set[str] = set()
    for stimulus in stimuli:
        pair_id = stimulus.pair_id
        if len(pair_id) > LONGEST_ID:
            raise DesignError(
                f"the id {pair_id} has {len(pair_id)} characters; at most {LONGEST_ID} are allowed: give the "
                "levels shorter labels (label: value)"
            )
        if pair_id.lower() in seen:
            raise DesignError(f"two rows would have the id {pair_id}; give their levels other labels")
        seen.add(pair_id.lower())


def _known_columns(stimuli: Sequence[Stimulus]) -> dict[str, pa.Array]:
    """The columns that mean something to the program."""
    named = {name for stimulus in stimuli for name in stimulus.fields}
    fields = {
        name: pa.array([stimulus.fields.get(name) for stimulus in stimuli], _column_type(name))
        for name in FIELDS
        if name in named
    }
    return {
        "pair_id": pa.array([stimulus.pair_id for stimulus in stimuli], pa.string()),
        "content": pa.array([stimulus.content for stimulus in stimuli], pa.string()),
        "style": _style_column([stimulus.styles for stimulus in stimuli]),
        **fields,
    }


def _style_column(styles: Sequence[tuple[str, ...]]) -> pa.Array:
    """Plain texts, unless a pair has several styles."""
    if any(len(uris) > 1 for uris in styles):
        return pa.array([list(uris) or None for uris in styles], pa.list_(pa.string()))
    return pa.array([uris[0] if uris else None for uris in styles], pa.string())


def _column_type(name: str) -> pa.DataType:
    return pa.list_(pa.int64()) if name in CROP_FIELDS.values() else _COLUMN_TYPES[field_rule(name).kind]


def _extra_columns(design: Design, stimuli: Sequence[Stimulus]) -> dict[str, pa.Array]:
    """The conditions, which are carried to the results."""

    def texts(values: Iterable[Any]) -> pa.Array:
        return pa.array([*values], pa.string())

    conditions = {
        f"factor_{factor.name}": texts(stimulus.levels[factor.name] for stimulus in stimuli)
        for factor in design.factors
    }
    return {
        "design": texts(design.name for _ in stimuli),
        "design_sha256": texts([design.sha256] * len(stimuli)),
        "cell": texts(stimulus.cell for stimulus in stimuli),
        **conditions,
        "replicate": pa.array([stimulus.replicate for stimulus in stimuli], pa.int64()),
        "foil": texts(stimulus.foil for stimulus in stimuli),
        "foil_of": texts(stimulus.foil_of for stimulus in stimuli),
    }


def _order_lines(runs: Iterable[Run]) -> Iterator[str]:
    participant, position = 0, 0
    for run in runs:
        if run.participant != participant:
            participant, position = run.participant, 0
        for pair_id in run.pair_ids:
            position += 1
            yield f"{participant}\t{position}\t{run.block}\t{pair_id}"


def orders_location(manifest: str) -> str:
    """Where the orders of a set stand, beside its manifest."""
    return manifest.removesuffix(SUFFIX) + "-orders.tsv"


def write_stimuli(store: ObjectStore, uri: str, stimuli: StimulusSet) -> None:
    """Write a set's manifest, and its orders beside it, once the manifest is known to be one that runs.

    Args:
        store: Where to write.
        uri: Canonical URI of the manifest, which ends in ``.parquet``.
        stimuli: What to write.

    Raises:
        DesignError: The name does not end so, or a row is none that can run.
        StorageError: A file cannot be written.
    """
    if not uri.endswith(SUFFIX):
        raise DesignError(f"{uri} does not end in {SUFFIX}, as a manifest does")
    table = stimuli.table
    _check_manifest(table, uri)
    if stimuli.runs:
        store.put(orders_location(uri), stimuli.orders.encode())
    write_manifest(store, uri, table)


def _check_manifest(table: pa.Table, uri: str) -> None:
    """Refuse a manifest that a run would refuse; nothing is written where it would stay."""
    local = LocalStore()
    with tempfile.TemporaryDirectory() as folder:
        draft = join_uri(folder, "draft.parquet")
        write_manifest(local, draft, table)
        try:
            validate(open_manifest(local, draft), Recipe(), RESERVED_COLUMNS)
        except ManifestError as error:
            raise DesignError(f"the design makes rows that cannot run: {error}".replace(draft, uri)) from None
