"""Weights by name, by path and from storage."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from inmemory import MemoryStore

from stylebatch.errors import StorageUnavailableError, WeightsError
from stylebatch.pair.networks import load_network
from stylebatch.pair.weight_files import locate_weights
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
