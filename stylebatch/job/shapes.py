"""The shape each picture will have, learned from the first bytes of an image, and what a run comes to."""

import threading
from collections import Counter
from collections.abc import Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

from stylebatch.errors import PictureError, StylebatchError
from stylebatch.objectstore import ObjectStore
from stylebatch.pairs import Pair
from stylebatch.pictures import (
    DEFAULT_MAX_PIXELS,
    crop_corners,
    output_size,
    stored_size,
    style_output_size,
)
from stylebatch.recipe import Recipe
from stylebatch.synthesis.projection import largest_batch, projected_bytes

READERS = 16
"""Headers that are read at once."""
REMEMBERED = 16_384
"""Sizes that are kept, for images that several pairs share."""


class ShapeReader:
    """Tells the size of a pair's picture without decoding a pixel. Threads may share it."""

    def __init__(self, store: ObjectStore, max_pixels: int = DEFAULT_MAX_PIXELS) -> None:
        self._store = store
        self._max_pixels = max_pixels
        self._whole_file = threading.Lock()  # one at a time: it may be large
        self.picture_size = lru_cache(REMEMBERED)(self._read_picture_size)

    def output_size(self, pair: Pair) -> tuple[int, int]:
        """Width and height of the picture that a pair will have, in pixels.

        Raises:
            StorageError: The image cannot be fetched.
            PictureError: It is no picture, or the part that is to be used is not inside it.
        """
        recipe = pair.recipe
        if pair.content is not None:
            return output_size(recipe, *self._part_size(pair.content, recipe.content_crop))
        return style_output_size(recipe, *self._part_size(pair.styles[0], recipe.style_crop))

    def _part_size(self, uri: str, crop: tuple[int, ...] | None) -> tuple[int, int]:
        """Width and height of the part of a stored image that is used."""
        size = self.picture_size(uri)
        if crop is None:
            return size
        crop_corners(crop, *size)
        return crop[2], crop[3]

    def _read_picture_size(self, uri: str) -> tuple[int, int]:
        """Width and height of a stored image."""
        width, height = stored_size(self._store, uri, self._whole_file)
        if width * height > self._max_pixels:
            raise PictureError(f"{uri} is {width} x {height} pixels; the limit is {self._max_pixels}")
        return width, height


def batch_group(pair: Pair, width: int, height: int) -> Hashable:
    """Pairs with equal groups can share a forward pass."""
    return width, height, pair.content is None, not pair.styles, pair.recipe.shared_settings


@dataclass(frozen=True)
class RunPlan:
    """What a run of some pairs comes to."""

    pairs: int
    """Pairs that were looked at."""
    shapes: Counter[tuple[int, int]]
    """Pictures by (width, height)."""
    batches: int
    """Forward passes' worth of pairs, if all could wait for each other."""
    largest: int
    """Pictures in the largest batch."""
    peak_bytes: int
    """Projected memory of a worker."""
    unreadable: tuple[str, ...]
    """Why the shape of some pairs is not known; they will fail."""


def plan_run(
    pairs: Iterable[Pair], store: ObjectStore, is_gpu: bool = False, max_pixels: int = DEFAULT_MAX_PIXELS
) -> RunPlan:
    """Look at the headers of pairs' images and tell what a run would do."""
    reader = ShapeReader(store, max_pixels)

    def look(pair: Pair) -> tuple[Pair, tuple[int, int]] | str:
        try:
            for style in pair.styles:
                reader.picture_size(style)
            return pair, reader.output_size(pair)
        except StylebatchError as error:
            return f"{pair.pair_id}: {error}"

    with ThreadPoolExecutor(READERS) as readers:
        looks = list(readers.map(look, pairs))
    known = [item for item in looks if not isinstance(item, str)]
    unreadable = tuple(item for item in looks if isinstance(item, str))
    sizes = [*_batch_sizes(known, is_gpu)]
    return RunPlan(
        pairs=len(looks),
        shapes=Counter(size for _, size in known),
        batches=len(sizes),
        largest=max((count for _, _, count in sizes), default=0),
        peak_bytes=max((projected_bytes(recipe, *shape, count) for recipe, shape, count in sizes), default=0),
        unreadable=unreadable,
    )


def _batch_sizes(
    known: list[tuple[Pair, tuple[int, int]]], is_gpu: bool
) -> Iterable[tuple[Recipe, tuple[int, int], int]]:
    """Recipe, (height, width) and number of pictures of every batch."""
    groups: dict[Hashable, list[tuple[Pair, tuple[int, int]]]] = {}
    for pair, size in known:
        groups.setdefault(batch_group(pair, *size), []).append((pair, size))
    for group in groups.values():
        recipe, (width, height) = group[0][0].recipe, group[0][1]
        most = largest_batch(height, width, is_gpu)
        for start in range(0, len(group), most):
            yield recipe, (height, width), min(most, len(group) - start)
