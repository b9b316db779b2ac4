"""The recipe: every number that decides a picture, given its images.

A :class:`Recipe` is immutable, validated when it is made, and has a fingerprint that is the same on every
machine. Values that come as text enter through :func:`stylebatch.recipe_text.parse_fields`.
"""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from stylebatch import rules
from stylebatch.errors import RecipeError
from stylebatch.quoting import MAX_QUOTED, quoted, shown
from stylebatch.rules import Rule

CONVOLUTIONS_PER_BLOCK = (2, 2, 4, 4, 4)

LAYERS: tuple[str, ...] = tuple(
    name
    for block, convolutions in enumerate(CONVOLUTIONS_PER_BLOCK, start=1)
    for name in (*(f"conv{block}_{i}" for i in range(1, convolutions + 1)), f"pool{block}")
)
"""VGG-19's 16 convolutions and 5 poolings, shallow to deep, by the paper's names."""

PAPER_STYLE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
START_NAMES = ("noise", "content", "recoloured", "scrambled")
REFERENCE_NAMES = ("content", "style")
WEIGHT_NAMES = ("caffe", "torchvision")
CONVENTIONS = ("paper", "gatys-code", "neural-style")
SIZE_FIELDS = ("size", "shorter_side", "pixels")
DEFAULT_SIZE = 512
LARGEST_WEIGHT = 1e15
"""Losses are float32: larger weights would leave its range."""
LONGEST_LOCATION = 4096
"""Characters of a location; :data:`stylebatch.objectstore.MAX_URI_LENGTH`, which this module cannot see."""
MOST_STYLES = 64
"""Style images of a pair, and so shares of ``style_blend``."""
MOST_NAMED = 10
"""Unknown fields that one message names; the others are counted."""
FILE_SUFFIXES: Mapping[str, str] = {"png": ".png", "jpeg": ".jpg", "tiff": ".tif", "npy": ".npy"}
"""The suffix of a published file, by ``format``."""


def usual_history(height: int, width: int) -> int:
    """The curvature pairs that L-BFGS keeps of a picture of this size, in pixels, where ``history`` is None.

    Twice as many where they cost next to nothing (docs/benchmarks.md, "Evaluations saved").
    """
    return 100 if height * width <= 128 * 128 else 50


def _is_weights(value: str) -> bool:
    return value in WEIGHT_NAMES or _is_location(value)


def _is_location(value: str) -> bool:
    is_long = len(value) > LONGEST_LOCATION
    return not is_long and value.isprintable() and ("/" in value or "." in value)


def _are_layers(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) and value in LAYERS for value in values)


def _reference() -> Rule:
    return rules.text(
        "content, style, or the location of an image",
        lambda value: value in REFERENCE_NAMES or _is_location(value),
    )


