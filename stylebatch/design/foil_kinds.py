"""What foils a design asks for."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stylebatch.design.crops import CROP_FIELDS, LARGEST_SIDE, Crop, read_place
from stylebatch.design.entries import REQUIRED, Entry, suggestion
from stylebatch.design.factors import LABELS_ALLOWED, LONGEST_LABEL, SOURCES, read_field
from stylebatch.errors import DesignError
from stylebatch.quoting import quoted
from stylebatch.recipe import FIELDS

STARTS = {"unmodified": "content", "scrambled": "scrambled", "noise": "noise", "crop": "content"}
"""Where the recipe of each kind starts, and ends."""
OWN_FIELDS = frozenset({"start", "iterations", "scales", "seed", "style_blend", *CROP_FIELDS.values()})
"""The fields that a foil sets itself."""
MOST_FOILS = 20
"""Of a design."""
MOST_REPLICATES = 100
"""Of a foil of one image."""

_LABEL = re.compile(rf"[A-Za-z0-9_-][A-Za-z0-9._-]{{0,{LONGEST_LABEL - 1}}}")


@dataclass(frozen=True)
class Foil:
    """What foils to make of every image."""

    kind: str
    """A key of :data:`STARTS`."""
    label: str
    """How ids and tables call it."""
    of: str
    """``content`` or ``style``: of which images."""
    replicates: int
    """Each with its own seed, and its own place of a seeded crop."""
    crop: Crop | None
    """The other crop, for that kind."""
    recipe: Mapping[str, Any]
    """Fields that replace the cells'."""


def read_foils(entry: Entry, crops: Iterable[Crop], folder: str) -> tuple[Foil, ...]:
    """The foils of a design.

    Args:
        entry: A list.
        crops: The design's, whose sizes other crops have unless they say otherwise.
        folder: Canonical URI that relative locations start from.

    Raises:
        DesignError: A foil is not what is allowed, or two have the same label for the same images.
    """
    usual = {crop.of: crop for crop in crops}
    items = entry.listed("a list of foils")
    if len(items) > MOST_FOILS:
        raise DesignError(f"foils: there are {len(items)}; a design has at most {MOST_FOILS}")
    foils = tuple(_read_foil(item, usual, folder) for item in items)
    seen: set[tuple[str, str]] = set()
    for foil in foils:
        if (foil.label.lower(), foil.of) in seen:
            raise DesignError(
                f"foils: two foils of {foil.of} are called {foil.label}; give one of them a label of its own"
            )
        seen.add((foil.label.lower(), foil.of))
    return foils


def _read_foil(entry: Entry, usual: Mapping[str, Crop], folder: str) -> Foil:
    common: dict[str, Any] = {
        "kind": REQUIRED,
        "of": "content",
        "label": None,
        "replicates": 1,
        "recipe": None,
    }
    keys = entry.keys({**common, "width": None, "height": None, "at": None})
    kind, of = keys["kind"].choice(*STARTS), keys["of"].choice(*SOURCES)
    if kind != "crop":
        entry.keys(common)
    replicates = keys["replicates"].whole(1, MOST_REPLICATES)
    crop = _read_crop(keys, of, usual) if kind == "crop" else None
    is_fixed = kind == "unmodified" if crop is None else crop.at != "seeded"
    if is_fixed and replicates > 1:
        raise keys["replicates"].refusal("1, as nothing of this foil is random")
    return Foil(
        kind,
        kind if keys["label"].value is None else keys["label"].matching(_LABEL, LABELS_ALLOWED),
        of,
        replicates,
        crop,
        _read_recipe(keys["recipe"], folder),
    )


def _read_crop(keys: Mapping[str, Entry], of: str, usual: Mapping[str, Crop]) -> Crop:
    if of in usual and keys["width"].value is keys["height"].value is None:
        width, height = usual[of].width, usual[of].height
    else:
        width, height = (keys[name].whole(1, LARGEST_SIDE, " (pixels)") for name in ("width", "height"))
    return Crop(of, width, height, "seeded" if keys["at"].value is None else read_place(keys["at"]))


def _read_recipe(entry: Entry, folder: str) -> dict[str, Any]:
    if entry.value in (None, {}):
        return {}
    fields = {}
    for name, item in entry.named("a mapping of recipe fields to values").items():
        if name not in FIELDS:
            raise DesignError(
                f"{item.path}: there is no recipe field {quoted(name)}{suggestion(name, FIELDS)}"
            )
        if name in OWN_FIELDS:
            raise DesignError(f"{item.path}: a foil sets {name} itself; leave it out")
        fields[name] = read_field(name, item, folder)
    return fields
