"""``stylebatch design stimuli``: what it writes and what it prints."""

import argparse
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
from inmemory import picture_bytes

from stylebatch.cli.stimuli import add_stimuli
from stylebatch.design.design_file import KEYS
from stylebatch.errors import DesignError
from stylebatch.manifest import open_manifest
from stylebatch.storage import LocalStore

PAGE = Path(__file__).parents[2] / "docs" / "stimuli.md"

DESIGN = """
name: command-1
recipe: {size: 32, iterations: 2}
factors:
  content: {cat: cat.png, boat: boat.png}
  ratio: [1e-3, 1e-4]
crop: {width: 24, height: 22}
foils:
  - {kind: crop}
participants: {count: 2, order: seeded}
"""


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_stimuli(parser.add_subparsers())
    options = parser.parse_args(["stimuli", *arguments])
    code = options.command(options)
    assert isinstance(code, int)
    return code


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with ``design.yaml`` and its two pictures."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "design.yaml").write_text(DESIGN)
    (tmp_path / "cat.png").write_bytes(picture_bytes(60, 40, 1))
    (tmp_path / "boat.png").write_bytes(picture_bytes(30, 40, 2))
    return tmp_path


def test_it_writes_and_says_what_is_balanced(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("design.yaml", "-o", "set.parquet") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-1] == [
        "set.parquet: 6 rows: 4 of 4 cells, 2 of foils",
        "set-orders.tsv: participants: 2, trials of each: 6",
        "Balance:",
        "  content: cat 2, boat 2",
        "  ratio: 1e-3 2, 1e-4 2",
        "  cells: 4 of 4, rows in each: 1",
        "  foils: crop 2",
        "  confounded: no factor, neither with another one nor with the product of two others",
        "  orders: each stimulus 0 to 2 times at each place",
        "Note: foil crop of content: the crops of boat overlap what the cells use, or one another",
    ]
    assert lines[-1].startswith("Next: ")
    assert lines[-1].endswith(" run set.parquet --output OUT")
    assert open_manifest(LocalStore(), f"{folder}/set.parquet").num_rows == 6
    assert len((folder / "set-orders.tsv").read_text().splitlines()) == 13


def test_what_cannot_be_made_is_not_begun(folder: Path) -> None:
    (folder / "design.yaml").write_text(DESIGN.replace("24", "31"))
    with pytest.raises(
        DesignError, match=r"31 x 22 at \[0, 0\] does not fit into .*/boat.png, which is 30 x 40"
    ):
        run("design.yaml", "-o", "set.parquet")
    assert not (folder / "set.parquet").exists()


class TestPage:
    def test_has_a_row_for_every_key(self) -> None:
        text = PAGE.read_text(encoding="utf-8")
        assert [key for key in KEYS if f"\n| `{key}` |" not in text] == []

    def test_example_prints_what_the_page_says(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        text = PAGE.read_text(encoding="utf-8")
        example = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[0]
        printed = re.findall(r"prints:\n\n```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[0]
        package = find_spec("skimage")
        assert package is not None
        assert package.origin is not None
        shutil.copytree(Path(package.origin).parent / "data", tmp_path / "photos")
        (tmp_path / "gravel.yaml").write_text(example, encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        assert run("gravel.yaml", "-o", "gravel.parquet") == 0
        said = capsys.readouterr().out
        assert said.partition("Next: ")[0] == printed.partition("Next: ")[0]
