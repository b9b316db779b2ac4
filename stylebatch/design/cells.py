"""Cells: one level of each factor together, and the pair and recipe that they come to."""

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stylebatch.design.crops import CROP_FIELDS, Crop, Size, check_fits, take
from stylebatch.design.crossing import Combination
from stylebatch.design.factors import Factor, Level, label_of
from stylebatch.design.seeds import draw
from stylebatch.errors import DesignError, RecipeError
from stylebatch.objectstore import resolve_uri
from stylebatch.pairs import LOCATION_FIELDS
from stylebatch.recipe import SIZE_FIELDS, Recipe


@dataclass(frozen=True)
class Source:
    """An image that pairs are made of, as one of the two sources."""

    of: str
    """``content`` or ``style``."""
    uri: str
    """Canonical."""
    label: str
    """The level's label, or the file's name where one level is more than this image."""


@dataclass(frozen=True)
class Cell:
    """One condition of an experiment."""

    label: str
    """The labels of its levels, joined by ``_``."""
    combination: Combination
    """The number of each factor's level, from 0."""
    content: Source | None
    """None: a texture."""
    styles: tuple[Source, ...]
    """Empty: a content reconstruction."""
    fields: Mapping[str, Any]
    """The recipe fields that the design names, with locations made canonical; no seed."""

    def sources(self, of: str) -> tuple[Source, ...]:
        """Its content image or its style images."""
        return self.styles if of == "style" else (self.content,) if self.content else ()


def make_cells(
    factors: Sequence[Factor], chosen: Iterable[Combination], recipe: Mapping[str, Any], folder: str
) -> list[Cell]:
    """The cells of a design.

    Args:
        factors: Of the design.
        chosen: The combinations of levels that there are.
        recipe: The fields of all cells, as written.
        folder: Canonical URI that relative locations start from.

    Raises:
        DesignError: The fields of a cell contradict one another.
    """
    return [_make_cell(factors, combination, recipe, folder) for combination in chosen]


def _make_cell(
    factors: Sequence[Factor], combination: Combination, recipe: Mapping[str, Any], folder: str
) -> Cell:
    levels = {factor.name: factor.levels[i] for factor, i in zip(factors, combination, strict=True)}
    label = "_".join(level.label for level in levels.values())
    settings = _settings(recipe, levels.values())
    content, styles = settings.pop("content", None), settings.pop("style", ())
    fields = {name: _resolved(name, value, folder) for name, value in settings.items()}
    check_recipe(fields, f"cell {label}")
    contents = _sources("content", () if content is None else (content,), levels, folder)
    return Cell(
        label,
        combination,
        contents[0] if contents else None,
        _sources("style", styles, levels, folder),
        fields,
    )


def _settings(recipe: Mapping[str, Any], levels: Iterable[Level]) -> dict[str, Any]:
    """What a cell sets; one way to say the size replaces the recipe's."""
    settings = dict(recipe)
    for level in levels:
        if any(level.settings.get(name) is not None for name in SIZE_FIELDS):
            settings = {name: value for name, value in settings.items() if name not in SIZE_FIELDS}
        settings.update(level.settings)
    return settings


def _resolved(name: str, value: Any, folder: str) -> Any:
    is_location = name in LOCATION_FIELDS and value is not None and value not in LOCATION_FIELDS[name]
    return resolve_uri(value, folder) if is_location else value


def _sources(
    of: str, locations: Sequence[str], levels: Mapping[str, Level], folder: str
) -> tuple[Source, ...]:
    """The images, with the label of the factor that bears their name if it holds this one image."""
    own = levels[of].label if of in levels and len(locations) == 1 else None
    return tuple(
        Source(of, uri, own or label_of(posixpath.basename(uri)) or "picture")
        for uri in (resolve_uri(location, folder) for location in locations)
    )


def check_recipe(fields: Mapping[str, Any], where: str) -> None:
    """Raise DesignError if fields contradict one another."""
    try:
        Recipe(**fields)
    except RecipeError as error:
        raise DesignError(f"{where}: {str(error).removeprefix('recipe: ')}") from None


def all_sources(cells: Iterable[Cell]) -> list[Source]:
    """The images of these cells, each once for content and once for style, in order."""
    found: dict[tuple[str, str], Source] = {}
    for cell in cells:
        for source in (*cell.sources("content"), *cell.styles):
            found.setdefault((source.of, source.uri), source)
    return [*found.values()]


def cropped(cell: Cell, crop: Crop, seed: int, sizes: Mapping[str, Size]) -> Cell:
    """The cell with the box that a crop takes of its images; itself if it has none.

    The box of a seeded crop depends on the images' labels alone, so that it is the same in every cell.

    Args:
        cell: Without this crop.
        crop: Of the content or the style images; several style images share one box.
        seed: The design's.
        sizes: Of every image, by URI.

    Raises:
        DesignError: The crop does not fit into an image.
    """
    sources = cell.sources(crop.of)
    if not sources:
        return cell
    for source in sources:
        check_fits((0, 0, crop.width, crop.height), source.uri, sizes[source.uri], f"crop of {crop.of}")
    room = tuple(min(sizes[source.uri][i] for source in sources) for i in (0, 1))
    number = draw(seed, "crop", crop.of, *(source.label for source in sources))
    box = take(crop, (room[0], room[1]), number)
    return replace(cell, fields={**cell.fields, CROP_FIELDS[crop.of]: box})


def check_boxes(cells: Iterable[Cell], sizes: Mapping[str, Size]) -> None:
    """Raise DesignError if a cell's crop is not within its images, whoever asked for it."""
    for cell in cells:
        for of, field in CROP_FIELDS.items():
            box = cell.fields.get(field)
            if box is None:
                continue
            for source in cell.sources(of):
                check_fits(box, source.uri, sizes[source.uri], f"cell {cell.label}")