def _field(default: Any, rule: Rule) -> Any:
    return field(default=default, metadata={"rule": rule})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every number that decides a picture. The defaults are the paper's.

    Fields that may be None say what None means. One of ``size``, ``shorter_side`` and ``pixels`` is set;
    with none of them given, ``size`` is 512.

    Raises:
        RecipeError: A value is out of range; the message names each such field and what is allowed.
    """

    content_weight: float = _field(1.0, rules.number(0, LARGEST_WEIGHT, " (0 makes a texture)"))
    """α of equation (7), in the convention's own units."""
    style_weight: float = _field(1e3, rules.number(0, LARGEST_WEIGHT, " (0 reconstructs the content alone)"))
    """β of equation (7), in the convention's own units."""
    content_layers: tuple[str, ...] = _field(("conv4_2",), rules.some_of(LAYERS, "layers"))
    """The layers of equation (1)."""
    style_layers: tuple[str, ...] = _field(PAPER_STYLE_LAYERS, rules.some_of(LAYERS, "layers"))
    """The layers of equation (5)."""
    style_layer_weights: tuple[float, ...] | None = _field(
        None, rules.numbers(LARGEST_WEIGHT, "style layer", len(LAYERS))
    )
    """w_l of equation (5), one for each style layer. None: 1/their number in ``paper``, else 1 each."""
    style_blend: tuple[float, ...] | None = _field(
        None, rules.numbers(LARGEST_WEIGHT, "style image", MOST_STYLES)
    )
    """Shares of several style images in the target Gram matrices, scaled to sum to 1. None: equal shares."""
    convention: str = _field("paper", rules.one_of(*CONVENTIONS))
    """How the losses are scaled; see docs/conventions.md."""
    bounds: str = _field("soft", rules.one_of("soft", "clip", "hard"))
    """``soft``: a penalty keeps pixels within 0..255; ``hard``: every pixel is within them at every step;
    ``clip``: nothing keeps them there before publishing."""
    pooling: str = _field("average", rules.one_of("average", "max"))
    """The network's pooling; the paper recommends average."""
    weights: str = _field(
        "caffe", rules.text("caffe, torchvision, a path (with a / or .) or an s3:// URI", _is_weights)
    )
    """Weights by name (``caffe``: the original VGG-19; ``torchvision``), or the location of a state dict."""
    weights_family: str | None = _field(None, rules.one_of("caffe", "torchvision", "caffe-normalised"))
    """The input that a weights file wants. None: recognised by its checksum."""
    size: int | None = _field(None, rules.integer(16, 16384, " (pixels)"))
    """The longer side of the picture in pixels."""
    shorter_side: int | None = _field(None, rules.integer(16, 16384, " (pixels)"))
    """The shorter side of the picture in pixels, instead of ``size``."""
    pixels: int | None = _field(None, rules.integer(256, 16384**2, " (width times height)"))
    """The area of the picture in pixels, instead of ``size``."""
    style_size: int | None = _field(None, rules.integer(16, 16384, " (pixels)"))
    """The longer side of the style images in pixels. None: the rule that sizes the picture."""
    content_crop: tuple[int, ...] | None = _field(None, rules.box())
    """The part of the upright content image that is used, before it is resized: left, top, width, height
    in its own pixels. None: all of it."""
    style_crop: tuple[int, ...] | None = _field(None, rules.box())
    """The same of each style image."""
    reference_size: int | None = _field(None, rules.integer(16, 16384, " (pixels)"))
    """The longer side at which α and β are quoted. None: equation (1) to the letter, at any size."""
    scales: int = _field(1, rules.integer(1, 8, " (1: the picture's own size alone)"))
    """Sizes at which the picture is made, each twice the side of the one before; the last is its own.
    Halves with a side under 64 pixels are left out."""
    start: str = _field(
        "noise",
        rules.text(
            "noise, content, recoloured, scrambled, or the location of an image",
            lambda value: value in START_NAMES or _is_location(value),
        ),
    )
    """White noise from ``seed``; the content image; ``recoloured``: that in the style's colours;
    ``scrambled``: that with the phases of its spectrum drawn from ``seed``; or the location of an image."""
    seed: int = _field(0, rules.integer(0, 2**63 - 1))
    """Seeds white noise and random phases."""
    optimizer: str = _field("lbfgs", rules.one_of("lbfgs", "adam"))
    """``lbfgs``, or ``adam`` with ``learning_rate``."""
    learning_rate: float = _field(4.0, rules.number(1e-6, 255))
    """Adam's step in grey levels; ``lbfgs`` finds its own."""
    iterations: int = _field(500, rules.integer(0, 1_000_000))
    """The most evaluations (one forward and backward pass each) at each size. 0 publishes the start image."""
    history: int | None = _field(None, rules.integer(1, 200))
    """Curvature pairs that L-BFGS keeps. None: 100 at sizes up to 128 x 128 pixels, 50 at larger ones."""
    tolerance: float = _field(0.0, rules.number(0, 1))
    """Stop when 20 evaluations lower the loss by less than this fraction of it. 0: use every evaluation."""
    residual_tolerance: float = _field(0.0, rules.number(0, 1))
    """Stop when no layer's residual is larger: the distance of its responses or Gram matrix from the
    target's, over the target's own size. 0: never for that reason."""
    tv_weight: float = _field(0.0, rules.number(0, LARGEST_WEIGHT))
    """Weight of half the sum of squared differences of neighbouring pixels."""
    mean_luminance: float | None = _field(None, rules.number(0, 1, " (1 is white)"))
    """The mean luminance that the published picture is given. None: whatever it has."""
    rms_contrast: float | None = _field(None, rules.number(0, 10, " (standard deviation over mean)"))
    """The standard deviation of its luminance over the mean that it is given. None: whatever it has."""
    histogram: str | None = _field(None, _reference())
    """The image whose histogram each channel is given: the content, the style, or the location of an image.
    None: whatever it has."""
    spectrum: str | None = _field(None, _reference())
    """The image whose amplitude spectrum, averaged over orientations, the luminance is given. None: whatever
    it has."""
    light: str = _field("linear", rules.one_of("linear", "srgb"))
    """Where the four fields above are measured and changed: in linear light, or in sRGB values."""
    format: str = _field("png", rules.one_of(*FILE_SUFFIXES))
    """The published file: 8-bit PNG, JPEG with ``quality``, 16-bit TIFF, or float32 ``.npy``."""
    quality: int = _field(95, rules.integer(1, 100))
    """JPEG quality; no other format uses it."""

    def __new__(cls, **fields: Any) -> Self:
        """Refuse unknown fields with the nearest one that there is."""
        check_field_names(fields)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        self._check(FIELDS)

    def _check(self, names: Iterable[str]) -> None:
        """Put the values of these fields in their canonical types, and raise for all that is wrong."""
        self._sort_together()
        problems = [problem for name in names if (problem := self._settle(name))]
        if not problems:
            if all(getattr(self, name) is None for name in SIZE_FIELDS):
                object.__setattr__(self, "size", DEFAULT_SIZE)
            problems = list(self._contradictions())
        if problems:
            raise RecipeError("recipe: " + "; ".join(problems))

    def _settle(self, name: str) -> str | None:
        """Put the value of a field in its canonical type, or say what is wrong with it."""
        value = getattr(self, name)
        if value is None and FIELDS[name].default is None:
            return None
        rule = field_rule(name)
        try:
            object.__setattr__(self, name, rule.accepts(value))
        except (TypeError, ValueError, OverflowError):
            return f"{name} is {shown(value)}; it must be {rule.allowed}"
        return None

    def _sort_together(self) -> None:
        """Bring the w_l into the order of their layers, shallow to deep, wherever the caller put them."""
        layers, shares = self.style_layers, self.style_layer_weights
        is_list = isinstance(layers, list | tuple) and isinstance(shares, list | tuple)
        if is_list and shares and len(layers) == len(shares) and _are_layers(layers):
            order = sorted(range(len(layers)), key=lambda i: LAYERS.index(layers[i]))
            if order != [*range(len(layers))]:
                object.__setattr__(self, "style_layer_weights", tuple(shares[i] for i in order))

    def _contradictions(self) -> Iterable[str]:
        sizes = [name for name in SIZE_FIELDS if getattr(self, name) is not None]
        if len(sizes) > 1:
            yield f"{' and '.join(sizes)} are both given; give one of size, shorter_side, pixels"
        given = self.style_layer_weights
        if given is not None and len(given) != len(self.style_layers):
            yield (
                f"style_layer_weights has {len(given)} numbers for {len(self.style_layers)} style layers; "
                "give one for each layer"
            )
        if self.reference_size is not None and self.convention != "paper":
            yield (
                f"reference_size goes with convention paper only; {self.convention} averages the content "
                "loss over positions already"
            )
        if self.histogram is not None and not (self.mean_luminance is self.rms_contrast is None):
            yield "histogram decides the luminance; leave mean_luminance and rms_contrast out, or histogram"
        if self.content_weight == 0 and self.style_weight == 0:
            yield "content_weight and style_weight are both 0; nothing is left to minimise"

    @classmethod
    def preset(cls, name: str, **fields: Any) -> Self:
        """A recipe from :data:`PRESETS`, with some fields replaced.

        Raises:
            RecipeError: There is no such preset or field, or a value is out of range.
        """
        if name not in PRESETS:
            raise RecipeError(
                f"there is no preset {quoted(str(name))}{_suggestion(name, PRESETS)}; "
                f"the presets are {', '.join(PRESETS)}"
            )
        return cls(**PRESETS[name]).replace(fields)

    def replace(self, fields: Mapping[str, Any]) -> Self:
        """This recipe with some fields replaced; one way to say the size replaces the others.

        Raises:
            RecipeError: A field is unknown or a value is out of range.
        """
        check_field_names(fields)
        if not fields:
            return self
        changes = dict(fields)
        if any(changes.get(name) is not None for name in SIZE_FIELDS):
            changes = dict.fromkeys(SIZE_FIELDS) | changes
        return self._with(changes)

    def _with(self, changes: Mapping[str, Any]) -> Self:
        """This recipe with some values changed, of which alone it is not known yet that they are allowed."""
        changed = object.__new__(type(self))
        changed.__dict__.update({**self.__dict__, **changes})
        changed._check([name for name in FIELDS if name in changes])
        return changed

    def to_dict(self) -> dict[str, Any]:
        """Every field by name, lists in place of tuples: what JSON, YAML and Parquet hold."""
        values = ((name, getattr(self, name)) for name in FIELDS)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values}

    def most_pairs(self, height: int, width: int) -> int:
        """How many curvature pairs L-BFGS keeps of a picture of this size, in pixels."""
        return min(self.history or usual_history(height, width), max(1, self.iterations))

    @property
    def deepest_layer(self) -> str:
        """The deepest layer that a loss looks at."""
        return max((*self.content_layers, *self.style_layers), key=LAYERS.index)

    @property
    def shared_settings(self) -> tuple[Any, ...]:
        """What two pictures of one shape must agree on to be synthesized in one batch."""
        return tuple(getattr(self, name) for name in FIELDS if name not in PER_IMAGE_FIELDS)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON of all fields, as 64 hexadecimal digits."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


