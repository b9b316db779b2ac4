"""Factors and their levels: what a design varies, and the labels by which its conditions are known."""

import math
import posixpath
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stylebatch.design.entries import Entry, suggestion
from stylebatch.errors import DesignError, RecipeError, StorageError
from stylebatch.objectstore import resolve_uri
from stylebatch.pairs import LOCATION_FIELDS
from stylebatch.quoting import quoted
from stylebatch.recipe import FIELDS, MOST_STYLES, SIZE_FIELDS, field_rule
from stylebatch.recipe_text import parse_fields

SOURCES = ("content", "style")
"""What a pair is made of, besides its recipe."""
TARGETS = (*SOURCES, "ratio", *(name for name in FIELDS if name != "seed"))
"""What a level may set. ``ratio`` is α/β of the paper."""
LARGEST_RATIO = 1e15
MOST_FACTORS = 16
MOST_LEVELS = 1000
"""Of one factor."""
LONGEST_LABEL = 40
"""Characters of a level's label; a pair_id is made of one label of each factor."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_LABEL = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_UNSAFE_RUN = re.compile(r"[^A-Za-z0-9._]+")

NAMES_ALLOWED = "1 to 40 letters, digits and '_', beginning with a letter"
LABELS_ALLOWED = f"1 to {LONGEST_LABEL} of A-Z, a-z, 0-9, '.', '_' and '-', not beginning with '.'"
LEVELS_ALLOWED = "a list of levels, or a mapping of labels to levels"


@dataclass(frozen=True)
class Level:
    """One level of a factor."""

    label: str
    """How ids and tables call it."""
    settings: Mapping[str, Any]
    """``content`` (a location or None), ``style`` (a tuple of locations) and recipe fields, as written."""


@dataclass(frozen=True)
class Factor:
    """One thing that a design varies."""

    name: str
    """Its column is ``factor_<name>``."""
    levels: tuple[Level, ...]
    """In the order of the file."""

    @property
    def targets(self) -> frozenset[str]:
        """What its levels set."""
        return frozenset(target for level in self.levels for target in level.settings)

    @property
    def labels(self) -> tuple[str, ...]:
        """Its levels' labels, in order."""
        return tuple(level.label for level in self.levels)


def read_factors(entry: Entry, folder: str) -> tuple[Factor, ...]:
    """The factors of a design, in the order of its file.

    Args:
        entry: Factors by name.
        folder: Canonical URI that relative locations start from.

    Raises:
        DesignError: A factor, a label or a value is not what is allowed.
    """
    named = entry.named("a mapping of names to levels")
    if len(named) > MOST_FACTORS:
        raise DesignError(f"factors: there are {len(named)}; a design has at most {MOST_FACTORS}")
    factors = tuple(Factor(name, _read_levels(name, levels, folder)) for name, levels in named.items())
    _check_apart(factors)
    return factors


def read_field(name: str, entry: Entry, folder: str) -> Any:
    """The value of a recipe's field.

    Raises:
        DesignError: It is not what the field may hold.
    """
    rule = field_rule(name)
    try:
        value = parse_fields({name: entry.value})[name]
        if value is None and FIELDS[name].default is None:
            return None
        accepted = rule.accepts(value)
    except (RecipeError, TypeError, ValueError, OverflowError):
        raise entry.refusal(rule.allowed) from None
    if accepted not in LOCATION_FIELDS.get(name, (accepted,)):
        _check_location(entry, folder)
    # A recipe sorts its layers together with their weights, which only works on both as they were written.
    return tuple(value) if name == "style_layers" else accepted


def _read_levels(name: str, entry: Entry, folder: str) -> tuple[Level, ...]:
    if not _NAME.fullmatch(name):
        raise DesignError(f"factors: {quoted(name)} is no name for a factor; it must be {NAMES_ALLOWED}")
    labelled = _labelled(entry)
    if not 1 <= len(labelled) <= MOST_LEVELS:
        raise DesignError(f"{entry.path} has {len(labelled)} levels; a factor has 1 to {MOST_LEVELS}")
    _check_labels(entry.path, [label for label, _ in labelled])
    return tuple(Level(label, _read_settings(name, item, folder)) for label, item in labelled)


def _labelled(entry: Entry) -> list[tuple[str, Entry]]:
    """Each level after its label: the one it was given, or one made of its value."""
    if isinstance(entry.value, dict):
        return [*entry.named(LEVELS_ALLOWED).items()]
    return [(label_of(item.value), item) for item in entry.listed(LEVELS_ALLOWED)]


