"""Fetch and decode what a pair needs, at the sizes that its recipe asks for."""

import hashlib
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from PIL import Image
from torch import Tensor

from stylebatch.errors import PictureError, SynthesisError
from stylebatch.objectstore import ObjectStore
from stylebatch.pair.cache import ByteCache, Turns
from stylebatch.pairs import LOCATION_FIELDS, Pair
from stylebatch.pictures import (
    DEFAULT_MAX_PIXELS,
    cropped,
    fetch,
    halved_sizes,
    header_size,
    output_size,
    resize,
    style_output_size,
)
from stylebatch.pictures.encoding import decode_exactly, to_tensor
from stylebatch.recipe import Recipe
from stylebatch.synthesis.problems import white_noise
from stylebatch.synthesis.recolouring import recoloured
from stylebatch.synthesis.scrambling import phase_scrambled

MAX_OUTPUT_PIXELS = 16384**2
"""No picture is made larger, whatever its aspect ratio makes of the recipe's size."""
REFERENCES = ("histogram", "spectrum")
"""The recipe's fields that name images whose appearance the picture is given."""
LARGE_FILE_BYTES = 1 << 26
"""A file that is not smaller is fetched and decoded while no other large picture is."""
LARGE_PIXELS = 1 << 24
"""A picture of more pixels, likewise: decoding takes 9 bytes for each."""

Crop = tuple[int, ...] | None
"""Left, top, width and height of the part of a picture that is used; None: all of it."""
SizeRule = Callable[[int, int], tuple[int, int]]
"""From a picture's width and height to those at which it is used."""
SizesRule = Callable[[int, int], list[tuple[int, int]]]
"""The same where it is used at several sizes, the largest first."""
Picture = TypeVar("Picture", "Source", str)
"""A picture in memory, or the location of one."""


@dataclass(frozen=True)
class Source:
    """A decoded picture and what identifies it."""

    picture: Image.Image
    """Upright RGB in sRGB."""
    sha256: str
    """Of the file's bytes, or of the pixels where there was no file."""
    exact: Tensor | None = None
    """Its values ``(3, H, W)``, 0..255, where it was published here with more than 8 bits."""

    @property
    def size_bytes(self) -> int:
        """What it takes in memory."""
        exact = 0 if self.exact is None else self.exact.nbytes
        return 3 * self.picture.width * self.picture.height + exact

    def pixels(self, part: Image.Image, size: tuple[int, int]) -> Tensor:
        """A part of its picture at a size; all of it at its own size with everything that its file holds."""
        if self.exact is not None and part is self.picture and part.size == size:
            return self.exact.clone()
        return to_tensor(resize(part, size))


@dataclass(frozen=True)
class SizedSource:
    """A source at the size at which it is used."""

    pixels: Tensor
    """``(3, H, W)``, float32, RGB, 0..255."""
    sha256: str
    """Of the source."""
    crop: Crop = None
    """The part of it that is used."""


@dataclass(frozen=True)
class LoadedPair:
    """What a pair needs in memory before any network sees it."""

    recipe: Recipe
    """The pair's recipe."""
    content: SizedSource | None
    """At the output's size."""
    styles: tuple[SizedSource, ...]
    """Each at its own size."""
    start: Tensor
    """The start image ``(3, H, W)``."""
    start_sha256: str | None
    """Of a start image that the recipe gives the location of; None for the other starts."""
    references: Mapping[str, tuple[SizedSource, ...]]
    """By the recipe's field that names them: the images whose appearance the picture is given."""
    smaller: "LoadedPair | None" = None
    """The same at half the size, which is made first; None: nothing is."""

    @property
    def sizes(self) -> int:
        """At how many sizes the picture is made."""
        return 1 + (self.smaller.sizes if self.smaller else 0)


def size_sources(
    recipe: Recipe, content: Source | None, styles: Sequence[Source], others: Mapping[str, Source]
) -> LoadedPair:
    """Bring the pictures of a pair to the sizes of its recipe; a texture has the size of its first style.

    Args:
        recipe: How large, and where to start.
        content: None for a texture.
        styles: None at all for a content reconstruction.
        others: By location, the images that the recipe names besides: :func:`named_images`.

    Raises:
        SynthesisError: There is neither content nor style, the recipe starts from a content that is not
            there, a crop is not inside its image, or the picture would be absurdly large.
    """
    named = {field: others[location] for field, location in named_images(recipe).items()}
    return _load_pair(recipe, content, styles, named, _at)


def named_images(recipe: Recipe) -> dict[str, str]:
    """The images that a recipe gives the locations of: by field, ``start``, ``histogram``, ``spectrum``."""
    values = {field: getattr(recipe, field) for field in LOCATION_FIELDS if field != "weights"}
    return {
        field: value
        for field, value in values.items()
        if value is not None and value not in LOCATION_FIELDS[field]
    }


def _load_pair(
    recipe: Recipe,
    content: Picture | None,
    styles: Sequence[Picture],
    named: Mapping[str, Picture],
    sized: Callable[[Picture, SizesRule, Crop], list[SizedSource]],
) -> LoadedPair:
    """A pair of pictures of whatever kind; each is brought to its sizes before the next one is touched."""
    if content is None and not styles:
        raise SynthesisError("a pair needs a content image, a style image or both")
    style_rule = _sizes(recipe, partial(style_output_size, recipe))
    contents = (
        []
        if content is None
        else sized(content, _sizes(recipe, partial(output_size, recipe)), recipe.content_crop)
    )
    style_sizes: list[list[SizedSource]] = [sized(style, style_rule, recipe.style_crop) for style in styles]
    height, width = (contents or style_sizes[0])[0].pixels.shape[1:]
    starts = (
        sized(named["start"], _sizes(recipe, lambda *_: (width, height)), None) if "start" in named else []
    )
    others = {field: sized(named[field], style_rule, None)[0] for field in REFERENCES if field in named}
    loaded = None
    for size in reversed(range(min(len(found) for found in (contents, *style_sizes, starts) if found))):
        loaded = _at_size(
            recipe,
            contents[size] if contents else None,
            tuple(style[size] for style in style_sizes),
            starts[size] if starts else None,
            loaded,
        )
    assert loaded is not None
    return replace(loaded, references=_references(loaded, others))


