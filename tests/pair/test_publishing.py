"""The published file, its record and its row."""

import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from inmemory import MemoryStore

import stylebatch
from stylebatch.errors import StorageFullError
from stylebatch.layout import Layout, decode_record, image_sha256
from stylebatch.pair.loading import Loader
from stylebatch.pair.publishing import publish, solution_facts, source_names
from stylebatch.pairs import Pair
from stylebatch.pictures import decode, read_provenance
from stylebatch.results import RESULT_SCHEMA
from stylebatch.synthesis.problems import Solution
from stylebatch.work import Facts

PairMaker = Callable[..., Pair]
LAYOUT = Layout("/out")
RUN = {
    "seconds": 12.5,
    "batch": 2,
    "target_hits": 1,
    "target_misses": 5,
    "device": "cuda",
    "host": "worker-7.example.org",
    "attempts": 3,
}
IMAGE = "/out/images/000042/p0.png"


@pytest.fixture
def facts_of(store: MemoryStore, network: Any, solution: Solution) -> Callable[[Pair], Facts]:
    return lambda pair: solution_facts(network, Loader(store, 0).load(pair), solution)


@pytest.fixture
def published(
    store: MemoryStore, solution: Solution, facts_of: Callable[[Pair], Facts]
) -> Callable[..., Facts | None]:
    """``published(pair, run=RUN)``: what :func:`publish` returns for the ready-made solution."""

    def make(pair: Pair, run: Facts = RUN) -> Facts | None:
        return publish(store, LAYOUT, 42, pair, solution, facts_of(pair), run)

    return make


def writes(store: MemoryStore) -> list[tuple[str, str]]:
    return [(method, uri) for method, uri in store.operations if method in ("put", "put_if_absent", "delete")]


class TestFacts:
    def test_they_say_how_the_picture_was_made(
        self, store: MemoryStore, network: Any, make_pair: PairMaker, facts_of: Any
    ) -> None:
        pair = make_pair("c", "s", "t", style_blend=[1, 2])
        facts = facts_of(pair)
        assert {name: facts[name] for name in pair.recipe.to_dict()} == pair.recipe.to_dict()
        assert facts["recipe_sha256"] == pair.recipe.fingerprint
        assert (facts["width"], facts["height"]) == (32, 20)
        assert facts["layer_losses"] == {"content_conv4_2": 2.0, "style_conv1_1": 1.0}
        assert (facts["loss"], facts["content_loss"], facts["style_loss"]) == (3.0, 2.0, 1.0)
        assert (facts["solver_loss"], facts["evaluations"], facts["stop_reason"]) == (2.9, 3, "iterations")
        assert facts["content_sha256"] == image_sha256(store.objects["/in/c.png"])
        assert facts["style_sha256"] == [image_sha256(store.objects[f"/in/{name}.png"]) for name in "st"]
        assert facts["weights_sha256"] == network.sha256
        assert facts["stylebatch_version"] == stylebatch.__version__
        assert facts["torch_version"] == torch.__version__

    def test_no_fact_makes_the_driver_import_torch(self, make_pair: PairMaker, facts_of: Any) -> None:
        """A value of a type of torch's own would, when the driver reads it."""
        kinds = {type(value) for value in facts_of(make_pair("c", "s")).values()}
        assert kinds <= {str, int, float, bool, type(None), list, tuple, dict}

    def test_absent_parts_have_no_hashes(self, make_pair: PairMaker, facts_of: Any) -> None:
        assert facts_of(make_pair(None, "s"))["content_sha256"] is None
        assert facts_of(make_pair("c"))["style_sha256"] == []

    def test_numbers_that_json_cannot_hold_are_null(
        self, store: MemoryStore, network: Any, make_pair: PairMaker, solution: Solution
    ) -> None:
        odd = replace(solution, loss=math.inf, solver_loss=math.nan, layer_losses={"style_conv1_1": math.inf})
        facts = solution_facts(network, Loader(store, 0).load(make_pair("c")), odd)
        assert (facts["loss"], facts["solver_loss"], facts["layer_losses"]) == (
            None,
            None,
            {"style_conv1_1": None},
        )
        json.dumps(facts, allow_nan=False)

    def test_every_fact_has_a_column(self, make_pair: PairMaker, facts_of: Any) -> None:
        assert set(facts_of(make_pair("c", "s"))) <= set(RESULT_SCHEMA.names)

    def test_names_have_no_folders(self) -> None:
        pair = Pair("x", 0, "s3://bucket/private/me.png", ("/home/me/a.png", "/b.png"), stylebatch.Recipe())
        names = {"pair_id": "x", "content_name": "me.png", "style_names": ["a.png", "b.png"]}
        assert source_names(pair) == names | {
            "start": "noise",
            "weights": "caffe",
            "histogram": None,
            "spectrum": None,
        }
        assert source_names(Pair("x", 0, None, (), stylebatch.Recipe()))["content_name"] is None