def label_of(value: Any) -> str:
    """The label of a level that was given none: a file's name, a number as written, a list's items.

    Returns:
        Safe characters; '' where nothing of the value can be in a label.
    """
    if value is None:
        return "none"
    if isinstance(value, list):
        return "-".join(label_of(item) for item in value)[:LONGEST_LABEL].rstrip(".-")
    text = str(value).replace("+", "") if isinstance(value, str | int | float) else ""
    if "/" in text or posixpath.splitext(text)[1].lstrip(".").isalpha():
        text = posixpath.splitext(text.rpartition("/")[2])[0]
    elif _LABEL.fullmatch(text):
        return text[:LONGEST_LABEL]
    return _UNSAFE_RUN.sub("-", text).strip(".-")[:LONGEST_LABEL]


def _check_labels(path: str, labels: Sequence[str]) -> None:
    counts = Counter(label.lower() for label in labels)
    for label in labels:
        if not _LABEL.fullmatch(label) or len(label) > LONGEST_LABEL:
            raise DesignError(
                f"{path}: {quoted(label)} is no label for a level; it must be {LABELS_ALLOWED}: "
                "write the levels as label: value"
            )
        if counts[label.lower()] > 1:
            raise DesignError(
                f"{path}: {counts[label.lower()]} levels are called {quoted(label)} (letter case aside); "
                "write the levels as label: value, with a label of its own for each"
            )


def _read_settings(name: str, entry: Entry, folder: str) -> dict[str, Any]:
    """What a level sets: the factor's own target, or what a mapping names."""
    if isinstance(entry.value, dict):
        items = entry.named(f"a mapping of {', '.join(TARGETS)} to values")
    elif name in TARGETS or name == "seed":
        items = {name: entry}
    else:
        raise entry.refusal(
            f"a mapping of recipe fields, content, style or ratio to values, as there is no recipe field "
            f"{name}{suggestion(name, TARGETS)}"
        )
    settings: dict[str, Any] = {}
    for target, item in items.items():
        for field, value in _read_target(target, item, folder).items():
            if field in settings:
                raise DesignError(f"{entry.path} sets {field} twice; ratio sets both weights")
            settings[field] = value
    return settings


def _read_target(target: str, entry: Entry, folder: str) -> dict[str, Any]:
    match target:
        case "content":
            return {"content": None if entry.value is None else _read_location(entry, folder)}
        case "style":
            return {"style": _read_styles(entry, folder)}
        case "ratio":
            return {"content_weight": 1.0, "style_weight": 1 / _read_ratio(entry)}
        case "seed":
            raise DesignError(
                f"{entry.path}: the seeds of rows follow from the design's seed; use replicates, or the "
                "key seeds"
            )
        case _ if target in FIELDS:
            return {target: read_field(target, entry, folder)}
    raise DesignError(
        f"{entry.path}: there is no recipe field {quoted(target)}{suggestion(target, TARGETS)}; a level sets "
        f"{', '.join(TARGETS)}"
    )


def _read_location(entry: Entry, folder: str) -> str:
    if not isinstance(entry.value, str):
        raise entry.refusal("the location of an image")
    _check_location(entry, folder)
    return entry.value


def _check_location(entry: Entry, folder: str) -> None:
    try:
        resolve_uri(entry.value, folder)
    except StorageError as error:
        raise DesignError(f"{entry.path}: {error}") from error


def _read_styles(entry: Entry, folder: str) -> tuple[str, ...]:
    if entry.value is None:
        return ()
    allowed = f"the location of an image, or a list of 1 to {MOST_STYLES} that are blended"
    items = entry.listed(allowed) if isinstance(entry.value, list) else [entry]
    if not 1 <= len(items) <= MOST_STYLES:
        raise entry.refusal(allowed)
    return tuple(_read_location(item, folder) for item in items)


def _read_ratio(entry: Entry) -> float:
    try:
        ratio = math.nan if isinstance(entry.value, bool) else float(entry.value)
    except (TypeError, ValueError, OverflowError):
        ratio = math.nan
    if not 1 / LARGEST_RATIO <= ratio <= LARGEST_RATIO:
        raise entry.refusal(f"α/β, a number from {1 / LARGEST_RATIO:g} to {LARGEST_RATIO:g}")
    return ratio


def _check_apart(factors: Iterable[Factor]) -> None:
    """Refuse two factors that set the same thing: one would win unseen."""
    owners: dict[str, str] = {}
    for factor in factors:
        for target in sorted(factor.targets):
            what = "size" if target in SIZE_FIELDS else target
            if owners.setdefault(what, factor.name) != factor.name:
                raise DesignError(
                    f"the factors {owners[what]} and {factor.name} both set {target}; make one factor of "
                    "them, or let only one set it"
                )
