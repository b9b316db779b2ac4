"""The demo's photographs and manifest, and the folder ``manifests/`` that is committed."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from stylebatch.design import DEMO_PAIRS, DEMO_RECIPE, demo, demo_table, write_demo
from stylebatch.errors import JobError
from stylebatch.manifest import open_manifest, validate
from stylebatch.objectstore import parent_uri
from stylebatch.pairs import Pair
from stylebatch.pictures import decode
from stylebatch.recipe import FIELDS, LAYERS, Recipe, field_rule
from stylebatch.storage import LocalStore

MANIFESTS = Path(__file__).parents[2] / "manifests"
COMMITTED_SOURCES = "../demo-output/sources"


def pairs_of(uri: str) -> list[Pair]:
    manifest = open_manifest(LocalStore(), uri)
    validate(manifest, Recipe(), frozenset())
    pairs = list(manifest.pairs(Recipe()))
    assert all(isinstance(pair, Pair) for pair in pairs)
    return pairs


class TestWriteDemo:
    def test_manifest_leads_to_at_least_four_pairs_of_real_photographs(self, tmp_path: Path) -> None:
        store = LocalStore()
        uri = write_demo(store, f"{tmp_path}/demo")

        assert uri == f"{tmp_path}/demo/manifest.parquet"
        pairs = pairs_of(uri)
        assert [pair.pair_id for pair in pairs] == [pair.pair_id for pair in DEMO_PAIRS]
        assert len(pairs) >= 4
        for pair in pairs:
            assert pair.content is not None
            for location in (pair.content, *pair.styles):
                assert parent_uri(location) == f"{tmp_path}/demo/sources"
                picture = decode(store.get(location), location)
                assert min(picture.size) >= 256
                assert (
                    np.ptp(np.asarray(picture.convert("L"))) > 150
                )  # a photograph, not a blank or a pointer to one

    def test_uris_are_relative_so_that_the_folder_can_be_moved(self, tmp_path: Path) -> None:
        write_demo(LocalStore(), f"{tmp_path}/here")
        (tmp_path / "here").rename(tmp_path / "there")

        for pair in pairs_of(f"{tmp_path}/there/manifest.parquet"):
            assert pair.content is not None
            assert Path(pair.content).is_file()
            assert all(Path(style).is_file() for style in pair.styles)

    def test_recipe_columns_reach_the_recipes(self, tmp_path: Path) -> None:
        pairs = pairs_of(write_demo(LocalStore(), str(tmp_path)))

        for demo_pair, pair in zip(DEMO_PAIRS, pairs, strict=True):
            assert pair.recipe.style_weight == demo_pair.style_weight
            assert {name: getattr(pair.recipe, name) for name in DEMO_RECIPE} == {
                name: value for name, (value, _) in DEMO_RECIPE.items()
            }

    def test_writing_twice_gives_the_same_manifest(self, tmp_path: Path) -> None:
        first = Path(write_demo(LocalStore(), str(tmp_path))).read_bytes()
        assert Path(write_demo(LocalStore(), str(tmp_path))).read_bytes() == first

    def test_scikit_image_is_not_imported(self, tmp_path: Path) -> None:
        program = (
            "import sys; from stylebatch.design import write_demo; "
            "from stylebatch.storage import LocalStore; "
            f"write_demo(LocalStore(), {str(tmp_path)!r}); sys.exit('skimage' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


class TestMissing:
    def test_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(demo, "find_spec", lambda name: None)
        with pytest.raises(JobError, match=r"scikit-image.*run: pip install 'stylebatch\[demo\]'"):
            write_demo(LocalStore(), f"{tmp_path}/demo")
        assert not (tmp_path / "demo").exists()

    def test_photograph(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        spec = importlib.util.spec_from_file_location("skimage", tmp_path / "skimage" / "__init__.py")
        monkeypatch.setattr(demo, "find_spec", lambda name: spec)
        with pytest.raises(JobError, match=r"astronaut\.png.*run: pip install 'stylebatch\[demo\]'"):
            write_demo(LocalStore(), f"{tmp_path}/demo")
        assert not (tmp_path / "demo").exists()


class TestManifestsFolder:
    def test_committed_manifest_is_the_demo_table(self) -> None:
        """Made by ``write_manifest(LocalStore(), ".../manifests/demo.parquet", demo_table(SOURCES))``."""
        assert pq.read_table(MANIFESTS / "demo.parquet").equals(demo_table(COMMITTED_SOURCES))

    def test_committed_manifest_means_the_photographs_that_make_demo_writes(self) -> None:
        folder = MANIFESTS.parent / "demo-output" / "sources"
        for demo_pair, pair in zip(DEMO_PAIRS, pairs_of(f"{MANIFESTS}/demo.parquet"), strict=True):
            assert pair.content == f"{folder}/{demo_pair.content}"
            assert pair.styles == (f"{folder}/{demo_pair.style}",)

    @pytest.mark.parametrize("name", ["pair_id", "content", "style", *FIELDS])
    def test_page_has_a_row_for_every_column(self, name: str) -> None:
        assert len(re.findall(rf"^\| `{name}` \|", self.page(), re.MULTILINE)) == 1

    @pytest.mark.parametrize("name", FIELDS)
    def test_page_gives_each_recipe_field_its_range_and_default(self, name: str) -> None:
        row = next(line for line in self.page().splitlines() if line.startswith(f"| `{name}` |"))
        allowed, default = [cell.strip().replace("`", "") for cell in row.split("|")[-3:-1]]
        assert allowed == field_rule(name).allowed.replace(", ".join(LAYERS), "the names below")
        assert default == self.shown(getattr(Recipe(), name))

    @staticmethod
    def shown(value: Any) -> str:
        if value is None:
            return "null"
        return json.dumps(list(value)) if isinstance(value, tuple) else str(value)

    def test_pages_pyarrow_example_makes_a_manifest(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        examples = re.findall(r"^```python\n(.*?)^```", self.page(), re.MULTILINE | re.DOTALL)
        monkeypatch.chdir(tmp_path)
        exec(next(example for example in examples if "pyarrow" in example), {})
        blend, texture = pairs_of(f"{tmp_path}/pairs.parquet")
        assert blend.recipe.style_blend == (3.0, 1.0)
        assert (texture.content, len(texture.styles)) == (None, 1)

    @staticmethod
    def page() -> str:
        return (MANIFESTS / "README.md").read_text(encoding="utf-8")
