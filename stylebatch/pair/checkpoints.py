"""A checkpoint: where the synthesis of one pair stands, as one object in storage.

The object is a line that names the format, the SHA-256 of all that follows, and a ``torch.save`` of tensors,
numbers and texts, which is read back as data (``weights_only=True``).
"""

import hashlib
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

import stylebatch
from stylebatch.layout import FORMAT_VERSION
from stylebatch.pair.loading import LoadedPair
from stylebatch.synthesis.optimizers import StopReason
from stylebatch.synthesis.state import ImageState
from stylebatch.synthesis.vgg import VGG19

MAGIC = f"stylebatch checkpoint {FORMAT_VERSION}\n".encode()
DIGEST_BYTES = hashlib.sha256().digest_size
HEAD_BYTES = len(MAGIC) + DIGEST_BYTES

Identity = Mapping[str, Any]
"""All that decides how a pair goes on from a state, by name."""


@dataclass(frozen=True)
class Checkpoint:
    """Where the synthesis of one pair stands."""

    identity: Identity
    """Of the pair and of the program that worked on it."""
    state: ImageState
    """Where its image stands."""
    seconds: float
    """Spent on it so far."""


def pair_identity(network: VGG19, loaded: LoadedPair) -> dict[str, Any]:
    """What must be the same where a pair goes on: its work, the kind of device, and the versions."""
    return {
        "format": FORMAT_VERSION,
        "stylebatch": stylebatch.__version__,
        "torch": str(torch.__version__),
        "device": network.device.type,
        "recipe": loaded.recipe.fingerprint,
        "weights": network.sha256,
        "content": loaded.content.sha256 if loaded.content else None,
        "styles": [style.sha256 for style in loaded.styles],
        "start": loaded.start_sha256,
        "shape": list(loaded.start.shape),
    }


def differences(found: Identity, wanted: Identity) -> list[str]:
    """The names under which two identities differ."""
    return [name for name in {**wanted, **found} if found.get(name) != wanted.get(name)]


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The object's bytes."""
    state = checkpoint.state
    content = {
        "identity": dict(checkpoint.identity),
        "seconds": checkpoint.seconds,
        "smaller_evaluations": list(state.smaller_evaluations),
        "evaluations": state.evaluations,
        "loss_curve": list(state.loss_curve),
        "stop_reason": state.stop_reason and str(state.stop_reason),
        "tensors": dict(state.tensors),
    }
    file = io.BytesIO()
    file.write(MAGIC + bytes(DIGEST_BYTES))
    torch.save(content, file)  # behind the head, so that these many bytes are not copied once more
    with file.getbuffer() as data:
        data[len(MAGIC) : HEAD_BYTES] = hashlib.sha256(data[HEAD_BYTES:]).digest()
    return file.getvalue()


def decode_checkpoint(data: bytes) -> Checkpoint | None:
    """The checkpoint that an object holds; None if it is damaged or of another format."""
    payload = memoryview(data)[HEAD_BYTES:]
    if data[:HEAD_BYTES] != MAGIC + hashlib.sha256(payload).digest():
        return None
    try:
        content = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        return Checkpoint(content["identity"], _state(content), content["seconds"])
    except (pickle.UnpicklingError, EOFError, LookupError):  # whole, but nothing that was stored here
        return None


def _state(content: Mapping[str, Any]) -> ImageState:
    reason = content["stop_reason"]
    return ImageState(
        evaluations=content["evaluations"],
        loss_curve=tuple(content["loss_curve"]),
        stop_reason=None if reason is None else StopReason(reason),
        tensors=content["tensors"],
        smaller_evaluations=tuple(content["smaller_evaluations"]),
    )
