"""A checkpoint as bytes: what goes in comes out, and nothing else is ever taken for one."""

import hashlib
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from inmemory import MemoryStore

from stylebatch.pair.checkpoints import (
    HEAD_BYTES,
    MAGIC,
    Checkpoint,
    decode_checkpoint,
    differences,
    encode_checkpoint,
    pair_identity,
)
from stylebatch.pair.loading import Loader
from stylebatch.pairs import Pair
from stylebatch.synthesis.lbfgs import LBFGS
from stylebatch.synthesis.optimizers import StopReason
from stylebatch.synthesis.state import ImageState

PairMaker = Callable[..., Pair]


def checkpoint(stop_reason: StopReason | None = None) -> Checkpoint:
    optimizer = LBFGS(torch.rand(1, 60), history=4)
    for _ in range(3):
        points = optimizer.propose()
        optimizer.observe(points.square().sum(1), 2 * points)
    state = ImageState(3, (9.0, 0.1, math.inf), stop_reason, optimizer.state(0))
    return Checkpoint({"torch": "2", "styles": ["a", "b"], "start": None}, state, 12.5)


@pytest.mark.parametrize("reason", [None, *StopReason])
def test_what_goes_in_comes_out(reason: StopReason | None) -> None:
    stored = checkpoint(reason)
    found = decode_checkpoint(encode_checkpoint(stored))
    assert found is not None
    assert (found.identity, found.seconds) == (stored.identity, stored.seconds)
    assert found.state.stop_reason is reason
    assert (found.state.evaluations, found.state.loss_curve) == (3, (9.0, 0.1, math.inf))
    assert found.state.tensors.keys() == stored.state.tensors.keys()
    for name, tensor in stored.state.tensors.items():
        assert torch.equal(found.state.tensors[name], tensor)
        assert found.state.tensors[name].dtype == tensor.dtype


def test_every_damage_is_found() -> None:
    data = encode_checkpoint(checkpoint())
    for place in range(0, len(data), 7):
        assert decode_checkpoint(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]) is None, place
    for length in range(0, len(data), 101):
        assert decode_checkpoint(data[:length]) is None, length
    assert decode_checkpoint(data + b"\0") is None


def with_head(payload: bytes) -> bytes:
    return MAGIC + hashlib.sha256(payload).digest() + payload


def test_other_content_is_none_even_when_it_is_whole() -> None:
    file = io.BytesIO()
    torch.save({"identity": {}}, file)
    for payload in (b"", b"a shopping list", file.getvalue()):
        assert decode_checkpoint(with_head(payload)) is None


def test_no_code_is_run() -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("the checkpoint ran code",))

    file = io.BytesIO()
    torch.save({"identity": Trap()}, file)
    assert decode_checkpoint(with_head(file.getvalue())) is None


def test_the_head_names_the_format() -> None:
    data = encode_checkpoint(checkpoint())
    assert data.startswith(b"stylebatch checkpoint 2\n")
    assert len(b"stylebatch checkpoint 2\n") + 32 == HEAD_BYTES


def test_an_identity_holds_what_decides_how_a_pair_goes_on(
    store: MemoryStore, network: Any, make_pair: PairMaker
) -> None:
    def identity(*names: str | None, **recipe: Any) -> dict[str, Any]:
        return pair_identity(network, Loader(store, 0).load(make_pair(*names, **recipe)))

    known = identity("c", "s")
    assert differences(known, identity("c", "s", pair_id="other", row=5)) == []
    assert differences(known, identity("d", "s")) == ["content"]
    assert differences(known, identity("c", "t")) == ["styles"]
    assert differences(known, identity("c", "s", style_weight=3.0)) == ["recipe"]
    assert differences(known, identity("c", "s", size=40)) == ["recipe", "shape"]
    assert differences(known, identity("c", "s", start="/in/d.png")) == ["recipe", "start"]
    assert differences({**known, "device": "cuda"}, known) == ["device"]
    assert differences({}, {**known, "start": "x"}) == list(known)
    assert set(known) > {"format", "stylebatch", "torch", "weights"}
