"""Fetch and decode what a pair needs, at the sizes that its recipe asks for."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from stylebatch.errors import PictureError, SynthesisError
from stylebatch.manifest import Pair
from stylebatch.objectstore import ObjectStore
from stylebatch.pair.cache import ByteCache
from stylebatch.pictures import DEFAULT_MAX_PIXELS, decode, output_size, resize, style_output_size
from stylebatch.pictures.encoding import to_tensor
from stylebatch.recipe import START_NAMES, Recipe
from stylebatch.synthesis.synthesize import white_noise

MAX_OUTPUT_PIXELS = 16384**2
"""No picture is made larger, whatever its aspect ratio makes of the recipe's size."""


@dataclass(frozen=True)
class Source:
    """A decoded picture and what identifies it."""

    picture: Image.Image
    """Upright RGB in sRGB."""
    sha256: str
    """Of the file's bytes, or of the pixels where there was no file."""


@dataclass(frozen=True)
class SizedSource:
    """A source at the size at which it is used."""

    pixels: Tensor
    """``(3, H, W)``, float32, RGB, 0..255."""
    sha256: str
    """Of the source."""


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


def size_sources(
    recipe: Recipe, content: Source | None, styles: Sequence[Source], start: Source | None
) -> LoadedPair:
    """Bring the pictures of a pair to the sizes of its recipe; a texture has the size of its first style.

    Args:
        recipe: How large, and where to start.
        content: None for a texture.
        styles: None at all for a content reconstruction.
        start: The start image of a recipe that gives its location; None for the other starts.

    Raises:
        SynthesisError: There is neither content nor style, the recipe starts from a content that is not
            there, or the picture would be absurdly large.
    """
    if content is None and not styles:
        raise SynthesisError("a pair needs a content image, a style image or both")
    model = content or styles[0]
    size_rule = output_size if content else style_output_size
    width, height = _check_size(size_rule(recipe, *model.picture.size))
    sized_content = None if content is None else _at(content, (width, height))
    return LoadedPair(
        recipe=recipe,
        content=sized_content,
        styles=tuple(
            _at(style, _check_size(style_output_size(recipe, *style.picture.size))) for style in styles
        ),
        start=_start_image(recipe, (width, height), sized_content, start),
        start_sha256=start.sha256 if start else None,
    )


def _check_size(size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    if width * height > MAX_OUTPUT_PIXELS:
        raise SynthesisError(
            f"the recipe makes a picture of {width} x {height} pixels; at most {MAX_OUTPUT_PIXELS} are "
            "possible. Use size (the longer side), or crop the image, which is very long and narrow"
        )
    return size


def _at(source: Source, size: tuple[int, int]) -> SizedSource:
    return SizedSource(to_tensor(resize(source.picture, size)), source.sha256)


def _start_image(
    recipe: Recipe, size: tuple[int, int], content: SizedSource | None, start: Source | None
) -> Tensor:
    if start is not None:
        return _at(start, size).pixels
    if recipe.start == "content":
        if content is None:
            raise SynthesisError("the recipe starts from the content, but the pair has none; use start=noise")
        return content.pixels
    return white_noise(size[1], size[0], recipe.seed)


class Loader:
    """Fetches pictures from storage, keeping the decoded ones that were used last."""

    def __init__(self, store: ObjectStore, capacity: int, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
        self._store = store
        self._max_pixels = max_pixels
        self._sources: ByteCache[Source] = ByteCache(
            capacity, lambda source: 3 * source.picture.width * source.picture.height
        )

    def load(self, pair: Pair) -> LoadedPair:
        """Fetch, decode and size the pictures of a pair.

        Raises:
            StorageError: An image cannot be fetched.
            PictureError: An image is not a usable picture.
            SynthesisError: The recipe does not fit the images.
        """
        starts_elsewhere = pair.recipe.start not in START_NAMES
        return size_sources(
            pair.recipe,
            None if pair.content is None else self._source(pair.content),
            [self._source(style) for style in pair.styles],
            self._source(pair.recipe.start) if starts_elsewhere else None,
        )

    def _source(self, uri: str) -> Source:
        source = self._sources.get(uri)
        if source is None:
            data = self._store.get(uri)
            try:
                picture = decode(data, uri, self._max_pixels)
            except MemoryError as error:
                raise PictureError(f"{uri} is too large to decode in this machine's memory") from error
            source = Source(picture, hashlib.sha256(data).hexdigest())
            self._sources.put(uri, source)
        return source
