"""Distances of pictures: the formula, the table, and what is refused."""

import csv
import io
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from audit_outputs import FOLDER, OUTPUT, real_network
from finishedjob import edit_part, finish_job
from inmemory import MemoryStore

from stylebatch.audit import distances, similarity
from stylebatch.audit.distances import VectorFile, distance, distances_by_products
from stylebatch.audit.similarity import Comparison, SimilarityOptions, compare
from stylebatch.errors import JobError, NotFoundError, RecipeError
from stylebatch.layout import Layout
from stylebatch.pictures.encoding import read_published
from stylebatch.recipe import PAPER_STYLE_LAYERS, Recipe

NAMES = ["plain", "dotted.name", "photo", "array", "texture", "content-only"]
DEFAULTS = SimilarityOptions()
TABLE = f"{FOLDER}/similarity.parquet"


@pytest.fixture(autouse=True)
def _network_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "load_network", lambda *_: real_network())


def compared(
    store: MemoryStore, options: SimilarityOptions = DEFAULTS, output: str = OUTPUT
) -> tuple[Comparison, list[dict[str, Any]]]:
    found = compare(store, output, TABLE, options)
    rows = pq.read_table(io.BytesIO(store.objects[TABLE])).to_pylist()
    assert (found.rows, found.nulls) == (len(rows), sum(row["distance"] is None for row in rows))
    return found, rows


def picked(rows: list[dict[str, Any]], **wanted: str) -> list[dict[str, Any]]:
    return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