def _references(loaded: LoadedPair, others: Mapping[str, SizedSource]) -> dict[str, tuple[SizedSource, ...]]:
    """The images whose appearance the picture is given, by field."""
    found: dict[str, tuple[SizedSource, ...]] = {}
    for field in REFERENCES:
        match getattr(loaded.recipe, field):
            case None:
                continue
            case "content":
                found[field] = (loaded.content,) if loaded.content else ()
            case "style":
                found[field] = loaded.styles
            case _:
                found[field] = (others[field],)
        if not found[field]:
            name = getattr(loaded.recipe, field)
            raise SynthesisError(f"{field} is {name}, but the pair has no {name}; give another {field}")
    return found


def _at_size(
    recipe: Recipe,
    content: SizedSource | None,
    styles: tuple[SizedSource, ...],
    start: SizedSource | None,
    smaller: LoadedPair | None,
) -> LoadedPair:
    image = start.pixels if start else _start_image(recipe, content, styles)
    return LoadedPair(recipe, content, styles, image, start.sha256 if start else None, {}, smaller)


def _sizes(recipe: Recipe, rule: SizeRule) -> SizesRule:
    """The sizes at which a recipe uses a picture whose largest one is given by a rule."""
    return lambda width, height: halved_sizes(*_check_size(rule(width, height)), recipe.scales)


def _check_size(size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    if width * height > MAX_OUTPUT_PIXELS:
        raise SynthesisError(
            f"the recipe makes a picture of {width} x {height} pixels; at most {MAX_OUTPUT_PIXELS} are "
            "possible. Use size (the longer side), or crop the image, which is very long and narrow"
        )
    return size


def _at(source: Source, rule: SizesRule, crop: Crop) -> list[SizedSource]:
    """A source, or the part of it that is used, at every size, the largest first."""
    picture = source.picture if crop is None else cropped(source.picture, crop)
    sizes = rule(*picture.size)
    return [SizedSource(source.pixels(picture, size), source.sha256, crop) for size in sizes]


def _start_image(recipe: Recipe, content: SizedSource | None, styles: Sequence[SizedSource]) -> Tensor:
    if recipe.start == "noise":
        height, width = (content or styles[0]).pixels.shape[1:]
        return white_noise(height, width, recipe.seed)
    if content is None:
        raise SynthesisError("the recipe starts from the content, but the pair has none; use start=noise")
    if recipe.start == "content":
        return content.pixels
    if recipe.start == "scrambled":
        return phase_scrambled(content.pixels, recipe.seed)
    if not styles:
        raise SynthesisError(
            "the recipe starts from the content in the style's colours, but the pair has no style; use "
            "start=content"
        )
    return recoloured(content.pixels, [style.pixels for style in styles], recipe.style_blend)


class Loader:
    """Fetches pictures from storage, keeping the decoded ones that were used last. Threads may share it."""

    def __init__(self, store: ObjectStore, capacity: int, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
        self._store = store
        self._max_pixels = max_pixels
        self._sources: ByteCache[Source] = ByteCache(capacity, lambda source: source.size_bytes)
        self._turns = Turns()
        self._large_picture = threading.Lock()

    def load(self, pair: Pair) -> LoadedPair:
        """Fetch, decode and size the pictures of a pair.

        However many threads call it, one large picture is in memory at a time.

        Raises:
            StorageError: An image cannot be fetched.
            PictureError: An image is not a usable picture.
            SynthesisError: The recipe does not fit the images.
        """
        return _load_pair(pair.recipe, pair.content, pair.styles, named_images(pair.recipe), self._sized)

    def _sized(self, uri: str, rule: SizesRule, crop: Crop) -> list[SizedSource]:
        with self._turns.turn(uri):
            return self._sized_in_turn(uri, rule, crop)

    def _sized_in_turn(self, uri: str, rule: SizesRule, crop: Crop) -> list[SizedSource]:
        source = self._sources.get(uri)
        if source is not None:
            return self._cut(uri, source, rule, crop)
        data = self._store.get_range(uri, 0, LARGE_FILE_BYTES)
        if len(data) < LARGE_FILE_BYTES and math.prod(header_size(data, uri)) <= LARGE_PIXELS:
            return self._cut(uri, self._decoded(uri, data), rule, crop)
        with self._large_picture:
            return self._cut(uri, self._decoded(uri, self._whole(uri, data)), rule, crop)

    def _cut(self, uri: str, source: Source, rule: SizesRule, crop: Crop) -> list[SizedSource]:
        try:
            return _at(source, rule, crop)
        except PictureError as error:
            raise PictureError(f"{uri}: {error}") from error

    def _whole(self, uri: str, data: bytes) -> bytes:
        """The whole file that begins with ``data``."""
        return data if len(data) < LARGE_FILE_BYTES else fetch(self._store, uri)

    def _decoded(self, uri: str, data: bytes) -> Source:
        picture, exact = decode_exactly(data, uri, self._max_pixels)
        source = Source(picture, hashlib.sha256(data).hexdigest(), exact)
        self._sources.put(uri, source)
        return source