class TestPublish:
    def test_the_record_comes_first_and_the_image_commits(
        self, store: MemoryStore, make_pair: PairMaker, published: Any
    ) -> None:
        row = published(make_pair("c", "s"))
        sha256 = image_sha256(store.objects[IMAGE])
        record = f"/out/records/000042/p0.{sha256[:16]}.json"
        assert writes(store) == [("put", record), ("put_if_absent", IMAGE)]
        assert decode_record(store.objects[record], record) == row

    def test_the_row_is_whole(self, store: MemoryStore, make_pair: PairMaker, published: Any) -> None:
        row = published(make_pair("c", "s", "t"))
        absent = set(RESULT_SCHEMA.names) - set(row)
        assert absent == {"error", "error_type"}
        assert set(row) <= set(RESULT_SCHEMA.names)
        assert {name: row[name] for name in RUN} == RUN
        assert (row["pair_id"], row["row"], row["content"]) == ("p0", 0, "/in/c.png")
        assert row["style"] == ["/in/s.png", "/in/t.png"]
        assert (row["status"], row["image"], row["loss_curve"]) == ("ok", IMAGE, [9.0, 4.0, 2.9])
        assert row["image_sha256"] == image_sha256(store.objects[IMAGE])

    def test_the_file_is_the_picture(
        self, store: MemoryStore, make_pair: PairMaker, published: Any, solution: Solution
    ) -> None:
        published(make_pair("c", "s"))
        pixels = np.asarray(decode(store.objects[IMAGE], IMAGE))
        assert np.array_equal(pixels, solution.image.permute(1, 2, 0).numpy())

    def test_the_provenance_is_the_facts_and_the_names(
        self, store: MemoryStore, make_pair: PairMaker, published: Any, facts_of: Any
    ) -> None:
        pair = make_pair("c", "s", "t")
        published(pair)
        provenance = read_provenance(store.objects[IMAGE], IMAGE)
        assert provenance == {**facts_of(pair), **source_names(pair)}

    @pytest.mark.parametrize("format", ["png", "jpeg"])
    def test_nothing_inside_tells_where_or_when_it_was_made(
        self, store: MemoryStore, make_pair: PairMaker, published: Any, format: str
    ) -> None:
        published(make_pair("c", "s", format=format))
        image = next(uri for uri in store.objects if "/images/" in uri)
        text = json.dumps(read_provenance(store.objects[image], image))
        for secret in ("/in", "/out", "worker-7", "cuda", "12.5", "seconds", "attempts", "host", "unit"):
            assert secret not in text

    def test_folders_of_a_start_image_and_weights_stay_out_too(
        self, store: MemoryStore, make_pair: PairMaker, published: Any
    ) -> None:
        published(make_pair("c", "s", start="/in/t.png", weights="/in/vgg.pth", weights_family="caffe"))
        text = json.dumps(read_provenance(store.objects[IMAGE], IMAGE))
        assert "t.png" in text
        assert "/in" not in text

    def test_the_same_work_gives_the_same_file(
        self, store: MemoryStore, make_pair: PairMaker, published: Any
    ) -> None:
        published(make_pair("c", "s"))
        first = store.objects.pop(IMAGE)
        published(make_pair("c", "s", row=7), {**RUN, "seconds": 99.0, "host": "elsewhere", "attempts": 1})
        assert store.objects[IMAGE] == first
        assert len([uri for uri in store.objects if "/records/" in uri]) == 1

    def test_another_attempt_that_was_first_wins(
        self, store: MemoryStore, make_pair: PairMaker, published: Any
    ) -> None:
        store.put(IMAGE, b"the winner's")
        assert published(make_pair("c", "s")) is None
        assert store.objects[IMAGE] == b"the winner's"

    def test_without_its_record_no_image_is_stored(
        self, store: MemoryStore, make_pair: PairMaker, published: Any
    ) -> None:
        published(make_pair("c", "s"))
        record = store.calls("put")[-1]
        del store.objects[IMAGE]
        store.errors["put", record] = StorageFullError("no room")
        with pytest.raises(StorageFullError, match="no room"):
            published(make_pair("c", "s"))
        assert IMAGE not in store.objects

    @pytest.mark.parametrize(("format", "suffix"), [("png", ".png"), ("jpeg", ".jpg"), ("npy", ".npy")])
    def test_the_name_ends_as_the_format_does(
        self, store: MemoryStore, make_pair: PairMaker, published: Any, format: str, suffix: str
    ) -> None:
        row = published(make_pair("c", "s", format=format))
        assert row["image"] == f"/out/images/000042/p0{suffix}"
        assert row["image"] in store.objects

    def test_an_array_is_the_bare_pixels(
        self, store: MemoryStore, make_pair: PairMaker, published: Any, solution: Solution
    ) -> None:
        row = published(make_pair("c", "s", format="npy"))
        array = np.load(io.BytesIO(store.objects[row["image"]]))
        assert array.dtype == np.float32
        assert np.array_equal(array, solution.image.permute(1, 2, 0).numpy())