class TestTheDistance:
    @pytest.fixture
    def vectors(self) -> np.ndarray:
        vectors = np.random.default_rng(1).random((6, 500)).astype(np.float32)
        vectors[4] = vectors[1]
        vectors[5] = 0
        return vectors

    def test_is_the_difference_over_the_root_mean_square_of_the_sizes(self, vectors: np.ndarray) -> None:
        one, other = vectors[0].astype(float), vectors[1].astype(float)
        size = math.sqrt((np.sum(one**2) + np.sum(other**2)) / 2)
        expected = math.sqrt(np.sum((one - other) ** 2)) / size
        assert distance(vectors[0], vectors[1]) == pytest.approx(expected, rel=1e-9)

    def test_is_symmetric_and_zero_for_equals(self, vectors: np.ndarray) -> None:
        for one in vectors:
            assert distance(one, one) == 0
            for other in vectors:
                assert distance(one, other) == distance(other, one)
        assert distance(vectors[1], vectors[4]) == 0

    def test_is_at_most_the_root_of_two_where_nothing_is_negative(self) -> None:
        one, other = np.array([3.0, 0.0]), np.array([0.0, 3.0])
        assert distance(one, other) == pytest.approx(math.sqrt(2))
        assert distance(one, np.zeros(2)) == pytest.approx(math.sqrt(2))
        assert distance(np.zeros(2), np.zeros(2)) == 0

    def test_grows_with_the_change(self, vectors: np.ndarray) -> None:
        steps = [distance(vectors[0], vectors[0] + np.float32(step) * vectors[1]) for step in (0, 0.01, 1)]
        assert steps == sorted(steps)
        assert steps[0] == 0 < steps[1]

    @pytest.mark.parametrize("column_bytes", [1, 6 * 8 * 7, 10**9])
    def test_all_at_once_are_the_same_as_one_by_one(
        self, vectors: np.ndarray, tmp_path: Path, column_bytes: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(distances, "COLUMN_BYTES", column_bytes)
        file = VectorFile(tmp_path / "vectors", 500)
        for vector in vectors:
            file.append(vector)
        found = distances_by_products(file.products(6))
        assert (found == found.T).all()
        assert (np.diagonal(found) == 0).all()
        assert found[1, 4] == 0
        expected = [[distance(one, other) for other in vectors] for one in vectors]
        assert found == pytest.approx(np.array(expected), abs=1e-9)


class TestTheTable:
    def test_has_every_two_stimuli_once_in_every_layer(self, store: MemoryStore) -> None:
        found, rows = compared(store)
        assert found.layers.content == ("conv4_2",)
        assert found.layers.style == PAPER_STYLE_LAYERS
        assert found.stimuli == 6
        for space, layers in (("content", found.layers.content), ("style", found.layers.style)):
            for layer in layers:
                pairs = [
                    (row["a"], row["b"])
                    for row in picked(rows, kind="stimulus-stimulus", space=space, layer=layer)
                ]
                assert pairs == [(one, other) for i, one in enumerate(NAMES) for other in NAMES[i + 1 :]]
        assert all(row["distance"] is None or 0 <= row["distance"] <= math.sqrt(2) for row in rows)

    def test_has_every_stimulus_with_each_of_its_sources(self, store: MemoryStore) -> None:
        _, rows = compared(store)
        of_content = picked(rows, kind="stimulus-content", layer="conv4_2")
        assert [(row["a"], row["b"].removeprefix(FOLDER)) for row in of_content] == [
            ("plain", "/c.png"),
            ("dotted.name", "/d.png"),
            ("photo", "/tall.png"),
            ("array", "/d.png"),
            ("content-only", "/c.png"),
        ]
        of_style = picked(rows, kind="stimulus-style", space="style", layer="conv5_1")
        assert [(row["a"], row["b"].removeprefix(FOLDER)) for row in of_style] == [
            ("plain", "/s.png"),
            ("dotted.name", "/s.png"),
            ("photo", "/t.png"),
            ("array", "/s.png"),
            ("array", "/t.png"),
            ("texture", "/t.png"),
        ]

    def test_holds_what_the_formula_gives(self, store: MemoryStore) -> None:
        _, rows = compared(store)
        images = [f"{OUTPUT}/images/000000/plain.png", f"{OUTPUT}/images/000001/content-only.png"]
        one, other = (
            real_network().responses(
                read_published(store.objects[uri], uri)[None], ("conv2_1", "conv4_2"), "average"
            )
            for uri in images
        )
        grams = [
            torch.einsum("iyx,jyx->ij", *[found["conv2_1"][0].double()] * 2) / found["conv2_1"][0][0].numel()
            for found in (one, other)
        ]
        for space, layer, x, y in (
            ("content", "conv4_2", one["conv4_2"][0].double(), other["conv4_2"][0].double()),
            ("style", "conv2_1", *grams),
        ):
            expected = (x - y).norm() / ((x.square().sum() + y.square().sum()) / 2).sqrt()
            (row,) = picked(
                rows, kind="stimulus-stimulus", a="plain", b="content-only", space=space, layer=layer
            )
            assert row["distance"] == pytest.approx(float(expected), rel=1e-5)

    def test_sizes_that_differ_have_a_distance_in_style_alone(self, store: MemoryStore) -> None:
        _, rows = compared(store)
        (content,) = picked(rows, a="plain", b="photo", space="content")
        assert content["distance"] is None
        assert content["reason"] == "sizes differ: 48 x 36 and 36 x 48"
        for row in picked(rows, a="plain", b="photo", space="style"):
            assert row["distance"] > 0
            assert row["reason"] is None
        (to_style,) = picked(rows, kind="stimulus-style", a="plain", space="content")
        assert to_style["reason"] == "sizes differ: 48 x 36 and 48 x 48"

    def test_a_stimulus_that_is_its_content_is_at_zero(self, store: MemoryStore) -> None:
        columns = {"pair_id": ["same", "twin"], "content": ["c.png"] * 2, "style": ["s.png"] * 2}
        output = f"{FOLDER}/still"
        finish_job(
            store, f"{FOLDER}/still.parquet", output, columns, Recipe(size=64, iterations=0, start="content")
        )
        _, rows = compared(store, output=output)
        is_zero = {"stimulus-stimulus": True, "stimulus-content": True, "stimulus-style": False}
        for kind, expected in is_zero.items():
            found = [row["distance"] for row in picked(rows, kind=kind) if row["distance"] is not None]
            assert found
            assert all((value == 0) == expected for value in found)

    def test_layers_can_be_chosen(self, store: MemoryStore) -> None:
        found, rows = compared(store, SimilarityOptions(layers=("pool3", "conv1_2")))
        assert found.layers.content == found.layers.style == ("conv1_2", "pool3")
        assert {(row["space"], row["layer"]) for row in rows} == {
            (space, layer) for space in ("content", "style") for layer in ("conv1_2", "pool3")
        }

    def test_text_says_the_same(self, store: MemoryStore) -> None:
        _, rows = compared(store)
        uri = f"{FOLDER}/similarity.tsv"
        compare(store, OUTPUT, uri, SimilarityOptions())
        lines = store.objects[uri].decode().splitlines()
        read = list(csv.DictReader(lines, dialect="excel-tab"))
        assert [
            {
                **row,
                "distance": None if row["distance"] == "n/a" else float(row["distance"]),
                "reason": None if row["reason"] == "n/a" else row["reason"],
            }
            for row in read
        ] == rows

    def test_sources_only(self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(similarity, "MOST_STIMULI", 2)
        _, rows = compared(store, SimilarityOptions(to_sources_only=True))
        assert {row["kind"] for row in rows} == {"stimulus-content", "stimulus-style"}

    def test_a_source_that_is_gone_costs_its_own_distances(self, store: MemoryStore) -> None:
        store.delete(f"{FOLDER}/t.png")
        _, rows = compared(store)
        gone = [row for row in rows if row["b"] == f"{FOLDER}/t.png"]
        assert {row["reason"] for row in gone} == {f"{FOLDER}/t.png: nothing is there"}
        assert {row["distance"] for row in gone} == {None}
        assert not picked(rows, reason=f"{FOLDER}/s.png: nothing is there")

    def test_progress_and_networks_are_told(self, store: MemoryStore) -> None:
        steps: list[tuple[int, int]] = []
        found = compare(
            store, OUTPUT, TABLE, SimilarityOptions(), lambda done, total: steps.append((done, total))
        )
        assert steps == [(done, 6) for done in range(1, 7)]
        (notice,) = found.notices
        assert notice.startswith("the stimuli were made with 2 networks; all distances are measured in that ")
        assert notice.endswith("weights caffe, average pooling")


class TestRefusals:
    def test_more_stimuli_than_can_be_compared(
        self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(similarity, "MOST_STIMULI", 5)
        with pytest.raises(JobError, match=r"there are 6 stimuli; at most 5 are .* --sources-only has no"):
            compared(store)
        assert TABLE not in store.objects

    def test_no_room_for_the_temporary_files(
        self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = type(shutil.disk_usage("/"))
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 10**7))
        with pytest.raises(JobError, match=r"to compare 6 stimuli takes .* GB of temporary files and there"):
            compared(store)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 2 * 10**7))
        compared(store)

    @pytest.mark.parametrize("name", ["similarity.csv", "similarity", "similarity.parquet.txt"])
    def test_another_format(self, store: MemoryStore, name: str) -> None:
        with pytest.raises(RecipeError, match=r"the table is written as \.parquet or \.tsv"):
            compare(store, OUTPUT, f"{FOLDER}/{name}", SimilarityOptions())

    def test_an_unknown_layer(self, store: MemoryStore) -> None:
        with pytest.raises(RecipeError, match=r"there is no layer conv9_1; the layers are conv1_1, "):
            compared(store, SimilarityOptions(layers=("conv9_1",)))

    def test_a_stimulus_that_is_gone(self, store: MemoryStore) -> None:
        store.delete(f"{OUTPUT}/images/000000/plain.png")
        with pytest.raises(NotFoundError):
            compared(store)

    def test_a_set_without_stimuli(self, store: MemoryStore) -> None:
        for unit in (0, 1):
            store.delete(Layout(OUTPUT).part(unit))
        with pytest.raises(JobError, match="has no stimulus: every pair that has ended has failed"):
            compared(store)

    def test_rows_that_failed_are_left_out(self, store: MemoryStore) -> None:
        edit_part(store, OUTPUT, 1, lambda rows: [row.update(status="failed") for row in rows])
        found, _ = compared(store)
        assert found.stimuli == 3
