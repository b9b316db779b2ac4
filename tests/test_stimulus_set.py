"""A stimulus set from its design file to a verified output; tampering is caught. Real Ray, real weights."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from PIL import Image

from stylebatch.storage import UriStore

DESIGN = """
name: little-1
seed: 3
recipe: {size: 64, iterations: 4, mean_luminance: 0.3, rms_contrast: 0.5}
factors:
  content: {cat: cat.png, cup: cup.png}
  style: [one.png, two.png, three.png]
  ratio: [1e-3, 1e-4]
replicates: 2
crop: {of: content, width: 90, height: 72, at: seeded}
foils:
  - {kind: unmodified}
  - {kind: scrambled}
  - {kind: noise}
  - {kind: crop, of: content}
participants: {count: 6, order: seeded}
"""
CELLS, FOILS = 2 * 3 * 2 * 2, 4 * 2


def command_line(*arguments: str, expect: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "stylebatch", *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout


def photograph(seed: int, width: int = 160, height: int = 120) -> bytes:
    """Smooth and coloured, with some grain."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    grainy = (smooth + random.normal(0, 8, smooth.shape)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grainy).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a set that was designed and run."""
    folder = tmp_path_factory.mktemp("set")
    for seed, name in enumerate(["cat", "cup", "one", "two", "three"]):
        (folder / f"{name}.png").write_bytes(photograph(seed))
    (folder / "design.yaml").write_text(DESIGN)
    told = command_line("design", "stimuli", f"{folder}/design.yaml", "-o", f"{folder}/set.parquet")
    assert f"{CELLS} of 12 cells" in told
    assert "confounded" not in told.replace("confounded: no", "")
    command_line("run", f"{folder}/set.parquet", "-o", f"{folder}/out", "--workers", "1", "--batch", "1")
    return folder


def table_of(folder: Path) -> pa.Table:
    return pq.read_table(folder / "out" / "results")


def test_every_row_has_its_condition_and_what_was_achieved(finished: Path) -> None:
    rows = table_of(finished).to_pylist()
    assert len(rows) == CELLS + FOILS
    assert {row["status"] for row in rows} == {"ok"}
    cells = [row for row in rows if row["foil"] is None]
    assert len(cells) == CELLS
    assert len({row["cell"] for row in cells}) == 12
    assert len({row["seed"] for row in cells}) == CELLS
    for row in rows:
        assert row["design"] == "little-1"
        assert max(row["width"], row["height"]) == 64
    for row in cells:
        achieved = dict(row["achieved"])
        assert achieved["mean_luminance"] == pytest.approx(0.3, abs=0.002)
        assert achieved["rms_contrast"] == pytest.approx(0.5, abs=0.005)
        assert set(dict(row["layer_residuals"])) == {name for name, _ in row["layer_losses"]}
        assert row["loss_change"] > 0
        assert row["content_crop"][2:] == [90, 72]


def test_foils_are_their_sources_made_otherwise(finished: Path) -> None:
    foils = [row for row in table_of(finished).to_pylist() if row["foil"] is not None]
    assert sorted({row["foil"] for row in foils}) == ["crop", "noise", "scrambled", "unmodified"]
    assert {row["evaluations"] for row in foils} == {0}
    losses = {(row["foil"], row["foil_of"]): row["content_loss"] for row in foils}
    for content in ("cat", "cup"):
        assert losses["unmodified", content] < losses["scrambled", content]


def test_it_can_be_described(finished: Path, tmp_path: Path) -> None:
    command_line("describe", f"{finished}/out", "-o", str(tmp_path))
    assert {file.name for file in tmp_path.iterdir()} == {"methods.md", "stimuli.tsv", "stimuli.json"}
    lines = (tmp_path / "stimuli.tsv").read_text().splitlines()
    assert len(lines) == 1 + CELLS + FOILS
    assert "VGG-19" in (tmp_path / "methods.md").read_text()


def test_it_is_true_and_comes_out_the_same_again(finished: Path) -> None:
    told = command_line("verify", f"{finished}/out", "--resynthesize", "2")
    assert told.count("the same bytes.") == 2


def test_another_run_gives_the_same_files(finished: Path, tmp_path: Path) -> None:
    command_line("run", f"{finished}/set.parquet", "-o", f"{tmp_path}/out", "--workers", "1", "--batch", "1")
    first, second = (
        {file.name: file.read_bytes() for file in (folder / "out" / "images").rglob("*.png")}
        for folder in (finished, tmp_path)
    )
    assert len(first) == CELLS + FOILS
    assert first == second


def test_a_changed_condition_is_caught(finished: Path) -> None:
    part = next((finished / "out" / "results").glob("*.parquet"))
    original = part.read_bytes()
    table = pq.read_table(part)
    place = table.column_names.index("factor_style")
    styles = table.column("factor_style").to_pylist()
    changed = pa.array(["three", *styles[1:]])
    pq.write_table(table.set_column(place, "factor_style", changed), part)
    try:
        told = command_line("verify", f"{finished}/out", "--resynthesize", "0", expect=1)
    finally:
        part.write_bytes(original)
    assert "factor_style is 'three' in the table and 'one' in the manifest" in told


def test_a_changed_picture_is_caught(finished: Path) -> None:
    picture = next((finished / "out" / "images").rglob("cat_one*.png"))
    original = picture.read_bytes()
    with Image.open(io.BytesIO(original)) as image:
        changed = np.asarray(image).copy()
        changed[5, 5] ^= 1
        Image.fromarray(changed).save(picture)
    try:
        told = command_line("verify", f"{finished}/out", "--resynthesize", "0", expect=1)
    finally:
        picture.write_bytes(original)
    assert picture.stem in told


def test_a_changed_table_is_caught(finished: Path) -> None:
    part = next((finished / "out" / "results").glob("*.parquet"))
    original = part.read_bytes()
    table = pq.read_table(part)
    first = pc.equal(table.column("row"), 0)
    losses = pc.if_else(first, pc.multiply(table.column("loss"), 0.99), table.column("loss"))
    pq.write_table(table.set_column(table.column_names.index("loss"), "loss", losses), part)
    try:
        told = command_line("verify", f"{finished}/out", "--resynthesize", "0", expect=1)
    finally:
        part.write_bytes(original)
    assert table.column("pair_id")[0].as_py() in told
    assert "loss" in told


def test_the_set_s_mean_histogram(finished: Path, tmp_path: Path) -> None:
    """A second run over the pictures: all end up with one histogram, and keep their conditions."""
    command_line("design", "equated", f"{finished}/out", "-o", f"{tmp_path}/equated.parquet")
    command_line("run", f"{tmp_path}/equated.parquet", "-o", f"{tmp_path}/out", "--workers", "1")
    rows = pq.read_table(tmp_path / "out" / "results").to_pylist()
    assert len(rows) == CELLS + FOILS
    assert max(dict(row["achieved"])["histogram_distance"] for row in rows) < 0.005
    means = [dict(row["achieved"])["mean_luminance"] for row in rows]
    assert np.ptp(means) < 0.005
    assert {row["design"] for row in rows} == {"little-1"}
    assert UriStore().size(rows[0]["image"]) > 0
