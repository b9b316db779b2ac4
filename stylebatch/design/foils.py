"""Foils: pictures that no cell makes, through the same workers, to compare the cells' pictures with.

A recipe with ``iterations: 0`` publishes its start image. So an unmodified image is a start from the content,
a scrambled one a scrambled start, and noise a start from noise; another crop is an unmodified image with
another box.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stylebatch.design.cells import Cell, Source, check_recipe
from stylebatch.design.crops import CROP_FIELDS, Box, Size, check_fits, overlap, take, take_apart
from stylebatch.design.factors import SOURCES, Factor
from stylebatch.design.foil_kinds import OWN_FIELDS, STARTS, Foil
from stylebatch.design.seeds import draw
from stylebatch.design.stimulus import Stimulus, check_count
from stylebatch.errors import DesignError
from stylebatch.recipe import SIZE_FIELDS

LOOK_FIELDS = (
    *SIZE_FIELDS,
    *("mean_luminance", "rms_contrast", "histogram", "spectrum", "light", "format", "quality"),
)
"""The fields in which the picture of a foil may differ from cell to cell, besides its image and crop."""


def make_foils(
    foils: Iterable[Foil],
    cells: Sequence[Cell],
    factors: Sequence[Factor],
    sizes: Mapping[str, Size],
    seed: int,
) -> tuple[list[Stimulus], list[str]]:
    """The foils of a set, each once for all cells that would make the same one.

    Args:
        foils: What to make.
        cells: All, with their crops.
        factors: Of the design.
        sizes: Of every image, by URI.
        seed: The design's.

    Returns:
        The rows, and what the user should know of them.

    Raises:
        DesignError: A foil cannot be made.
    """
    groups = [(foil, group) for foil in foils for group in _groups(foil, cells)]
    check_count(sum(foil.replicates for foil, _ in groups))
    used = {of: _used_boxes(of, cells, sizes) for of in SOURCES}
    rows: list[Stimulus] = []
    crowded: dict[str, dict[str, None]] = {}
    for foil, group in groups:
        uri = group.source.uri
        boxes, is_apart = _other_boxes(foil, group.source, sizes[uri], used[foil.of][uri], seed)
        rows += _rows(foil, group, factors, boxes, seed)
        if not is_apart:
            crowded.setdefault(f"{foil.label} of {foil.of}", {})[group.source.label] = None
    return rows, [
        f"foil {foil}: the crops of {', '.join(labels)} overlap what the cells use, or one another"
        for foil, labels in crowded.items()
    ]


@dataclass(frozen=True)
class _Group:
    """The cells whose foil of one image is the same picture."""

    source: Source
    styles: tuple[str, ...]
    """Canonical URIs of the foil's own style images."""
    fields: Mapping[str, Any]
    """The foil's recipe fields, but for its seed and another crop."""
    cells: list[Cell]


def _groups(foil: Foil, cells: Iterable[Cell]) -> list[_Group]:
    found: dict[tuple[Any, ...], _Group] = {}
    for cell in cells:
        for source in cell.sources(foil.of):
            styles = _styles(foil, cell, source)
            fields = _fields(foil, cell, is_alone=not styles)
            look = (fields.get(name) for name in _look_fields(foil))
            key = (source.uri, styles, *look)
            if key not in found:
                check_recipe(fields, f"foil {foil.label} of {foil.of} (cell {cell.label})")
                found[key] = _Group(source, styles, fields, [])
            found[key].cells.append(cell)
    if not found:
        raise DesignError(f"foils: {foil.label} is a foil of {foil.of}, but no cell has a {foil.of} image")
    _check_labels(foil, found.values())
    return [*found.values()]


def _look_fields(foil: Foil) -> tuple[str, ...]:
    """The fields that tell one foil of an image from another; another crop has its own box."""
    return LOOK_FIELDS if foil.kind == "crop" else (*LOOK_FIELDS, *CROP_FIELDS.values())


def _styles(foil: Foil, cell: Cell, source: Source) -> tuple[str, ...]:
    """The style images of a foil.

    Its own image, so that its losses are measured against it; or those that its histogram or spectrum is of.
    """
    wanted = {_setting(foil, cell, name) for name in ("histogram", "spectrum")}
    if foil.of == "content":
        return tuple(style.uri for style in cell.styles) if "style" in wanted else ()
    if "content" in wanted:
        raise DesignError(
            f"foils: {foil.label} of style has the style image for its content, so that histogram or "
            "spectrum cannot be content; give this foil another in its recipe, or null"
        )
    return (source.uri,)


def _setting(foil: Foil, cell: Cell, name: str) -> Any:
    return foil.recipe.get(name, cell.fields.get(name))


