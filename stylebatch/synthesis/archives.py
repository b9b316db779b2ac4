"""A file of weights, looked at before torch reads it. Imports no torch.

``torch.load(weights_only=True)`` runs no code, but a few bytes can make it fill any memory: an entry that
decompresses to a thousand times its size, or ``bytearray(10**11)``. So what such a file may hold is settled
here first: tensors of numbers in a dictionary, uncompressed, as ``torch.save`` writes a state dict.
"""

import io
import pickletools
import stat
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from stylebatch.errors import WeightsError
from stylebatch.quoting import quoted, reason

MAX_WEIGHTS_BYTES = 1 << 30
"""Of a weights file, and of all it holds; VGG-19 with its classifier has 575 MB."""
MAX_PICKLE_BYTES = 1 << 20
"""Of the part that says which tensors there are; VGG-19's has 6 KB."""
MAX_DIRECTORY_BYTES = 1 << 20
"""Of the list of entries at the end of a ZIP file; VGG-19's has 4 KB."""

ALLOWED_NAMES = frozenset(
    {
        *("collections OrderedDict", "torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2"),
        *("torch._utils _rebuild_parameter", "torch FloatStorage", "torch DoubleStorage"),
        *("torch HalfStorage", "torch BFloat16Storage", "torch ByteStorage", "torch CharStorage"),
        *("torch ShortStorage", "torch IntStorage", "torch LongStorage", "torch BoolStorage"),
    }
)
"""What the pickle of a state dict names, and nothing else."""
REFUSED_CODES = frozenset(
    {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER"}
)
"""Other ways for a pickle to name or make things; ``torch.save`` uses none."""

LEGACY_PICKLES = 5
"""Magic number, protocol, machine, state dict, storage keys: how files began before torch 1.6."""

ZIP_START, PICKLE_START = b"PK\x03\x04", b"\x80\x02"
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")

ALLOWED = "weights are a state dict of VGG-19 as torch.save writes it (a .pth or .pt file)"


def check_weights_file(path: Path, name: str) -> None:
    """Raise WeightsError for a file that torch must not be given.

    Args:
        path: A local file.
        name: What to call it in errors.
    """
    size = weights_size(path, name)
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        try:
            if start == ZIP_START:
                _check_zip(file, size)
            elif start[:2] == PICKLE_START:
                _check_pickles(file, LEGACY_PICKLES)
            else:
                raise ValueError("it does not begin as one")
        except Exception as error:  # a damaged file raises nearly anything
            said = reason(error) if isinstance(error, ValueError) else "it is damaged or cut off"
            raise WeightsError(f"the weights {name} are not a file of tensors: {said}; {ALLOWED}") from error


def weights_size(path: Path, name: str) -> int:
    """The length of a weights file.

    Raises:
        WeightsError: It is no regular file, cannot be read, or is too long.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise WeightsError(f"the weights {name} cannot be read: {error.strerror or error}") from error
    if not stat.S_ISREG(status.st_mode):  # a pipe would block its reader, a device might never end
        raise WeightsError(f"the weights {name} cannot be read: not a regular file; {ALLOWED}")
    if status.st_size > MAX_WEIGHTS_BYTES:
        raise WeightsError(
            f"the weights {name} have {status.st_size} bytes; at most {MAX_WEIGHTS_BYTES} are read, and "
            "VGG-19 with its classifier has 575 million"
        )
    return status.st_size


def _check_zip(file: BinaryIO, size: int) -> None:
    if _directory_bytes(file, size) > MAX_DIRECTORY_BYTES:
        raise ValueError("it has too many entries")
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it has compressed entries")
        if sum(entry.file_size for entry in entries) > MAX_WEIGHTS_BYTES:
            raise ValueError(f"its entries have more than {MAX_WEIGHTS_BYTES} bytes")
        pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")]
        if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
            raise ValueError(f"it has not one data.pkl of at most {MAX_PICKLE_BYTES} bytes")
        _check_pickles(io.BytesIO(archive.read(pickles[0])), 1)


def _directory_bytes(file: BinaryIO, size: int) -> int:
    """The length of a ZIP file's list of entries, which Python would read whatever it is."""
    file.seek(max(0, size - (1 << 16) - _END.size))
    tail = file.read()
    place = tail.rindex(b"PK\x05\x06")
    _, _, _, _, _, length, _, _ = _END.unpack_from(tail, place)
    place_64 = tail.rfind(b"PK\x06\x06")
    if place_64 >= 0:
        length = max(length if length < 0xFFFFFFFF else 0, _END_64.unpack_from(tail, place_64)[8])
    return int(length)


def _check_pickles(file: BinaryIO, count: int) -> None:
    """Read a file's first pickles without making anything of them."""
    limited = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    for _ in range(count):
        for code, name in _named(limited):
            if code in REFUSED_CODES or name not in ALLOWED_NAMES:
                raise ValueError(f"it holds {quoted(name or code)}, which is not a tensor of numbers")


def _named(pickle: BinaryIO) -> Iterator[tuple[str, str]]:
    """The codes by which a pickle names something, each with the name where it stands beside it."""
    for opcode, argument, _ in pickletools.genops(pickle):
        if opcode.name == "GLOBAL" or opcode.name in REFUSED_CODES:
            yield opcode.name, str(argument or "")