FIELDS: Mapping[str, "dataclasses.Field[Any]"] = {item.name: item for item in dataclasses.fields(Recipe)}
"""The recipe's fields by name, in order."""

PER_IMAGE_FIELDS = frozenset(
    {
        *SIZE_FIELDS,  # the shape itself is what counts
        *("content_weight", "style_weight", "style_layer_weights", "style_blend", "convention"),
        *("style_size", "content_crop", "style_crop", "reference_size", "start", "seed", "tv_weight"),
        *("mean_luminance", "rms_contrast", "histogram", "spectrum", "light", "format", "quality"),
    }
)
"""Fields in which the images of one batch may differ."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "paper": {},
    "photo": {
        "start": "recoloured",
        "style_weight": 1e4,
        "reference_size": 512,
        "scales": 3,
        "iterations": 200,
        "tolerance": 1e-3,
    },
    "gatys-code": {
        "convention": "gatys-code",
        "pooling": "max",
        "start": "content",
        "shorter_side": 512,
        "history": 100,
        "bounds": "clip",
    },
    "neural-style": {
        "convention": "neural-style",
        "content_weight": 5.0,
        "style_weight": 100.0,
        "tv_weight": 1e-3,
        "pooling": "max",
        "iterations": 1000,
        "history": 100,
        "bounds": "clip",
    },
}
"""Recipes by name, as what they change of the defaults."""


def field_rule(name: str) -> Rule:
    """What the field of this name may hold."""
    rule = FIELDS[name].metadata["rule"]
    assert isinstance(rule, Rule)
    return rule


def check_field_names(names: Iterable[str]) -> None:
    """Raise RecipeError for names that are not recipe fields, with the nearest one that is."""
    unknown = [name for name in names if name not in FIELDS]
    if unknown:
        named = [f"{quoted(str(name))}{_suggestion(name, FIELDS)}" for name in unknown[:MOST_NAMED]]
        more = f" (and {len(unknown) - MOST_NAMED:,} more)" if len(unknown) > MOST_NAMED else ""
        raise RecipeError(
            f"recipe: there is no field {', '.join(named)}{more}; the fields are {', '.join(FIELDS)}"
        )


def _suggestion(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(name)[:MAX_QUOTED], known, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
