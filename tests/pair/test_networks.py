"""Weights by name, by path and from storage."""

import errno
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from inmemory import MemoryStore

from stylebatch.errors import StorageUnavailableError, WeightsError
from stylebatch.pair import weight_files
from stylebatch.pair.networks import load_network
from stylebatch.pair.weight_files import UNFINISHED, locate_weights
from stylebatch.recipe import Recipe
from stylebatch.synthesis.families import BUNDLED_SHA256, bundled_weights

URI = "s3://models/vgg19.pth"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of a machine that has fetched nothing yet."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_default_is_the_bundled_file() -> None:
    path = locate_weights(Recipe(), MemoryStore())
    assert path == bundled_weights()
    assert hashlib.sha256(path.read_bytes()).hexdigest() == BUNDLED_SHA256


def test_a_path_is_itself(tmp_path: Path) -> None:
    store = MemoryStore()
    assert locate_weights(Recipe(weights=f"{tmp_path}/w.pth"), store) == tmp_path / "w.pth"
    assert store.operations == []


def test_stored_weights_are_fetched_once_for_each_machine(machine: Path) -> None:
    store = MemoryStore({URI: b"weights" * 1000})
    paths = {locate_weights(Recipe(weights=URI), store) for _ in range(3)}
    assert store.calls("get_range") == [URI]
    (path,) = paths
    assert machine in path.parents
    assert path.read_bytes() == b"weights" * 1000
    assert files(machine) == [path]


def test_different_weights_do_not_mix(machine: Path) -> None:
    store = MemoryStore({URI: b"one", "s3://models/other.pth": b"two"})
    assert locate_weights(Recipe(weights=URI), store).read_bytes() == b"one"
    assert locate_weights(Recipe(weights="s3://models/other.pth"), store).read_bytes() == b"two"
    store.put(URI, b"two")
    assert locate_weights(Recipe(weights=URI), store).read_bytes() == b"two"


def test_weights_that_are_not_there_are_said(machine: Path) -> None:
    with pytest.raises(WeightsError, match=f"the weights cannot be fetched: {URI}: nothing is there"):
        locate_weights(Recipe(weights=URI), MemoryStore())
    with pytest.raises(WeightsError, match=r"the weights /gone/w\.pth cannot be read"):
        load_network(Recipe(weights="/gone/w.pth", weights_family="caffe"), MemoryStore())


def test_a_fetch_that_breaks_off_leaves_nothing(machine: Path) -> None:
    store = MemoryStore({URI: b"weights"})
    store.errors["get_range", URI] = StorageUnavailableError("the storage is away")
    with pytest.raises(StorageUnavailableError, match="the storage is away"):
        locate_weights(Recipe(weights=URI), store)
    assert files(machine) == []
    store.errors.clear()
    assert locate_weights(Recipe(weights=URI), store).read_bytes() == b"weights"


def test_a_location_that_is_not_allowed_is_said() -> None:
    with pytest.raises(WeightsError, match="the weights cannot be fetched: https:// locations are not"):
        locate_weights(Recipe(weights="https://example.org/w.pth"), MemoryStore())


def test_a_file_of_no_known_family_asks_for_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.pth"
    torch.save({"conv1_1.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(WeightsError, match=r"are not a file that stylebatch knows.*weights_family=caffe or"):
        load_network(Recipe(weights=str(path)), MemoryStore())
    with pytest.raises(WeightsError, match=r"is not a VGG-19: conv1_1\.bias .* is missing"):
        load_network(Recipe(weights=str(path), weights_family="caffe"), MemoryStore())


def test_the_bundled_file_is_known_wherever_it_lies(machine: Path, network: Any) -> None:
    store = MemoryStore({URI: bundled_weights().read_bytes()})
    loaded = load_network(Recipe(weights=URI), store)
    assert (loaded.family, loaded.sha256) == ("caffe", BUNDLED_SHA256)
    assert torch.equal(loaded.get_buffer("conv3_2_weight"), network.get_buffer("conv3_2_weight"))


def test_a_stated_family_is_believed() -> None:
    recipe = Recipe(weights=str(bundled_weights()), weights_family="caffe-normalised")
    assert load_network(recipe, MemoryStore()).family == "caffe-normalised"


class TestPrivateFolder:
    """Where fetched weights are kept; its name can be foretold by anybody."""

    def folder(self, machine: Path) -> Path:
        return machine / f"stylebatch-weights-{os.getuid()}"

    def fetch(self) -> Path:
        return locate_weights(Recipe(weights=URI), MemoryStore({URI: b"weights"}))

    def test_nobody_else_can_read_or_write_there(self, machine: Path) -> None:
        path = self.fetch()
        assert path.parent == self.folder(machine)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    @pytest.mark.parametrize("mode", [0o777, 0o770, 0o705, 0o750])
    def test_a_folder_that_others_can_use_is_refused(self, machine: Path, mode: int) -> None:
        self.folder(machine).mkdir()
        self.folder(machine).chmod(mode)
        with pytest.raises(
            WeightsError, match=r"is not a folder that belongs to this user alone.*set TMPDIR"
        ):
            self.fetch()

    def test_a_link_to_a_folder_is_refused(self, machine: Path) -> None:
        elsewhere = machine / "elsewhere"
        elsewhere.mkdir(mode=0o700)
        self.folder(machine).symlink_to(elsewhere)
        with pytest.raises(WeightsError, match="belongs to this user alone"):
            self.fetch()
        assert list(elsewhere.iterdir()) == []

    def test_a_file_in_its_place_is_refused(self, machine: Path) -> None:
        self.folder(machine).write_bytes(b"")
        with pytest.raises(WeightsError, match="belongs to this user alone"):
            self.fetch()

    def test_a_folder_of_another_user_is_refused(
        self, machine: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "getuid", lambda: 12345)
        self.folder(machine).mkdir(mode=0o700)
        with pytest.raises(WeightsError, match="belongs to this user alone"):
            self.fetch()

    def test_a_write_that_fails_leaves_nothing(self, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(WeightsError, match=r"cannot be kept on this machine: .*No space left"):
            self.fetch()
        assert files(machine) == []

    def test_what_a_killed_process_left_is_removed(self, machine: Path) -> None:
        self.folder(machine).mkdir(mode=0o700)
        old, young = (self.folder(machine) / f"{UNFINISHED}{name}" for name in ("old", "young"))
        for path in (old, young):
            path.write_bytes(b"half")
        os.utime(old, (0, 0))
        assert self.fetch().read_bytes() == b"weights"
        assert not old.exists()
        assert young.exists()

    def test_no_more_is_fetched_than_weights_have(
        self, machine: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(weight_files, "MAX_WEIGHTS_BYTES", 1000)
        store = MemoryStore({URI: bytes(10**6)})
        with pytest.raises(WeightsError, match=f"{URI} has more than 1000 bytes"):
            locate_weights(Recipe(weights=URI), store)
        assert (URI, 1001) in store.read
        assert files(machine) == []
