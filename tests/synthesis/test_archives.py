"""Weights files that run code, decompress to more than they are, or hold what is no tensor."""

import contextlib
import io
import os
import pickle
import resource
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from stylebatch.errors import WeightsError
from stylebatch.synthesis.archives import ALLOWED, MAX_WEIGHTS_BYTES, check_weights_file
from stylebatch.synthesis.families import bundled_weights, file_sha256
from stylebatch.synthesis.weights import filter_shapes, read_weights

FIRST = "conv1_1.weight"


class Runs:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


class Fills:
    """Fills memory when it is unpickled, with nothing but what ``weights_only`` allows."""

    def __init__(self, call: Callable[..., Any], *arguments: int) -> None:
        self.call = call
        self.arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.arguments


def state_dict(**changes: Any) -> dict[str, Any]:
    """A small file's worth of filters, with some entries changed."""
    entries: dict[str, Any] = {}
    for layer, shape in filter_shapes().items():
        entries[f"{layer}.weight"] = torch.tensor([0.01]).expand(shape)
        entries[f"{layer}.bias"] = torch.zeros(1).expand(shape[0])
    return entries | {name.replace("__", "."): value for name, value in changes.items()}


def saved(entries: Any, is_legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(entries, file, _use_new_zipfile_serialization=not is_legacy)
    return file.getvalue()


def zipped_again(data: bytes, compression: int, **changes: bytes) -> bytes:
    """A ZIP file with the same entries, compressed or changed, by the ends of their names."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", compression) as new:
        for name in old.namelist():
            change = changes.get(name.rpartition("/")[2].replace(".", "_"))
            new.writestr(name, old.read(name) if change is None else change)
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("storages", "tensors", "pickle", "../outside"):
            entry = tarfile.TarInfo(name)
            entry.size = 4
            tar.addfile(entry, io.BytesIO(bytes(4)))
    return file.getvalue()


def with_directory_of(length: int) -> bytes:
    """A ZIP file that says how long its list of entries is."""
    return b"PK\x03\x04" + bytes(100) + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, length, 0, 0)


def scripted() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x02c__torch__.torch.nn\nLinear\nq\x00.")
        archive.writestr("m/constants.pkl", b"\x80\x02].")
        archive.writestr("m/code/__torch__.py", b"import os")
    return file.getvalue()


PLAIN = saved({"x": torch.zeros(4)})

REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "code": (lambda: saved(state_dict(extra=Runs())), "it holds 'posix system'"),
    "code in an old file": (lambda: saved({"x": Runs()}, is_legacy=True), "it holds 'posix system'"),
    "code alone": (lambda: pickle.dumps(Runs(), protocol=2), "it holds 'posix system'"),
    "code by another way": (lambda: b"\x80\x02(cos\nsystem\nU\x04lsq\x00o.", "it holds 'os system'"),
    "an instance": (lambda: b"\x80\x02(U\x04true ios\nsystem\n.", "it"),
    "code of protocol 4": (lambda: pickle.dumps(Runs(), protocol=4), "it does not begin as one"),
    "a byte array of 100 GB": (
        lambda: saved({"x": Fills(bytearray, 10**11)}),
        "it holds '__builtin__ bytearray'",
    ),
    "a tensor of 100 GB": (
        lambda: saved({"x": Fills(torch.Tensor, 10**5, 10**6)}),
        "it holds 'torch Tensor'",
    ),
    "a whole module": (lambda: saved(torch.nn.Linear(2, 2)), "it holds 'torch.nn.modules.linear Linear'"),
    "a sparse tensor": (
        lambda: saved(state_dict(conv1_1__weight=torch.zeros(64, 3, 3, 3).to_sparse())),
        "it holds 'torch._utils _rebuild_sparse_tensor'",
    ),
    "a tensor without values": (
        lambda: saved(state_dict(conv1_1__weight=torch.zeros(64, 3, 3, 3, device="meta"))),
        "it holds 'torch._utils _rebuild_meta_tensor_no_storage'",
    ),
    "a complex tensor": (
        lambda: saved(state_dict(conv1_1__weight=torch.zeros(64, 3, 3, 3, dtype=torch.complex64))),
        "it holds 'torch ComplexFloatStorage'",
    ),
    "an entry that decompresses": (
        lambda: zipped_again(PLAIN, zipfile.ZIP_DEFLATED, **{"0": bytes(64 << 20)}),
        "it has compressed entries",
    ),
    "a pickle that decompresses": (
        lambda: zipped_again(PLAIN, zipfile.ZIP_DEFLATED, data_pkl=bytes(64 << 20)),
        "it has compressed entries",
    ),
    "a pickle of 2 MB": (
        lambda: zipped_again(PLAIN, zipfile.ZIP_STORED, data_pkl=b"\x80\x02" + b"]" * (2 << 20)),
        "it has not one data.pkl of at most 1048576 bytes",
    ),
    "an old pickle of 2 MB": (lambda: b"\x80\x02" + b"]0" * (1 << 20) + b".", "pickle exhausted"),
    "a list of a billion entries": (lambda: with_directory_of(2**32 - 2), "it has too many entries"),
    "an old tar file": (tarred, "it does not begin as one"),
    "a script": (scripted, "it holds '__torch__.torch.nn Linear'"),
    "safetensors": (
        lambda: struct.pack("<Q", 30) + b'{"x":{"dtype":"F32"}}'.ljust(30),
        "it does not begin as one",
    ),
    "a page": (lambda: b"<!DOCTYPE html>", "it does not begin as one"),
    "nothing": (lambda: b"", "it does not begin as one"),
    "a number of 2 GB": (lambda: b"\x80\x02\x8b\xff\xff\xff\x7f", "not enough data"),
    "a text of 4 GB": (lambda: b"\x80\x02X\xff\xff\xff\xff", "expected 4294967295 bytes"),
}
"""Files that torch is not given, and part of what is said of each."""


@pytest.mark.filterwarnings("ignore")  # torch's own, over what is saved here
@pytest.mark.parametrize("name", REFUSED)
def test_torch_is_not_given_what_is_no_state_dict(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make, said = REFUSED[name]
    path = tmp_path / "weights.pth"
    path.write_bytes(make())
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch was given the file"))
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(WeightsError) as raised:
        read_weights(path, "caffe", name="s3://bucket/weights.pth")
    message = str(raised.value)
    assert message.startswith("the weights s3://bucket/weights.pth are not a file of tensors: ")
    assert said in message
    assert message.endswith(ALLOWED)
    assert "weights_only" not in message
    assert message.isprintable()
    assert not (tmp_path / "ran").exists()
    assert list(tmp_path.iterdir()) == [path]
    assert time.process_time() - started < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


@pytest.mark.parametrize("is_legacy", [False, True])
def test_a_state_dict_is_given_to_torch(tmp_path: Path, is_legacy: bool) -> None:
    path = tmp_path / "weights.pth"
    entries = state_dict(conv1_1__weight=torch.nn.Parameter(torch.zeros(64, 3, 3, 3)), epoch=3, name="vgg")
    path.write_bytes(saved(entries, is_legacy))
    check_weights_file(path, "w")
    assert read_weights(path, "caffe").filters["conv1_1"][0].shape == (64, 3, 3, 3)
    check_weights_file(bundled_weights(), "w")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"conv1_1__weight": torch.ones(1).expand(10**6, 10**6, 10**6)},
            "has shape (1000000, 1000000, 1000000)",
        ),
        ({"conv1_1__weight": torch.full((64, 3, 3, 3), 1e300, dtype=torch.float64)}, "not finite float32"),
        ({"conv1_1__weight": torch.full((64, 3, 3, 3), torch.inf)}, "not finite float32"),
        ({"conv1_1__weight": [1.0]}, "is missing"),
        (
            {
                "block1_conv1_W_q": torch.zeros(1, dtype=torch.uint8).expand(10**5, 10**5, 10**5),
                "block1_conv1_W_table": torch.zeros(256),
                "block1_conv1_b": torch.zeros(64),
            },
            "has shape (100000, 100000, 100000)",
        ),
        (
            {
                "block1_conv1_W_q": torch.zeros(64, 3, 3, 3, dtype=torch.uint8),
                "block1_conv1_W_table": torch.zeros(1).expand(10**12),
                "block1_conv1_b": torch.zeros(64),
            },
            "conv1_1.weight (features.0.weight) holds values that are not finite float32 numbers",
        ),
    ],
    ids=["stride", "float64", "infinite", "list", "indices", "table"],
)
def test_tensors_of_another_kind_are_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(saved(state_dict(**changes)))
    with pytest.raises(WeightsError) as raised:
        read_weights(path, "caffe")
    assert "conv1_1.weight (features.0.weight)" in str(raised.value)
    assert said in str(raised.value)


def test_keys_are_shown_in_short(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(saved({"\x1b[31m" + "k" * 10_000: 1, "s3://K:SECRET@b": 2}))
    with pytest.raises(WeightsError) as raised:
        read_weights(path, "caffe")
    keys = str(raised.value).partition("its keys begin with")[2]
    assert keys.isprintable()
    assert len(keys) < 700
    assert "SECRET" not in keys


@pytest.mark.parametrize("is_legacy", [False, True])
def test_any_damage_is_refused_or_read(tmp_path: Path, is_legacy: bool) -> None:
    whole = saved(state_dict(), is_legacy)
    path = tmp_path / "weights.pth"
    for place in range(0, len(whole), max(1, len(whole) // 60)):
        for data in (whole[:place], whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :]):
            path.write_bytes(data)
            with contextlib.suppress(WeightsError):
                read_weights(path, "caffe")


READ = "import sys; from pathlib import Path; from stylebatch.synthesis.families import file_sha256\n"


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    pipe, folder, device = tmp_path / "pipe", tmp_path / "folder", Path("/dev/zero")
    os.mkfifo(pipe)
    folder.mkdir()
    for path in (pipe, folder, device):
        program = f"{READ}file_sha256(Path(sys.argv[1]), 'mine')"
        done = subprocess.run(
            [sys.executable, "-c", program, str(path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "WeightsError: the weights mine cannot be read: not a regular file" in done.stderr


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.pth"
    with path.open("wb") as file:
        file.truncate(100 << 30)
    started = time.process_time()
    for read in (file_sha256, check_weights_file):
        with pytest.raises(
            WeightsError, match=f"mine have 107374182400 bytes; at most {MAX_WEIGHTS_BYTES} are"
        ):
            read(path, "mine")
    assert time.process_time() - started < 1


def test_entries_that_share_their_bytes_count_each(tmp_path: Path) -> None:
    """A list of entries may give each of them the whole file."""
    data = zipped_again(PLAIN, zipfile.ZIP_STORED)
    place = data.index(b"PK\x01\x02")
    path = tmp_path / "weights.pth"
    path.write_bytes(data[: place + 24] + struct.pack("<I", 2**31 - 1) + data[place + 28 :])
    with pytest.raises(WeightsError, match=f"its entries have more than {MAX_WEIGHTS_BYTES} bytes"):
        check_weights_file(path, "w")
