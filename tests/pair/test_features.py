"""Features against literal transcriptions in float64, their projection, and the rows of a table."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from inmemory import MemoryStore, picture_bytes

from stylebatch.errors import JobError, RecipeError, StorageUnavailableError, SynthesisError
from stylebatch.objectstore import ObjectFile
from stylebatch.pair import features as features_module
from stylebatch.pair.feature_request import (
    IMAGES_PER_PART,
    PART_BYTES,
    FeatureSettings,
    default_images_per_part,
)
from stylebatch.pair.feature_table import (
    METADATA_KEY,
    encode_rows,
    feature_schema,
    join_parts,
    read_description,
    read_failures,
)
from stylebatch.pair.features import (
    FeatureMeasurer,
    GramProjections,
    measure,
    off_diagonal_weights,
    upper_triangle,
)
from stylebatch.pair.sparse_projection import SparseProjection
from stylebatch.recipe import LAYERS, PAPER_STYLE_LAYERS
from stylebatch.synthesis.vgg import VGG19
from stylebatch.synthesis.weights import Weights

SMALL = FeatureSettings(layers=("conv1_1",), content_layers=("conv2_1",), size=32)
PRECISION = 2e-5
"""Of float32 responses and their sums, relative to the largest number of a vector."""


@pytest.fixture(scope="module")
def network64(weights: Weights) -> VGG19:
    return VGG19(weights).double()


def image(seed: int, height: int = 24, width: int = 32) -> torch.Tensor:
    """A smooth random image ``(1, 3, H, W)`` in float64."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 5, generator=generator, dtype=torch.float64)
    return 255 * torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")


def measured(network: VGG19, images: torch.Tensor, settings: FeatureSettings) -> dict[str, np.ndarray]:
    return {name: values.numpy() for name, values in measure(network, images.float(), settings)}


def is_close(found: np.ndarray, wanted: Any) -> bool:
    wanted = np.asarray(wanted)
    return found.shape == wanted.shape and bool(abs(found - wanted).max() <= PRECISION * abs(wanted).max())


class TestMeasures:
    @pytest.mark.parametrize("pooling", ["average", "max"])
    @pytest.mark.parametrize("layer", ["conv1_1", "pool2", "conv3_1", "conv5_1"])
    def test_they_are_the_literal_sums(
        self, network: VGG19, network64: VGG19, layer: str, pooling: str
    ) -> None:
        settings = FeatureSettings(layers=(layer,), content_layers=(layer,), pooling=pooling)
        found = measured(network, image(1), settings)
        F = network64.responses(image(1), [layer], pooling)[layer][0].flatten(1).numpy()
        N, M = F.shape
        gram = [sum(F[i] * F[j]) / M for i in range(N) for j in range(i, N)] if N < 200 else None
        assert list(found) == [f"content_{layer}", f"gram_{layer}"]
        assert is_close(found[f"content_{layer}"][0], [sum(F[i, k] for k in range(M)) / M for i in range(N)])
        whole = np.einsum("ik,jk->ij", F, F) / M
        assert is_close(
            found[f"gram_{layer}"][0], gram or [whole[i, j] for i in range(N) for j in range(i, N)]
        )

    def test_a_grid_keeps_places_apart(self, network: VGG19, network64: VGG19) -> None:
        settings = FeatureSettings(layers=("conv1_1",), content_layers=("conv2_1",), grid=2)
        found = measured(network, image(2), settings)["content_conv2_1"][0]
        F = network64.responses(image(2), ["conv2_1"])["conv2_1"][0].numpy()
        assert F.shape[1:] == (12, 16)
        cells = [
            F[i, top : top + 6, left : left + 8].mean()
            for i in range(len(F))
            for top in (0, 6)
            for left in (0, 8)
        ]
        assert is_close(found, cells)

    def test_a_grid_without_positions_is_refused(self, network: VGG19) -> None:
        settings = FeatureSettings(layers=("conv1_1",), content_layers=("conv1_1", "conv4_1"), grid=4)
        with pytest.raises(
            SynthesisError, match="a picture of 32 x 24 pixels has 4 x 3 positions at conv4_1, too few for a"
        ):
            measured(network, image(3), settings)

    def test_images_do_not_mix(self, network: VGG19) -> None:
        together = measured(network, torch.cat([image(4), image(5)]), SMALL)
        for number, seed in enumerate((4, 5)):
            for name, values in measured(network, image(seed), SMALL).items():
                assert is_close(together[name][number], values[0])

    def test_a_triangle_is_read_row_by_row(self) -> None:
        matrix = torch.tensor([[[1, 2, 3], [2, 4, 5], [3, 5, 6]]])
        assert upper_triangle(matrix).tolist() == [[1, 2, 3, 4, 5, 6]]

    def test_weighted_distances_are_those_of_matrices(self, network: VGG19) -> None:
        """Frobenius distances of whole matrices, conv1_1."""
        one, other = (measured(network, image(seed), SMALL)["gram_conv1_1"][0] for seed in (6, 7))
        places = np.triu_indices(64)
        matrices = np.zeros((2, 64, 64))
        for matrix, triangle in zip(matrices, (one, other), strict=True):
            matrix[places] = triangle
            matrix.T[places] = triangle
        weighted = off_diagonal_weights("conv1_1") * (one - other)
        assert np.linalg.norm(weighted) == pytest.approx(np.linalg.norm(matrices[0] - matrices[1]), rel=1e-5)


