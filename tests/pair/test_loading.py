"""From a pair to its pictures in memory, at the sizes that its recipe asks for."""

import hashlib
import io
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from inmemory import MemoryStore, picture_bytes

from stylebatch.errors import NotFoundError, PictureError, StylebatchError, SynthesisError
from stylebatch.pair.loading import LoadedPair, Loader, size_sources
from stylebatch.pairs import Pair
from stylebatch.pictures.encoding import as_published, encode
from stylebatch.recipe import Recipe
from stylebatch.synthesis.problems import white_noise
from stylebatch.synthesis.recolouring import recoloured
from stylebatch.synthesis.scrambling import phase_scrambled

PairMaker = Callable[..., Pair]


def load(store: MemoryStore, pair: Pair) -> LoadedPair:
    return Loader(store, capacity=2**20).load(pair)


def shapes(loaded: LoadedPair) -> list[tuple[int, ...]]:
    parts = [*([loaded.content] if loaded.content else []), *loaded.styles]
    return [tuple(part.pixels.shape) for part in parts]


class TestSizes:
    @pytest.mark.parametrize(
        ("settings", "content", "style"),
        [
            ({"size": 32}, (3, 24, 32), (3, 32, 32)),
            ({"size": None, "shorter_side": 24}, (3, 24, 32), (3, 24, 24)),
            ({"size": None, "pixels": 48 * 64}, (3, 48, 64), (3, 55, 55)),
            ({"size": 32, "style_size": 20}, (3, 24, 32), (3, 20, 20)),
        ],
    )
    def test_the_recipe_sizes_content_and_style(
        self,
        store: MemoryStore,
        make_pair: PairMaker,
        settings: dict[str, Any],
        content: tuple[int, ...],
        style: tuple[int, ...],
    ) -> None:
        loaded = load(store, make_pair("c", "s", **settings))
        assert shapes(loaded) == [content, style]
        assert loaded.start.shape == content

    def test_each_style_has_its_own_shape(self, store: MemoryStore, make_pair: PairMaker) -> None:
        assert shapes(load(store, make_pair("c", "s", "t")))[1:] == [(3, 48, 48), (3, 24, 48)]

    def test_a_texture_has_the_size_of_its_first_style(
        self, store: MemoryStore, make_pair: PairMaker
    ) -> None:
        assert load(store, make_pair(None, "t", "s")).start.shape == (3, 24, 48)
        assert load(store, make_pair(None, "t", "s", style_size=32)).start.shape == (3, 16, 32)

    def test_pixels_are_the_files_own(self, store: MemoryStore, make_pair: PairMaker) -> None:
        loaded = load(store, make_pair("c", "s", size=64))
        assert loaded.content is not None
        assert loaded.content.sha256 == hashlib.sha256(store.objects["/in/c.png"]).hexdigest()
        assert loaded.content.pixels.dtype == torch.float32
        assert 0 <= loaded.content.pixels.min() < 60
        assert 200 < loaded.content.pixels.max() <= 255

    def test_an_absurd_aspect_is_refused_before_it_is_resized(
        self, store: MemoryStore, make_pair: PairMaker
    ) -> None:
        store.put("/in/long.png", picture_bytes(1, 4000))
        with pytest.raises(SynthesisError, match="a picture of 300 x 1200000 pixels; at most 268435456 are"):
            load(store, make_pair("long", size=None, shorter_side=300))
        assert load(store, make_pair("long", size=400)).start.shape == (3, 400, 1)

    def test_an_absurd_style_is_refused_too(self, store: MemoryStore, make_pair: PairMaker) -> None:
        store.put("/in/long.png", picture_bytes(1, 4000))
        with pytest.raises(SynthesisError, match="300 x 1200000 pixels"):
            load(store, make_pair("c", "long", size=None, shorter_side=300))


