"""A second run over a finished job's pictures, which gives them the mean appearance of the set."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from stylebatch.design.equating import equated_table, mean_histogram, mean_luminance, stored_pictures
from stylebatch.errors import JobError
from stylebatch.manifest import open_manifest, validate, write_manifest
from stylebatch.pictures.appearance import sorted_values
from stylebatch.pictures.encoding import encode
from stylebatch.recipe import FIELDS, Recipe
from stylebatch.results import RESERVED_COLUMNS, RESULT_SCHEMA
from stylebatch.storage import LocalStore


def saved(folder: Path, name: str, seed: int, darkest: int, lightest: int) -> str:
    levels = np.random.default_rng(seed).integers(darkest, lightest, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(levels).save(folder / name)
    return str(folder / name)


@pytest.fixture
def results(tmp_path: Path) -> pa.Table:
    """A dark and a light picture, and a pair that failed; with a column of the experiment's own."""
    images = [saved(tmp_path, "dark.png", 0, 0, 100), saved(tmp_path, "light.png", 1, 155, 255), None]
    recipe = Recipe(size=32, iterations=7, start="noise", scales=2, style_layers=["conv1_1"]).to_dict()
    rows: list[dict[str, Any]] = [
        {
            **recipe,
            "pair_id": f"p{number}",
            "status": "ok" if image else "failed",
            "content": saved(tmp_path, f"c{number}.png", 5, 0, 255),
            "style": [saved(tmp_path, f"s{number}.png", 6, 0, 255)],
            "image": image,
        }
        for number, image in enumerate(images)
    ]
    columns = {
        field.name: pa.array([row.get(field.name) for row in rows], field.type) for field in RESULT_SCHEMA
    }
    return pa.table(columns, schema=RESULT_SCHEMA).append_column("condition", pa.array(["x", "y", "z"]))


def test_the_mean_histogram_lies_between(results: pa.Table) -> None:
    pictures = list(stored_pictures(LocalStore(), results))
    assert len(pictures) == 2
    with Image.open(io.BytesIO(mean_histogram(pictures, "srgb"))) as reference:
        found = sorted_values(np.asarray(reference).astype(float) / 255, "srgb")
    low, high = (sorted_values(pixels, "srgb") for pixels in pictures)
    for share in (0.01, 0.25, 0.5, 0.75, 0.99):
        wanted = (np.quantile(low, share, axis=0) + np.quantile(high, share, axis=0)) / 2
        assert np.quantile(found, share, axis=0) == pytest.approx(wanted, abs=0.006)


def test_the_mean_luminance_and_contrast(results: pa.Table) -> None:
    pictures = list(stored_pictures(LocalStore(), results))
    each = [mean_luminance([pixels], "srgb") for pixels in pictures]
    assert mean_luminance(pictures, "srgb") == pytest.approx(np.mean(each, axis=0))
    assert each[0][0] == pytest.approx(0.195, abs=0.01)


def test_the_manifest_starts_from_the_pictures_and_changes_nothing_else(
    results: pa.Table, tmp_path: Path
) -> None:
    uri = str(tmp_path / "equated.parquet")
    table = equated_table(results, {"mean_luminance": 0.3, "light": "srgb"})
    write_manifest(LocalStore(), uri, table)
    manifest = open_manifest(LocalStore(), uri)
    validate(manifest, Recipe(), RESERVED_COLUMNS)
    pairs = list(manifest.pairs(Recipe()))
    assert [pair.pair_id for pair in pairs] == ["p0", "p1"]
    assert table.column("condition").to_pylist() == ["x", "y"]
    for pair, row in zip(pairs, results.to_pylist(), strict=False):
        changed = {"start", "iterations", "scales", "mean_luminance", "light"}
        for name in set(FIELDS) - changed:
            assert pair.recipe.to_dict()[name] == row[name], name
        assert (pair.content, list(pair.styles)) == (row["content"], row["style"])
        assert (pair.recipe.start, pair.recipe.iterations, pair.recipe.scales) == (row["image"], 0, 1)
        assert (pair.recipe.mean_luminance, pair.recipe.light) == (0.3, "srgb")


def test_results_without_pictures_are_refused(results: pa.Table) -> None:
    with pytest.raises(JobError, match="no row of these results has a picture"):
        equated_table(results.slice(2), {})


def test_in_linear_light_the_mean_histogram_has_the_mean_luminance() -> None:
    """Of a black and a white picture: half the light, which is 188 of 255, where sRGB values say 128."""
    pictures = [np.zeros((8, 8, 3)), np.ones((4, 4, 3))]
    for light, level in (("linear", 188), ("srgb", 128)):
        with Image.open(io.BytesIO(mean_histogram(pictures, light))) as reference:
            assert set(np.unique(np.asarray(reference))) == {level}


@pytest.mark.parametrize("format", ["tiff", "npy"])
def test_pictures_of_more_than_8_bits_are_read_whole(results: pa.Table, tmp_path: Path, format: str) -> None:
    pixels = 255 * torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(2))
    image = tmp_path / f"fine.{format}"
    image.write_bytes(encode(pixels, format, 95, {}))
    one = results.slice(0, 1)
    for name, value in (("image", str(image)), ("format", format)):
        place = one.column_names.index(name)
        one = one.set_column(place, one.schema.field(name), pa.array([value]))
    (found,) = stored_pictures(LocalStore(), one)
    assert 255 * found == pytest.approx(pixels.permute(1, 2, 0).numpy(), abs=1 / 257)
    assert equated_table(one, {}).column("start").to_pylist() == [str(image)]
