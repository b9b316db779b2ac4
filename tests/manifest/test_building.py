"""Finding pictures, crossing them, writing manifests."""

import io
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stylebatch.errors import ManifestError
from stylebatch.manifest import cross, find_pictures, open_manifest, validate, write_manifest
from stylebatch.recipe import Recipe
from stylebatch.storage import LocalStore


def test_cross_pairs_every_content_with_every_style() -> None:
    table = cross(["a", "b"], ["x", "y", "z"])
    assert table.schema == pa.schema([("content", pa.string()), ("style", pa.string())])
    assert table.to_pylist() == [{"content": c, "style": s} for c in "ab" for s in "xyz"]


def test_a_written_manifest_is_valid_and_its_ids_unique(store: Any) -> None:
    contents = [f"/photos/{i}/image.jpg" for i in range(5000)]
    write_manifest(store, "/m.parquet", cross(contents, ["/s/1.jpg", "/t/1.jpg", "/u/1.jpg"]))
    manifest = open_manifest(store, "/m.parquet")
    validate(manifest, Recipe(), frozenset())
    assert len({pair.pair_id for pair in manifest.pairs(Recipe())}) == 15_000
    footer = pq.ParquetFile(io.BytesIO(store.get("/m.parquet"))).metadata
    assert [footer.row_group(i).num_rows for i in range(footer.num_row_groups)] == [10_000, 5000]


def test_a_manifest_without_rows_is_not_written(store: Any) -> None:
    with pytest.raises(ManifestError, match="the table has no rows"):
        write_manifest(store, "/m.parquet", cross([], ["x"]))
    assert store.objects == {}


class TestFindPictures:
    @pytest.fixture
    def photos(self, tmp_path: Path) -> Path:
        names = ["b.JPG", "a.png", "sub/c.jpeg", "sub/deep/d.webp", "notes.txt", "e.jpg.part"]
        hidden = [".thumb.jpg", ".cache/f.jpg", "sub/.trash/g.png"]
        for name in names + hidden:
            path = tmp_path / "photos [2024]" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        return tmp_path / "photos [2024]"

    def found(self, location: str | Path, photos: Path) -> list[str]:
        return [os.path.relpath(uri, photos) for uri in find_pictures(LocalStore(), str(location))]

    def test_a_folder_with_its_folders(self, photos: Path) -> None:
        expected = ["a.png", "b.JPG", "sub/c.jpeg", "sub/deep/d.webp"]
        assert self.found(photos, photos) == expected
        assert self.found(f"{photos}/", photos) == expected
        assert self.found(f"file://{photos}", photos) == expected

    @pytest.mark.parametrize(
        ("pattern", "expected"),
        [
            ("*.png", ["a.png"]),
            ("*", ["a.png", "b.JPG"]),
            ("?.JPG", ["b.JPG"]),
            ("[ab].*", ["a.png", "b.JPG"]),
            ("*/*.jpeg", ["sub/c.jpeg"]),
            ("**", ["a.png", "b.JPG", "sub/c.jpeg", "sub/deep/d.webp"]),
            ("**/*.webp", ["sub/deep/d.webp"]),
            ("sub/**/*", ["sub/c.jpeg", "sub/deep/d.webp"]),
        ],
    )
    def test_a_pattern(
        self, photos: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, expected: list[str]
    ) -> None:
        monkeypatch.chdir(photos)  # whose own name has wildcards in it
        assert self.found(pattern, photos) == expected

    def test_a_pattern_from_the_root(self, photos: Path) -> None:
        assert self.found(f"{photos.parent}/photos*/**/*.png", photos) == ["a.png"]

    def test_a_single_file_even_a_hidden_one(self, photos: Path) -> None:
        assert self.found(photos / "a.png", photos) == ["a.png"]
        assert self.found(photos / ".thumb.jpg", photos) == [".thumb.jpg"]

    def test_a_name_with_wildcards_is_that_file(self, photos: Path) -> None:
        for name in ("img[1].jpg", "img1.jpg"):
            (photos / name).write_bytes(b"x")
        assert self.found(photos / "img[1].jpg", photos) == ["img[1].jpg"]

    @pytest.mark.parametrize(
        "location", ["none", "notes.txt", "none.jpg", "*.bmp", "none/*.jpg", "notes.txt/*", "x*/../none"]
    )
    def test_nothing_found_says_what_was_looked_for(self, photos: Path, location: str) -> None:
        with pytest.raises(
            ManifestError, match=r"there are no pictures here; looked for names .* \.jpg, \.jpeg"
        ):
            find_pictures(LocalStore(), str(photos / location))
        with pytest.raises(ManifestError, match="there are no pictures here"):
            find_pictures(LocalStore(), f"file://{photos / location}")

    def test_a_pattern_that_cannot_be(self, photos: Path) -> None:
        with pytest.raises(ManifestError, match="the pattern cannot be searched"):
            find_pictures(LocalStore(), f"{photos.parent}/**x/*.jpg")

    def test_a_name_that_no_manifest_can_hold(self, photos: Path) -> None:
        (photos / "a\nb.jpg").write_bytes(b"x")
        with pytest.raises(ManifestError, match=r"a\\nb\.jpg': a manifest cannot hold this name"):
            find_pictures(LocalStore(), str(photos))

    def test_a_name_that_is_not_utf8(self, photos: Path) -> None:
        Path(os.fsdecode(os.fsencode(photos) + b"/\xff.jpg")).write_bytes(b"x")
        with pytest.raises(ManifestError, match="a manifest cannot hold this name"):
            find_pictures(LocalStore(), str(photos))

    def test_a_prefix(self, store: Any) -> None:
        for key in ("p/b.jpg", "p/a.PNG", "p/.x.jpg", "p/q/c.tif", "p2/d.jpg", "p/readme.md"):
            store.put(f"s3://bucket/{key}", b"x")
        expected = [f"s3://bucket/p/{name}" for name in ("a.PNG", "b.jpg", "q/c.tif")]
        assert find_pictures(store, "s3://bucket/p/") == expected
        assert find_pictures(store, "s3://bucket/p2/d.jpg") == ["s3://bucket/p2/d.jpg"]
        with pytest.raises(ManifestError, match="wildcards work on local paths; on S3, give a prefix"):
            find_pictures(store, "s3://bucket/p/*.jpg")

    def test_a_key_that_would_be_read_as_another(self, store: Any) -> None:
        store.put("s3://bucket/p//a.jpg", b"x")
        with pytest.raises(ManifestError, match=r"p//a\.jpg': a manifest cannot hold this name"):
            find_pictures(store, "s3://bucket/p")
