"""A design file: a factorial design of stimuli in a few lines of YAML."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stylebatch.design.crops import CROP_FIELDS, LARGEST_SIDE, Crop, read_place
from stylebatch.design.crossing import Crossing, read_crossing
from stylebatch.design.entries import REQUIRED, Entry, suggestion
from stylebatch.design.factors import SOURCES, Factor, read_factors, read_field
from stylebatch.design.foil_kinds import Foil, read_foils
from stylebatch.design.orders import Participants, read_participants
from stylebatch.errors import DesignError
from stylebatch.objectstore import ObjectStore, parent_uri, resolve_uri
from stylebatch.quoting import quoted
from stylebatch.recipe import FIELDS
from stylebatch.yaml_file import YamlKind, read_yaml

FORMAT_VERSION = 1
"""Goes into a design's hash: the same file means another set once this changes."""
DESIGN_FILE = YamlKind(
    most_bytes=128 * 1024,
    most_depth=5,
    allowed="a design file is YAML text with lines of the form key: value; docs/stimuli.md has them all",
    error=DesignError,
)
LARGEST_SEED = 2**63 - 1
MOST_REPLICATES = 10_000

KEYS: Mapping[str, Any] = {
    "name": REQUIRED,
    "seed": 0,
    "recipe": None,
    "factors": REQUIRED,
    "crossing": "full",
    "replicates": 1,
    "seeds": "cell",
    "crop": [],
    "foils": [],
    "participants": None,
}
"""The keys of a design file and their defaults."""

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Design:
    """A factorial design of stimuli."""

    name: str
    """What the column ``design`` says."""
    seed: int
    """Every random choice follows from it."""
    recipe: Mapping[str, Any]
    """The recipe fields of all cells, as written."""
    factors: tuple[Factor, ...]
    """The first varies slowest."""
    crossing: Crossing
    """Which cells there are."""
    replicates: int
    """Rows of each cell."""
    seeds: str
    """``cell``: every row has a seed of its own; ``replicate``: all cells of a replicate share one."""
    crops: tuple[Crop, ...]
    """At most one of each source."""
    foils: tuple[Foil, ...]
    """Pictures to compare with."""
    participants: Participants | None
    """Who sees the stimuli; None: no orders are made."""
    folder: str
    """Canonical URI that relative locations start from; no part of the hash."""

    @property
    def sha256(self) -> str:
        """SHA-256 of everything that the file says, whatever its layout, as 64 hexadecimal digits."""
        said = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        del said["folder"]
        text = json.dumps(
            {"format": FORMAT_VERSION, **said},
            default=dataclasses.asdict,
            sort_keys=True,
            separators=(",", ":"),
            allow_nan=False,
        )
        return hashlib.sha256(text.encode()).hexdigest()


def read_design(store: ObjectStore, location: str) -> Design:
    """Read a design file and check everything that can be checked without its images.

    Args:
        store: Where the file is.
        location: A path or an ``s3://`` URI, as a user wrote it.

    Raises:
        DesignError: The file cannot be read, or a key or value is not what is allowed.
        StorageError: The location is not allowed, or nothing is there.
    """
    uri = resolve_uri(location)
    content = read_yaml(store, location, DESIGN_FILE)
    try:
        return parse_design(content, parent_uri(uri))
    except DesignError as error:
        raise DesignError(f"{uri}: {error}") from None


def parse_design(content: Mapping[str, Any], folder: str) -> Design:
    """A design from what YAML made of its file.

    Args:
        content: The keys and their values.
        folder: Canonical URI that relative locations start from.

    Raises:
        DesignError: A key or value is not what is allowed.
    """
    keys = Entry("", dict(content)).keys(KEYS)
    factors = read_factors(keys["factors"], folder)
    recipe = _read_recipe(keys["recipe"], folder)
    crops = _read_crops(keys["crop"])
    _check_one_crop(crops, factors, recipe)
    return Design(
        name=keys["name"].matching(
            _NAME, "1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', not beginning with '.'"
        ),
        seed=keys["seed"].whole(0, LARGEST_SEED),
        recipe=recipe,
        factors=factors,
        crossing=read_crossing(keys["crossing"], factors),
        replicates=keys["replicates"].whole(1, MOST_REPLICATES),
        seeds=keys["seeds"].choice("cell", "replicate"),
        crops=crops,
        foils=read_foils(keys["foils"], crops, folder),
        participants=read_participants(keys["participants"], factors),
        folder=folder,
    )


def _read_recipe(entry: Entry, folder: str) -> dict[str, Any]:
    if entry.value in (None, {}):
        return {}
    fields = {}
    for name, item in entry.named("a mapping of recipe fields to values").items():
        if name not in FIELDS:
            hint = "; images are factors" if name in SOURCES else suggestion(name, FIELDS)
            raise DesignError(f"{item.path}: there is no recipe field {quoted(name)}{hint}")
        if name == "seed":
            raise DesignError(f"{item.path}: the seeds of rows follow from the design's seed; leave it out")
        fields[name] = read_field(name, item, folder)
    return fields


def _read_crops(entry: Entry) -> tuple[Crop, ...]:
    items = entry.listed("a list of crops") if isinstance(entry.value, list) else [entry]
    crops = []
    for item in items:
        keys = item.keys({"of": "content", "width": REQUIRED, "height": REQUIRED, "at": "seeded"})
        width, height = (keys[name].whole(1, LARGEST_SIDE, " (pixels)") for name in ("width", "height"))
        crops.append(Crop(keys["of"].choice(*SOURCES), width, height, read_place(keys["at"])))
    return tuple(crops)


def _check_one_crop(crops: Sequence[Crop], factors: Sequence[Factor], recipe: Mapping[str, Any]) -> None:
    """Refuse two crops of the same images."""
    for of, field in CROP_FIELDS.items():
        wishes = [f"crop of {of}" for crop in crops if crop.of == of]
        wishes += [f"factor {factor.name}" for factor in factors if field in factor.targets]
        wishes += ["recipe"] if field in recipe else []
        if len(wishes) > 1:
            raise DesignError(f"{' and '.join(wishes)} both crop the {of} images; keep one of them")