class TestProjection:
    @pytest.fixture
    def vectors(self) -> np.ndarray:
        """Heavy-tailed ones, as Gram matrices are: a few numbers are much larger than the others."""
        return np.random.default_rng(0).standard_normal((40, 8256)) ** 3

    def test_distances_are_kept(self, vectors: np.ndarray) -> None:
        """The ratio of squared distances has mean 1 and a variance of at most 2 / dimension."""
        dimension = 256
        ratios = []
        for seed in range(10):
            projected = SparseProjection(8256, dimension, seed, 0)(vectors)
            for one, other in zip(range(0, 40, 2), range(1, 40, 2), strict=True):
                lengths = (float(np.sum((each[one] - each[other]) ** 2.0)) for each in (projected, vectors))
                ratios.append(next(lengths) / next(lengths))
        deviation = math.sqrt(2 / dimension)
        assert abs(np.mean(ratios) - 1) < 4 * deviation / math.sqrt(len(ratios))
        assert 0.7 * deviation < np.std(ratios) < 1.2 * deviation

    def test_it_is_linear_and_has_eight_entries_a_column(self) -> None:
        matrix = SparseProjection(50, 24, seed=3, stream=1)(np.eye(50)).T
        assert matrix.shape == (24, 50)
        for column in matrix.T:
            (places,) = np.nonzero(column)
            assert [place // 3 for place in places] == list(range(8))  # one in each block
            assert np.allclose(abs(column[places]), 1 / math.sqrt(8))
        vector = np.arange(50.0)
        assert np.allclose(SparseProjection(50, 24, seed=3, stream=1)(vector[None])[0], matrix @ vector)

    @pytest.mark.parametrize("dimension", [8, 13, 100])
    def test_any_dimension_is_used_to_its_end(self, dimension: int) -> None:
        matrix = SparseProjection(3000, dimension, 0, 0)(np.eye(3000)).T
        assert bool((abs(matrix).sum(1) > 0).all())
        assert np.allclose((matrix**2).sum(0), 1)

    def test_the_seed_decides(self, vectors: np.ndarray) -> None:
        first = SparseProjection(8256, 64, 1, 2)(vectors)
        assert np.array_equal(first, SparseProjection(8256, 64, 1, 2)(vectors))
        assert not np.array_equal(first, SparseProjection(8256, 64, 2, 2)(vectors))
        assert not np.array_equal(first, SparseProjection(8256, 64, 1, 3)(vectors))

    def test_it_is_the_same_on_every_machine(self) -> None:
        """By the words of PCG64: row = (word >> 32) * rows >> 32, sign by the lowest bit."""
        inputs, dimension = 5, 16
        words = np.random.PCG64([7, 2]).random_raw((8, inputs))
        matrix = np.zeros((dimension, inputs))
        for block in range(8):
            for column in range(inputs):
                word = int(words[block, column])
                matrix[2 * block + ((word >> 32) * 2 >> 32), column] = -1 if word & 1 else 1
        found = SparseProjection(inputs, dimension, 7, 2)(np.eye(inputs)).T
        assert np.array_equal(found, (matrix / math.sqrt(8)).astype(np.float32))
        assert hashlib.sha256(np.sign(found).astype(np.int8).tobytes()).hexdigest()[:16] == "fcaa85a053386de4"

    def test_gram_vectors_are_weighted_then_projected(self, network: VGG19) -> None:
        layers = ("conv1_1", "conv2_1")
        settings = FeatureSettings(layers=layers, content_layers=layers, project=4000, project_seed=5)
        assert settings.lengths == {
            "content_conv1_1": 64,
            "content_conv2_1": 128,
            "gram_conv1_1": 2080,
            "gram_conv2_1": 4000,
        }
        projections = GramProjections(settings)
        found = measured(network, image(1), settings)
        assert np.array_equal(
            projections("gram_conv1_1", found["gram_conv1_1"]),
            found["gram_conv1_1"] * off_diagonal_weights("conv1_1"),  # short enough as it is
        )
        weighted = found["gram_conv2_1"] * off_diagonal_weights("conv2_1")
        matrix = SparseProjection(8256, 4000, 5, LAYERS.index("conv2_1"))
        assert np.array_equal(projections("gram_conv2_1", found["gram_conv2_1"]), matrix(weighted))
        content = found["content_conv2_1"]
        assert projections("content_conv2_1", content) is content

    def test_without_a_projection_nothing_is_weighted(self, network: VGG19) -> None:
        found = measured(network, image(1), SMALL)["gram_conv1_1"]
        assert GramProjections(SMALL)("gram_conv1_1", found) is found


class TestSettings:
    def test_the_defaults_are_the_papers_layers(self) -> None:
        settings = FeatureSettings()
        assert settings.layers == settings.content_layers == PAPER_STYLE_LAYERS
        assert settings.row_bytes == 4 * (64 + 128 + 256 + 512 + 512 + 2080 + 8256 + 32896 + 2 * 131328)

    def test_layers_stand_in_their_own_order(self) -> None:
        settings = FeatureSettings(layers=("conv3_1", "conv1_1"))
        assert settings.layers == ("conv1_1", "conv3_1")
        assert settings == FeatureSettings(layers=("conv1_1", "conv3_1"))

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"layers": ("conv9_9",)}, r"layers is \('conv9_9',\); it must be a list of different layers"),
            ({"content_layers": ()}, "content_layers is"),
            ({"size": 8}, "size is 8; it must be a whole number from 16 to 16384"),
            ({"grid": 0}, "grid is 0; it must be a whole number from 1 to 32"),
            ({"project": 7}, "project is 7; it must be a whole number from 8 to 65536"),
            ({"project_seed": -1}, "project_seed is -1"),
            ({"pooling": "min"}, "pooling is 'min'; it must be one of average, max"),
            ({"weights": "vgg"}, "weights is 'vgg'"),
            ({"size": 8, "grid": 99}, "size is 8; .*; grid is 99"),
        ],
    )
    def test_what_is_not_allowed_is_said(self, values: dict[str, Any], message: str) -> None:
        with pytest.raises(RecipeError, match=f"^features: .*{message}"):
            FeatureSettings(**values)

    def test_a_part_is_bounded_in_images_and_bytes(self) -> None:
        assert default_images_per_part(SMALL) == IMAGES_PER_PART
        all_layers = FeatureSettings(layers=LAYERS, content_layers=LAYERS)
        images = default_images_per_part(all_layers)
        assert 1 <= images < IMAGES_PER_PART
        assert images * all_layers.row_bytes <= PART_BYTES


