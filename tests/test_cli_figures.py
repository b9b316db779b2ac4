"""``stylebatch design figure1`` and its like, and ``stylebatch figure``, as they are typed."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from figurejobs import finish
from inmemory import picture_array, picture_bytes
from PIL import Image

from stylebatch.cli import main
from stylebatch.design import figure1, figure2, figure3
from stylebatch.manifest import open_manifest
from stylebatch.recipe import Recipe
from stylebatch.storage import LocalStore


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: ``house.png``, ``night.png`` and ``scream.png``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    for seed, name in enumerate(("house", "night", "scream")):
        (tmp_path / f"{name}.png").write_bytes(picture_bytes(48, 32, seed))
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says as it refuses."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


class TestDesign:
    def test_figure1(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["design", "figure1", "house.png", "night.png", "-o", "new/m.parquet"]) == 0
        expected = figure1(f"{folder}/house.png", f"{folder}/night.png")
        assert pq.read_table(folder / "new" / "m.parquet").equals(expected)
        assert capsys.readouterr().out.splitlines() == [
            "new/m.parquet: 10 panels",
            "Next: stylebatch run new/m.parquet --output OUT",
            "Then: stylebatch figure OUT -o figure1.png",
        ]

    @pytest.mark.parametrize(
        ("options", "ratios"),
        [
            ([], [1e-3]),
            (["--ratio", "1e-4"], [1e-4]),
            (["--ratio", "1e-4", "--ratio", "0.01"], [1e-4, 1e-2]),
        ],
    )
    def test_figure2(self, folder: Path, options: list[str], ratios: list[float]) -> None:
        styles = ["night.png", "s3://bucket/scream.png"]
        assert main(["design", "figure2", "house.png", *styles, "-o", "m.parquet", *options]) == 0
        uris = [f"{folder}/night.png", styles[1]]
        assert pq.read_table("m.parquet").equals(figure2(f"{folder}/house.png", uris, ratios))

    def test_figure3_with_fields_that_it_leaves_open(self, folder: Path) -> None:
        fields = ["--set", "size=96", "--set", "iterations=1e2", "--set", "weights=./vgg.pth"]
        assert main(["design", "figure3", "house.png", "night.png", "-o", "a/m.parquet", *fields]) == 0
        table = pq.read_table("a/m.parquet")
        plain = figure3(f"{folder}/house.png", f"{folder}/night.png")
        assert table.select(plain.column_names).equals(plain)
        for pair in open_manifest(LocalStore(), f"{folder}/a/m.parquet").pairs(Recipe()):
            assert (pair.recipe.size, pair.recipe.iterations) == (96, 100)
            assert pair.recipe.weights == f"{folder}/vgg.pth"  # that of the working directory

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["figure3", "house.png", "night.png", "--set", "start=content"], "start: the figure itself"),
            (["figure3", "house.png", "night.png", "--set", "siez=3"], "did you mean size?"),
            (["figure3", "house.png", "ftp://h/night.png"], "ftp:// locations are not supported"),
            (["figure2", "house.png", *["night.png"] * 3, *["--ratio=1e-3"] * 2], "2 ratios are given for 3"),
        ],
    )
    def test_refusals(
        self, folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
    ) -> None:
        assert message in refused(capsys, "design", *arguments, "-o", "m.parquet")
        assert not (folder / "m.parquet").exists()

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["figure4", "house.png", "night.png", "-o", "m.parquet"],
            ["figure1", "house.png", "-o", "m.parquet"],
            ["figure1", "house.png", "night.png"],
            ["figure1", "house.png", "night.png", "scream.png", "-o", "m.parquet"],
            ["figure3", "house.png", "night.png", "-o", "m.parquet", "--ratio", "1e-3"],
            ["figure2", "house.png", "night.png", "-o", "m.parquet", "--ratio", "0"],
            ["figure2", "house.png", "night.png", "-o", "m.parquet", "--ratio", "few"],
        ],
    )
    def test_what_cannot_be_parsed(
        self, folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
    ) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["design", *arguments])
        assert "usage: stylebatch" in capsys.readouterr().err


class TestFigure:
    @pytest.fixture
    def job(self, folder: Path) -> str:
        """A finished job over figure 1, each of whose pictures is darker than the one before."""
        table = figure1(f"{folder}/house.png", f"{folder}/night.png")
        pixels = picture_array(48, 32)
        darker = [Image.fromarray((pixels * (1 - 0.1 * n)).astype(np.uint8)) for n in range(10)]
        darker[4] = Image.fromarray(pixels[::2, ::2])  # texture E has structures of half the size
        finish(LocalStore(), f"{folder}/out", table, lambda pair: darker[pair.row])
        return "out"

    @pytest.mark.parametrize("name", ["figure.png", "figures/figure.pdf"])
    def test_writes_the_figure_and_says_what_was_measured(
        self, folder: Path, job: str, capsys: pytest.CaptureFixture[str], name: str
    ) -> None:
        assert main(["figure", job, "-o", name]) == 0
        start = {"png": b"\x89PNG", "pdf": b"%PDF"}[name[-3:]]
        assert (folder / name).read_bytes().startswith(start)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 3
        assert lines[0].startswith(f"{name}: figure1, ")
        assert lines[1].startswith("pixel error, in grey levels: a ")
        assert lines[1].endswith("rises: yes")
        assert lines[2].startswith("scale of local structure, in pixels: A ")
        assert lines[2].endswith("rises (within 10%): no")

    def test_figure2_has_nothing_to_measure(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        table = figure2(f"{folder}/house.png", [f"{folder}/night.png"])
        finish(LocalStore(), f"{folder}/out", table, lambda pair: Image.new("RGB", (48, 32)))
        assert main(["figure", "out", "-o", "f.png"]) == 0
        assert len(capsys.readouterr().out.splitlines()) == 1

    def test_refusals(self, folder: Path, job: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert "a figure is written as .png or .pdf" in refused(capsys, "figure", job, "-o", "f.jpg")
        assert "holds no results" in refused(capsys, "figure", "elsewhere", "-o", "f.png")
        (folder / "house.png").unlink()
        assert "house.png" in refused(capsys, "figure", job, "-o", "f.png")
        assert not (folder / "f.png").exists()