class TestStart:
    def test_from_the_content(self, store: MemoryStore, make_pair: PairMaker) -> None:
        loaded = load(store, make_pair("c", "s", start="content"))
        assert loaded.content is not None
        assert torch.equal(loaded.start, loaded.content.pixels)

    def test_noise_follows_from_the_seed(self, store: MemoryStore, make_pair: PairMaker) -> None:
        one, same, other = (
            load(store, make_pair(content, "s", start="noise", seed=seed)).start
            for content, seed in (("c", 3), ("d", 3), ("c", 4))
        )
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
        assert (one.min() >= 0, one.max() <= 255, one.std() > 60) == (True, True, True)

    def test_from_a_stored_image_at_the_size_of_the_picture(
        self, store: MemoryStore, make_pair: PairMaker
    ) -> None:
        loaded = load(store, make_pair("c", "s", start="/in/tall.png"))
        tall = load(store, make_pair("tall", size=64)).start
        assert loaded.start.shape == (3, 36, 48)
        assert abs(float(loaded.start.mean() - tall.mean())) < 5

    @pytest.mark.parametrize("format", ["tiff", "npy"])
    def test_a_published_picture_has_all_its_digits_at_its_own_size(
        self, store: MemoryStore, make_pair: PairMaker, format: str
    ) -> None:
        pixels = 255 * torch.rand(3, 36, 48, generator=torch.Generator().manual_seed(3))
        store.put("/out/fine", encode(pixels, format, 95, {"seed": 3}))
        start = load(store, make_pair("c", "s", start="/out/fine")).start
        assert torch.equal(start, as_published(pixels, format, 95))
        smaller = load(store, make_pair("c", "s", start="/out/fine", size=32)).start
        assert smaller.shape == (3, 24, 32)
        assert torch.equal(smaller, smaller.round())

    def test_a_16_bit_tiff_of_somebody_else_is_read_as_any_picture(
        self, store: MemoryStore, make_pair: PairMaker
    ) -> None:
        levels = np.random.default_rng(1).integers(0, 65536, (36, 48, 3), np.uint16)
        file = io.BytesIO()
        tifffile.imwrite(file, levels, photometric="rgb", metadata=None)
        store.put("/in/foreign.tif", file.getvalue())
        start = load(store, make_pair("c", "s", start="/in/foreign.tif")).start
        assert torch.equal(start, start.round())

    def test_an_array_is_measured_against_the_limit(self, store: MemoryStore, make_pair: PairMaker) -> None:
        store.put("/out/fine.npy", encode(torch.zeros(3, 36, 48), "npy", 95, {}))
        with pytest.raises(PictureError, match=r"fine\.npy is 48 x 36 pixels; at most 1700 pixels"):
            Loader(store, 2**20, max_pixels=1700).load(make_pair(None, "s", start="/out/fine.npy"))

    def test_a_content_that_is_not_there_is_no_start(self, store: MemoryStore, make_pair: PairMaker) -> None:
        with pytest.raises(
            SynthesisError, match="starts from the content, but the pair has none; use start="
        ):
            load(store, make_pair(None, "s", start="content"))

    def test_from_the_content_in_the_colours_of_its_styles(
        self, store: MemoryStore, make_pair: PairMaker
    ) -> None:
        loaded = load(store, make_pair("c", "s", "t", start="recoloured", style_blend=(1, 3)))
        assert loaded.content is not None
        styles = [style.pixels for style in loaded.styles]
        assert torch.equal(loaded.start, recoloured(loaded.content.pixels, styles, (1, 3)))
        assert not torch.equal(loaded.start, loaded.content.pixels)

    def test_colours_that_are_not_there_are_no_start(self, store: MemoryStore, make_pair: PairMaker) -> None:
        with pytest.raises(SynthesisError, match="the pair has no style; use start=content"):
            load(store, make_pair("c", start="recoloured"))


class TestScales:
    def test_every_size_has_its_pictures(self, store: MemoryStore, make_pair: PairMaker) -> None:
        loaded = load(store, make_pair("c", "s", size=256, style_size=512, scales=3, start="content"))
        assert loaded.sizes == 2  # a third would be 64 x 48
        assert shapes(loaded) == [(3, 192, 256), (3, 512, 512)]
        assert loaded.smaller is not None
        assert shapes(loaded.smaller) == [(3, 96, 128), (3, 256, 256)]
        assert loaded.smaller.smaller is None
        assert loaded.smaller.content is not None
        assert torch.equal(loaded.smaller.start, loaded.smaller.content.pixels)

    def test_a_smaller_picture_is_the_one_that_a_smaller_recipe_gives(
        self, store: MemoryStore, make_pair: PairMaker
    ) -> None:
        """So their targets are the same, too."""
        settings: dict[str, Any] = {"start": "/in/tall.png", "scales": 2}
        smaller = load(store, make_pair("c", "s", size=192, **settings)).smaller
        alone = load(store, make_pair("c", "s", size=96, **settings))
        assert smaller is not None
        assert alone.smaller is None
        assert smaller.content is not None
        assert alone.content is not None
        assert smaller.content.sha256 == alone.content.sha256
        assert torch.equal(smaller.content.pixels, alone.content.pixels)
        assert torch.equal(smaller.styles[0].pixels, alone.styles[0].pixels)
        assert torch.equal(smaller.start, alone.start)

    def test_noise_is_made_at_each_size(self, store: MemoryStore, make_pair: PairMaker) -> None:
        loaded = load(store, make_pair(None, "s", size=128, scales=2, start="noise", seed=5))
        assert loaded.smaller is not None
        assert torch.equal(loaded.smaller.start, white_noise(64, 64, 5))

    def test_a_style_that_would_be_too_small_leaves_a_size_out(
        self, store: MemoryStore, make_pair: PairMaker
    ) -> None:
        assert load(store, make_pair("c", "s", size=256, style_size=100, scales=2)).sizes == 1