def pictures() -> MemoryStore:
    """Four pictures of two shapes, one that is none, and one too flat for ``conv2_1``."""
    sizes = {"a": (64, 48), "b": (64, 48), "c": (48, 64), "d": (64, 48), "wide": (900, 2)}
    objects = {f"/in/{name}.png": picture_bytes(*size, ord(name[0])) for name, size in sizes.items()}
    return MemoryStore(objects | {"/in/bad.png": b"a shopping list"})


@pytest.fixture(scope="module")
def measurer() -> FeatureMeasurer:
    return FeatureMeasurer(SMALL, pictures())


class TestRows:
    def test_they_are_in_order_and_whole(self, measurer: FeatureMeasurer, network: VGG19) -> None:
        names = ("a", "bad", "b", "c", "gone", "d", "wide")
        rows = measurer.rows([f"/in/{name}.png" for name in names])
        assert [row["image"] for row in rows] == [f"/in/{name}.png" for name in names]
        assert [(row.get("width"), row.get("height")) for row in rows[:4]] == [
            (32, 24),
            (None, None),
            (32, 24),
            (24, 32),
        ]
        data = pictures().objects["/in/c.png"]
        assert rows[3]["sha256"] == hashlib.sha256(data).hexdigest()
        assert rows[1].keys() == {"image", "error"}
        assert "/in/bad.png is not a picture" in rows[1]["error"]
        assert "/in/gone.png: nothing is there" in rows[4]["error"]
        assert "too small for conv2_1" in rows[6]["error"]
        for row in (rows[0], rows[2], rows[3], rows[5]):
            alone = measurer.rows([row["image"]])[0]
            for column, length in SMALL.lengths.items():
                assert row[column].shape == (length,)
                assert is_close(row[column], alone[column])

    def test_images_of_one_shape_share_forward_passes(
        self, measurer: FeatureMeasurer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batches = noted_batches(monkeypatch)
        measurer.rows([f"/in/{name}.png" for name in "abcd"])
        assert batches == [2, 1, 1]

    def test_a_batch_that_does_not_fit_is_measured_one_by_one(
        self, measurer: FeatureMeasurer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        batches = noted_batches(monkeypatch, fitting=1)
        rows = measurer.rows(["/in/a.png", "/in/b.png"])
        assert batches == [2, 1, 1]
        assert all("error" not in row for row in rows)

    def test_an_image_that_does_not_fit_is_a_row(
        self, measurer: FeatureMeasurer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        noted_batches(monkeypatch, fitting=0)
        (row,) = measurer.rows(["/in/a.png"])
        assert row["error"].startswith(
            "there is not enough memory to measure this image: DefaultCPUAllocator"
        )

    def test_what_no_image_is_to_blame_for_is_raised(self) -> None:
        store = pictures()
        store.errors["get_range", "/in/b.png"] = StorageUnavailableError("the storage is away")
        measurer = FeatureMeasurer(dataclasses.replace(SMALL, content_layers=("conv1_1",)), store)
        with pytest.raises(StorageUnavailableError):
            measurer.rows(["/in/a.png", "/in/b.png"])


def noted_batches(monkeypatch: pytest.MonkeyPatch, fitting: int = 16) -> list[int]:
    """The sizes of batches that are measured from now on; a larger one than fits runs out of memory."""
    sizes: list[int] = []

    def noting(network: VGG19, images: torch.Tensor, settings: FeatureSettings) -> Iterator[Any]:
        sizes.append(len(images))
        if len(images) > fitting:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return measure(network, images, settings)

    monkeypatch.setattr(features_module, "measure", noting)
    return sizes


class TestTable:
    SETTINGS = FeatureSettings(layers=("conv1_1",), content_layers=("conv1_1",), project=8)
    SCHEMA = feature_schema(SETTINGS, {"images": 3})

    def rows(self) -> list[dict[str, Any]]:
        features = {
            "content_conv1_1": np.arange(64, dtype=np.float32),
            "gram_conv1_1": np.arange(8, dtype=np.float32),
        }
        good = {"image": "/a.png", "sha256": "00", "width": 3, "height": 2, **features}
        return [good, {"image": "/b.png", "error": "it is empty"}, good | {"image": "/c.png"}]

    def test_what_is_written_is_read_back(self) -> None:
        store = MemoryStore({"/t.parquet": encode_rows(self.rows(), self.SCHEMA)})
        table = pq.read_table(ObjectFile(store, "/t.parquet"))
        assert table.column_names == [
            *("image", "sha256", "width", "height", "content_conv1_1", "gram_conv1_1", "error")
        ]
        first, bad, last = table.to_pylist()
        assert first == {
            **self.rows()[0],
            "content_conv1_1": list(range(64)),
            "gram_conv1_1": [*range(8)],
        } | {"error": None}
        assert bad == dict.fromkeys(table.column_names) | {"image": "/b.png", "error": "it is empty"}
        assert last == first | {"image": "/c.png"}
        assert read_failures(store, "/t.parquet") == [("/b.png", "it is empty")]

    def test_the_metadata_says_how_it_was_made(self) -> None:
        store = MemoryStore({"/t.parquet": encode_rows(self.rows(), self.SCHEMA)})
        description = read_description(store, "/t.parquet")
        assert description["images"] == 3
        assert description["normalisation"]["off_diagonal_weight"] == math.sqrt(2)
        plain = feature_schema(SMALL, {}).metadata[METADATA_KEY.encode()]
        assert json.loads(plain)["normalisation"]["off_diagonal_weight"] == 1

    def test_parts_are_joined_in_order(self) -> None:
        parts = [self.rows()[:1], self.rows()[1:]]
        store = MemoryStore({f"/{i}": encode_rows(rows, self.SCHEMA) for i, rows in enumerate(parts)})
        store.put("/all", join_parts(store, ["/0", "/1"], self.SCHEMA))
        file = pq.ParquetFile(ObjectFile(store, "/all"))
        assert file.num_row_groups == 2
        assert file.read()["image"].to_pylist() == ["/a.png", "/b.png", "/c.png"]
        assert read_description(store, "/all")["images"] == 3

    def test_damage_is_said(self) -> None:
        whole = encode_rows(self.rows(), self.SCHEMA)
        store = MemoryStore({"/cut": whole[:-100], "/text": b"no table"})
        with pytest.raises(JobError, match=r"^/cut is damaged .* delete it, and the same command measures"):
            read_failures(store, "/cut")
        with pytest.raises(JobError, match=r"^/text is there and is no table of features"):
            read_description(store, "/text")
