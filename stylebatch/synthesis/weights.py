"""VGG-19's weights, read from files as data."""

import itertools
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylebatch.errors import WeightsError
from stylebatch.quoting import reason
from stylebatch.recipe import CONVOLUTIONS_PER_BLOCK, LAYERS
from stylebatch.synthesis.archives import ALLOWED, check_weights_file
from stylebatch.synthesis.families import TORCHVISION_SHA256_START, file_sha256, known_family
from stylebatch.synthesis.layers import layer_channels

CONVOLUTIONS = tuple(layer for layer in LAYERS if layer.startswith("conv"))


@dataclass(frozen=True)
class Weights:
    """The filters of one VGG-19, as its file holds them."""

    filters: Mapping[str, tuple[Tensor, Tensor]]
    """Per convolution, weight ``(out, in, 3, 3)`` and bias ``(out,)``, float32."""
    family: str
    """``caffe``, ``torchvision`` or ``caffe-normalised``."""
    sha256: str
    """Of the whole file, 64 hexadecimal digits."""


def filter_shapes() -> dict[str, tuple[int, int, int, int]]:
    """The shape ``(out, in, 3, 3)`` of every convolution's weight, shallow to deep."""
    shapes = {}
    channels_in = 3
    for layer in CONVOLUTIONS:
        channels_out = layer_channels(layer)
        shapes[layer] = (channels_out, channels_in, 3, 3)
        channels_in = channels_out
    return shapes


def torchvision_weights() -> Path:
    """torchvision's ``VGG19_Weights.IMAGENET1K_V1``, downloaded into torch's own cache if it is not there.

    Raises:
        WeightsError: The download failed.
    """
    from torchvision.models import VGG19_Weights

    entry = VGG19_Weights.IMAGENET1K_V1
    path = Path(str(torch.hub.get_dir()), "checkpoints", str(entry.url).rpartition("/")[2])
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(
                entry.url, str(path), hash_prefix=TORCHVISION_SHA256_START, progress=False
            )
        except (OSError, RuntimeError) as error:
            raise WeightsError(
                f"torchvision's VGG-19 could not be downloaded ({error}); put the file at {path}, or give "
                "its location as weights with weights_family=torchvision"
            ) from error
    return path


def read_weights(path: Path, family: str | None = None, name: str | None = None) -> Weights:
    """Read a VGG-19 from a file that ``torch.load(weights_only=True)`` can read.

    Keys may be ``features.N.weight`` (torchvision's order), ``convB_C.weight`` (the paper's names) or the
    bundled file's quantised ``blockB_convC_W_q``; a classifier beside them is ignored.

    Args:
        path: A local file.
        family: What input the network wants; None recognises the file by its checksum.
        name: What to call the file in errors; None is its path.

    Raises:
        WeightsError: The file is missing or not a VGG-19 (each wrong key and shape is named), or its family
            is neither stated nor known.
    """
    name = name or str(path)
    sha256 = file_sha256(path, name)
    family = family or known_family(sha256, name)
    entries = _load(path, name)
    filters = {layer: _filters(entries, layer) for layer in CONVOLUTIONS}
    problems = [problem for layer in CONVOLUTIONS for problem in _problems(layer, filters[layer])]
    if problems:
        raise WeightsError(f"{name} is not a VGG-19: " + "; ".join(problems) + _seen(entries))
    return Weights({layer: _as_float(*filters[layer]) for layer in CONVOLUTIONS}, family, sha256)


def _load(path: Path, name: str) -> Mapping[str, Any]:
    check_weights_file(path, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of old pickles before it refuses them
            entries = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises nearly anything
        raise WeightsError(
            f"the weights {name} are not a file of tensors: it is damaged or cut off "
            f"({_torch_reason(error)}); {ALLOWED}"
        ) from error
    if not isinstance(entries, Mapping):
        raise WeightsError(f"the weights {name} hold a {type(entries).__name__}, not a state dict")
    return entries


def _torch_reason(error: Exception) -> str:
    """What torch says, but for its advice to read the file without its checks."""
    return "unreadable pickle" if isinstance(error, pickle.UnpicklingError) else reason(error)


def _torchvision_index(layer: str) -> int:
    """The N of ``features.N``: each convolution is followed by a ReLU, each block by a pooling."""
    block, number = (int(part) for part in layer.removeprefix("conv").split("_"))
    return 2 * (sum(CONVOLUTIONS_PER_BLOCK[: block - 1]) + number - 1) + block - 1


def _filters(entries: Mapping[str, Any], layer: str) -> tuple[Any, Any]:
    """Weight and bias of a layer by any of the known keys; None for what is missing."""
    block, number = re.fullmatch(r"conv(\d)_(\d)", layer).groups()  # type: ignore[union-attr]
    keras = f"block{block}_conv{number}"
    indices, table = entries.get(f"{keras}_W_q"), entries.get(f"{keras}_W_table")
    if isinstance(indices, Tensor) and isinstance(table, Tensor):
        is_whole = indices.dtype == torch.uint8 and indices.shape == filter_shapes()[layer]
        return table[indices.long()] if is_whole and table.shape == (256,) else indices, entries.get(
            f"{keras}_b"
        )
    for prefix in (f"features.{_torchvision_index(layer)}", layer):
        weight, bias = entries.get(f"{prefix}.weight"), entries.get(f"{prefix}.bias")
        if weight is not None or bias is not None:
            return weight, bias
    return None, None


def _problems(layer: str, found: tuple[Any, Any]) -> list[str]:
    """What is wrong with a layer's weight and bias, each by its key."""
    shape = filter_shapes()[layer]
    problems = []
    for kind, value, wanted in (("weight", found[0], shape), ("bias", found[1], shape[:1])):
        key = f"{layer}.{kind} (features.{_torchvision_index(layer)}.{kind})"
        if not isinstance(value, Tensor):
            problems.append(f"{key} is missing")
        elif tuple(value.shape) != wanted:
            problems.append(f"{key} has shape {tuple(value.shape)}, not {wanted}")
        elif not value.is_floating_point() or not bool(torch.isfinite(value.float()).all()):
            problems.append(f"{key} holds values that are not finite float32 numbers")
    return problems


def _seen(entries: Mapping[str, Any]) -> str:
    keys = [reason(key) for key in itertools.islice(entries, 3)]
    return f" (its keys begin with {', '.join(keys)})" if keys else " (it has no keys)"


def _as_float(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return weight.float(), bias.float()
