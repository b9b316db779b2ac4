"""Shapes from headers, and the plan of a run."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from inmemory import MemoryStore, picture_bytes
from PIL import Image

from stylebatch.errors import NotFoundError, PictureError
from stylebatch.job import RunPlan, ShapeReader, batch_group, plan_run
from stylebatch.pairs import Pair
from stylebatch.pictures.fetching import HEADER_BYTES
from stylebatch.recipe import Recipe
from stylebatch.synthesis.projection import largest_batch, projected_bytes

RECIPE = Recipe(size=64)


def pair(number: int, content: str | None, *styles: str, recipe: Recipe = RECIPE) -> Pair:
    return Pair(f"p{number}", number, content, styles, recipe)


def noise_picture(store: MemoryStore, uri: str, format: str) -> int:
    """A file of more than HEADER_BYTES; returns its length."""
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, format, **({"lossless": True} if format == "WEBP" else {}))
    store.put(uri, file.getvalue())
    return len(file.getvalue())


class TestShapeReader:
    def test_the_content_gives_the_shape(self) -> None:
        store = MemoryStore({"/c": picture_bytes(40, 80), "/s": picture_bytes(100, 10)})
        assert ShapeReader(store).output_size(pair(0, "/c", "/s")) == (32, 64)
        assert store.calls("get", "get_range") == ["/c"]

    def test_the_first_style_gives_the_shape_of_a_texture(self) -> None:
        store = MemoryStore({"/s": picture_bytes(100, 50), "/t": picture_bytes(10, 10)})
        reader = ShapeReader(store)
        assert reader.output_size(pair(0, None, "/s", "/t")) == (64, 32)
        small = Recipe(size=64, style_size=32)
        assert reader.output_size(pair(1, None, "/s", "/t", recipe=small)) == (32, 16)

    @pytest.mark.parametrize("format", ["PNG", "JPEG"])
    def test_only_the_beginning_of_a_file_is_read(self, format: str) -> None:
        store = MemoryStore()
        assert noise_picture(store, "/c", format) > HEADER_BYTES
        assert ShapeReader(store).output_size(pair(0, "/c")) == (64, 48)
        assert store.read == [("/c", HEADER_BYTES)]

    def test_a_header_further_back_costs_the_whole_file(self) -> None:
        store = MemoryStore()
        length = noise_picture(store, "/c", "WEBP")
        assert length > HEADER_BYTES
        assert ShapeReader(store).output_size(pair(0, "/c")) == (64, 48)
        assert store.read == [("/c", HEADER_BYTES), ("/c", length)]

    def test_an_image_of_several_pairs_is_read_once(self) -> None:
        store = MemoryStore({"/c": picture_bytes(40, 80)})
        reader = ShapeReader(store)
        sizes = {reader.output_size(pair(i, "/c", recipe=Recipe(size=16 + i))) for i in range(5)}
        assert len(sizes) == 5
        assert len(store.read) == 1

    def test_what_is_no_picture_is_said(self) -> None:
        store = MemoryStore({"/empty": b"", "/text": b"a shopping list"})
        with pytest.raises(PictureError, match=r"^/empty is empty"):
            ShapeReader(store).output_size(pair(0, "/empty"))
        with pytest.raises(PictureError, match=r"^/text is not a picture"):
            ShapeReader(store).output_size(pair(0, "/text"))
        with pytest.raises(NotFoundError, match=r"^/gone"):
            ShapeReader(store).output_size(pair(0, "/gone"))


class TestBatchGroup:
    @pytest.mark.parametrize(
        "changes",
        [{"seed": 1}, {"style_weight": 7.0}, {"start": "content"}, {"format": "jpeg"}, {"tv_weight": 1.0}],
    )
    def test_pairs_that_may_differ_share_a_group(self, changes: dict[str, Any]) -> None:
        other = pair(1, "/d", "/t", recipe=RECIPE.replace(changes))
        assert batch_group(pair(0, "/c", "/s"), 64, 48) == batch_group(other, 64, 48)

    @pytest.mark.parametrize(
        "changes", [{"iterations": 7}, {"pooling": "max"}, {"style_layers": ["conv1_1"]}, {"weights": "/w.p"}]
    )
    def test_pairs_that_must_agree_do_not(self, changes: dict[str, Any]) -> None:
        other = pair(1, "/d", "/t", recipe=RECIPE.replace(changes))
        assert batch_group(pair(0, "/c", "/s"), 64, 48) != batch_group(other, 64, 48)

    def test_shape_and_parts_count(self) -> None:
        groups = {
            batch_group(pair(0, "/c", "/s"), 64, 48),
            batch_group(pair(0, "/c", "/s"), 48, 64),
            batch_group(pair(0, None, "/s"), 64, 48),
            batch_group(pair(0, "/c"), 64, 48),
        }
        assert len(groups) == 4


class TestPlan:
    def test_a_plan_counts_shapes_batches_and_memory(self) -> None:
        wide, tall = picture_bytes(40, 20), picture_bytes(20, 40)
        store = MemoryStore({"/wide": wide, "/tall": tall, "/s": wide})
        pairs = [pair(i, "/wide" if i < 30 else "/tall", "/s") for i in range(40)]
        most = largest_batch(32, 64, is_gpu=False)
        assert most == 16
        plan = plan_run(pairs, store)
        assert plan == RunPlan(
            pairs=40,
            shapes={(64, 32): 30, (32, 64): 10},  # type: ignore[arg-type]
            batches=3,
            largest=16,
            peak_bytes=projected_bytes(RECIPE, 32, 64, 16),
            unreadable=(),
        )

    def test_pairs_of_different_settings_are_not_batched(self) -> None:
        store = MemoryStore({"/c": picture_bytes(40, 20), "/s": picture_bytes(20, 20)})
        pairs = [pair(i, "/c", "/s", recipe=Recipe(size=64, iterations=i % 2)) for i in range(4)]
        assert plan_run(pairs, store).batches == 2

    def test_images_that_cannot_be_read_are_named(self) -> None:
        store = MemoryStore({"/c": picture_bytes(40, 20), "/text": b"a shopping list"})
        plan = plan_run([pair(0, "/text"), pair(1, "/c"), pair(2, "/gone")], store)
        assert plan.pairs == 3
        assert plan.shapes == {(64, 32): 1}
        text, gone = plan.unreadable
        assert text.startswith("p0: /text is not a picture in a format that ")
        assert gone == "p2: /gone: nothing is there"

    def test_nothing_comes_to_nothing(self) -> None:
        assert plan_run([], MemoryStore()) == RunPlan(0, {}, 0, 0, 0, ())  # type: ignore[arg-type]

    def test_pairs_may_be_a_stream(self) -> None:
        def stream() -> Iterator[Pair]:
            yield from (pair(i, "/c") for i in range(3))

        assert plan_run(stream(), MemoryStore({"/c": picture_bytes(8, 8)})).pairs == 3