def _fields(foil: Foil, cell: Cell, is_alone: bool) -> dict[str, Any]:
    """The recipe of a foil: the cell's as it looks, its own start and end."""
    sizes_itself = any(foil.recipe.get(name) is not None for name in SIZE_FIELDS)
    left_out = OWN_FIELDS | (frozenset(SIZE_FIELDS) if sizes_itself else frozenset())
    fields = {name: value for name, value in cell.fields.items() if name not in left_out}
    fields |= {**foil.recipe, "start": STARTS[foil.kind], "iterations": 0, "scales": 1}
    fields |= _boxes(foil, cell, is_alone)
    if is_alone and fields.get("content_weight") == 0:
        fields["content_weight"] = 1.0  # without a style, something must be left to measure
    if not is_alone and foil.of == "content" and "style_blend" in cell.fields:
        fields["style_blend"] = cell.fields["style_blend"]
    return fields


def _boxes(foil: Foil, cell: Cell, is_alone: bool) -> dict[str, Any]:
    """The crops of a foil's images; another crop gets its own later."""
    boxes = {of: cell.fields.get(field) for of, field in CROP_FIELDS.items()}
    wanted = {"content_crop": boxes[foil.of], "style_crop": None if is_alone else boxes["style"]}
    return {field: box for field, box in wanted.items() if box is not None}


def _check_labels(foil: Foil, groups: Iterable[_Group]) -> None:
    """Refuse two images of one name, whose foils would have one name, too."""
    seen: dict[str, str] = {}
    for group in groups:
        other = seen.setdefault(group.source.label.lower(), group.source.uri)
        if other != group.source.uri:
            raise DesignError(
                f"foils: {foil.label} of {foil.of}: {other} and {group.source.uri} are both called "
                f"{group.source.label}; make {foil.of} a factor and give them labels"
            )


def _rows(
    foil: Foil,
    group: _Group,
    factors: Sequence[Factor],
    boxes: Sequence[Box],
    seed: int,
) -> Iterator[Stimulus]:
    """The foil's replicates of one image.

    Args:
        foil: What to make.
        group: The image.
        factors: Of the design.
        boxes: Of another crop, one for each replicate; otherwise none.
        seed: The design's.
    """
    name = "_".join(["foil", foil.label, foil.of, group.source.label, *_looks(foil, group, factors)])
    for replicate in range(1, foil.replicates + 1):
        fields = {**group.fields, "seed": draw(seed, "foil", name, replicate)}
        if boxes:
            fields["content_crop"] = boxes[replicate - 1]
        yield Stimulus(
            cell=name,
            replicate=replicate,
            levels=_common_levels(group.cells, factors),
            content=group.source.uri,
            styles=group.styles,
            fields=fields,
            foil=foil.label,
            foil_of=group.source.label,
        )


def _looks(foil: Foil, group: _Group, factors: Iterable[Factor]) -> list[str]:
    """The labels of the levels that make this foil differ from others of the same image."""
    deciding = {*LOOK_FIELDS} - foil.recipe.keys()
    if foil.kind != "crop":
        deciding.add(CROP_FIELDS[foil.of])
    if any(name in foil.recipe for name in SIZE_FIELDS):
        deciding -= set(SIZE_FIELDS)
    if foil.of == "content" and group.styles:
        deciding |= {"style", "style_crop"}
    labels = (
        factor.labels[level]
        for factor, level in zip(factors, group.cells[0].combination, strict=True)
        if factor.targets & deciding
    )
    return [label for label in labels if label != group.source.label]


def _common_levels(cells: Sequence[Cell], factors: Iterable[Factor]) -> dict[str, str | None]:
    """The label of each factor's level, where all these cells have the same."""
    levels: dict[str, str | None] = {}
    for place, factor in enumerate(factors):
        found = {cell.combination[place] for cell in cells}
        levels[factor.name] = factor.labels[found.pop()] if len(found) == 1 else None
    return levels


def _other_boxes(
    foil: Foil, source: Source, size: Size, used: Sequence[Box], seed: int
) -> tuple[list[Box], bool]:
    """Another crop's boxes, and whether they keep away from what is used and from one another."""
    crop = foil.crop
    if crop is None:
        return [], True
    check_fits((0, 0, crop.width, crop.height), source.uri, size, f"foil {foil.label} of {foil.of}")
    boxes: list[Box] = []
    is_apart = True
    for replicate in range(1, foil.replicates + 1):
        number = draw(seed, "foil crop", foil.label, foil.of, source.label, replicate)
        taken = [*used, *boxes]
        box = take_apart(crop, size, taken, number) if crop.at == "seeded" else take(crop, size, number)
        check_fits(box, source.uri, size, f"foil {foil.label} of {foil.of}")
        is_apart &= not any(overlap(box, other) for other in taken)
        boxes.append(box)
    return boxes, is_apart


def _used_boxes(of: str, cells: Iterable[Cell], sizes: Mapping[str, Size]) -> dict[str, list[Box]]:
    """What the cells use of each image: their crops, or all of it."""
    used: dict[str, dict[Box, None]] = {}
    for cell in cells:
        for source in cell.sources(of):
            box = cell.fields.get(CROP_FIELDS[of]) or (0, 0, *sizes[source.uri])
            used.setdefault(source.uri, {})[box] = None
    return {uri: [*boxes] for uri, boxes in used.items()}
