"""Memory that a build of torch for GPUs takes where there is no GPU.

Importing it reads a tenth of a gigabyte of code of libraries that a CPU never calls. The pages are
the files' own, so they can be given back; what is called after all is read again.
"""

import ctypes
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

DROP_PAGES = 4
"""``MADV_DONTNEED`` of Linux."""
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ (\d+) +(/.*)")
_GPU_LIBRARY = re.compile(r"/nvidia/|/lib(cu|nv|torch_cuda|c10_cuda)[^/]*$")


@dataclass(frozen=True)
class _Mapping:
    """Consecutive addresses that show a part of a file."""

    start: int
    end: int
    resident: int
    """Bytes in memory."""


def release_gpu_libraries() -> int:
    """Give back the code of libraries for GPUs, on Linux.

    Returns:
        How many bytes less this process holds.
    """
    return release_code(lambda path: _GPU_LIBRARY.search(path) is not None)


def release_code(is_unused: Callable[[str], bool]) -> int:
    """Give back pages that are as they are in their file, of the files whose path is said to be unused.

    Returns:
        How many bytes less this process holds; 0 where it is not Linux.
    """
    if sys.platform != "linux":
        return 0
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    released = 0
    for mapping in _unchanged_mappings(is_unused):
        if advise(mapping.start, mapping.end - mapping.start, DROP_PAGES) == 0:
            released += mapping.resident
    return released


def _unchanged_mappings(is_wanted: Callable[[str], bool]) -> Iterator[_Mapping]:
    """Those of files, that cannot be written to and of which no page was changed before that."""
    for lines in _described_mappings():
        found = _MAPPING.fullmatch(lines[0])
        if found is None or "w" in found[3] or not is_wanted(found[5]):
            continue
        sizes = dict(re.findall(r"^(\w+): +(\d+) kB$", "\n".join(lines), re.MULTILINE))
        if sizes["Anonymous"] == sizes["Private_Dirty"] == sizes["Shared_Dirty"] == "0":
            yield _Mapping(int(found[1], 16), int(found[2], 16), 1024 * int(sizes["Rss"]))


def _described_mappings() -> Iterator[list[str]]:
    """The lines of ``/proc/self/smaps`` about each mapping, its addresses and file first."""
    lines: list[str] = []
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not re.match(r"[A-Z]", line) and lines:
            yield lines
            lines = []
        lines.append(line)
    if lines:
        yield lines