class TestErrors:
    @pytest.mark.parametrize("role", ["content", "style", "start"])
    @pytest.mark.parametrize(
        ("data", "kind", "message"),
        [
            (None, NotFoundError, "/in/bad.png: nothing is there"),
            (b"", PictureError, "/in/bad.png is empty"),
            (b"a shopping list", PictureError, "/in/bad.png is not a picture"),
            (picture_bytes(64, 64)[:-300], PictureError, "/in/bad.png ends too early: the file is truncated"),
        ],
    )
    def test_the_image_is_named(
        self,
        store: MemoryStore,
        make_pair: PairMaker,
        role: str,
        data: bytes | None,
        kind: type[StylebatchError],
        message: str,
    ) -> None:
        if data is not None:
            store.put("/in/bad.png", data)
        pairs = {
            "content": make_pair("bad", "s"),
            "style": make_pair("c", "s", "bad"),
            "start": make_pair("c", "s", start="/in/bad.png"),
        }
        with pytest.raises(kind, match=message):
            load(store, pairs[role])

    def test_too_many_pixels_are_refused(self, store: MemoryStore, make_pair: PairMaker) -> None:
        with pytest.raises(PictureError, match=r"/in/c\.png is 64 x 48 pixels; at most 3000"):
            Loader(store, 0, max_pixels=3000).load(make_pair("c"))

    def test_nothing_is_no_pair(self) -> None:
        with pytest.raises(SynthesisError, match="needs a content image, a style image or both"):
            size_sources(Recipe(), None, [], {})


class MeetingStore(MemoryStore):
    """Fails if two threads read at once."""

    def get_range(self, uri: str, start: int, length: int) -> bytes:
        with suppress(threading.BrokenBarrierError):
            self.others.wait(timeout=0.1)
            pytest.fail(f"{uri} is fetched twice at once")
        return super().get_range(uri, start, length)

    def __init__(self, objects: Mapping[str, bytes]) -> None:
        super().__init__(objects)
        self.others = threading.Barrier(2)


class TestLoader:
    def test_an_image_is_fetched_once(self, store: MemoryStore, make_pair: PairMaker) -> None:
        loader = Loader(store, capacity=2**20)
        for size in (32, 48):
            loader.load(make_pair("c", "s", "t", size=size))
            loader.load(make_pair("d", "s", size=size, start="/in/t.png"))
        assert sorted(store.calls("get_range")) == ["/in/c.png", "/in/d.png", "/in/s.png", "/in/t.png"]

    def test_threads_that_want_the_same_image_fetch_it_once(
        self, store: MemoryStore, make_pair: PairMaker
    ) -> None:
        loader, both_fetch = Loader(MeetingStore(store.objects), capacity=2**20), make_pair("c", "s")
        with ThreadPoolExecutor(2) as pool:
            one, other = pool.map(loader.load, [both_fetch, both_fetch])
        assert one.content is not None
        assert other.content is not None
        assert torch.equal(one.content.pixels, other.content.pixels)

    def test_what_it_keeps_is_bounded(self, store: MemoryStore, make_pair: PairMaker) -> None:
        loader = Loader(store, capacity=3 * 64 * 48)
        for content in ("c", "d", "c"):
            loader.load(make_pair(content))
        assert store.calls("get_range") == ["/in/c.png", "/in/d.png", "/in/c.png"]


class TestCrops:
    def test_a_part_of_the_content_is_used_and_resized(
        self, store: MemoryStore, make_pair: PairMaker
    ) -> None:
        whole = load(store, make_pair("c", "s", size=64))
        part = load(store, make_pair("c", "s", size=20, content_crop=[10, 8, 20, 16]))
        assert whole.content is not None
        assert part.content is not None
        assert torch.equal(part.content.pixels, whole.content.pixels[:, 8:24, 10:30])
        assert part.start.shape == (3, 16, 20)
        assert part.content.sha256 == whole.content.sha256
        assert part.content.crop == (10, 8, 20, 16)

    def test_a_part_of_every_style_is_used(self, store: MemoryStore, make_pair: PairMaker) -> None:
        loaded = load(store, make_pair("c", "s", "t", style_size=30, style_crop=[0, 0, 30, 20]))
        assert shapes(loaded)[1:] == [(3, 20, 30), (3, 20, 30)]

    @pytest.mark.parametrize("crop", [[50, 0, 20, 20], [0, 40, 20, 20], [0, 0, 65, 48]])
    def test_a_part_that_is_not_inside_is_refused_by_name(
        self, store: MemoryStore, make_pair: PairMaker, crop: list[int]
    ) -> None:
        with pytest.raises(PictureError, match=r"/in/c\.png: the crop .* is not inside .* 64 x 48 pixels"):
            load(store, make_pair("c", "s", content_crop=crop))


def test_a_scrambled_start_is_the_content_with_other_phases(store: MemoryStore, make_pair: PairMaker) -> None:
    loaded = load(store, make_pair("c", "s", start="scrambled", seed=5))
    assert loaded.content is not None
    assert torch.equal(loaded.start, phase_scrambled(loaded.content.pixels, 5))
    with pytest.raises(SynthesisError, match="starts from the content"):
        load(store, make_pair(None, "s", start="scrambled"))
