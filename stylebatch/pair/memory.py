"""How much memory there is, whether a batch fits, and what running out of it looks like."""

import ctypes
import functools
import gc
import math
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from stylebatch.errors import MemoryExceededError
from stylebatch.recipe import Recipe
from stylebatch.synthesis.projection import batch_bytes, measuring_bytes

COMFORTABLE_SHARE = 0.75
"""Of the memory that there is: what a batch of several pictures may be planned to take."""
CERTAIN_SHARE = 0.85
"""Of the projected bytes: what a picture needs.

By how much a process grew differs from run to run: 0.89 to 1.31 of the projection in seven kinds of batches
(0.83 in one run of 24), 50 MB more than projected with a single picture of 64 x 64. Whole processes took
0.87 to 1.07 of theirs (``tests/pair/peak_memory.py``).
"""

_NO_KERNEL = "could not create a primitive"
"""What oneDNN says where it has no memory for the code of a kernel."""
_ALLOCATION_FAILURES = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA out of memory",
    "std::bad_alloc",
    "could not create a memory",
    _NO_KERNEL,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that an allocation failed. On a CPU, torch has no class of its own for it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _ALLOCATION_FAILURES)


def spoils_thread(reason: str) -> bool:
    """Whether no new kernel can be made any more in the thread in which an allocation failed like this.

    oneDNN's code generator keeps its first error for as long as the thread lives.
    """
    return _NO_KERNEL in reason


def free_unused(device: torch.device) -> None:
    """Give back what this process keeps for later."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    trim_heap()


def trim_heap() -> None:
    """Give back what the C library's heap holds of freed memory; it is done in milliseconds."""
    trim = _c_function("malloc_trim")
    if trim:
        trim(0)


def available_bytes(device: torch.device) -> int | None:
    """The memory that a synthesis on this device can still take; None where nobody tells."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return host_bytes()


def host_bytes(root: Path = Path("/")) -> int | None:
    """The least that the machine, the control groups and the process's own limit leave.

    Args:
        root: The folder in which ``proc`` and ``sys`` are found.
    """
    limits = [*_machine_bytes(root), *_group_bytes(root), *_address_space_bytes(root)]
    return max(0, min(limits)) if limits else None


def _machine_bytes(root: Path) -> Iterator[int]:
    """What the kernel thinks can be had without swapping."""
    fields = (line.split() for line in _lines(root / "proc/meminfo"))
    yield from (int(parts[1]) * 1024 for parts in fields if parts[0] == "MemAvailable:")


def _group_bytes(root: Path) -> Iterator[int]:
    """What every control group above this process leaves; version 1 and version 2 name their files apart."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, name = line.split(":", 2)
        if not controllers:
            folder, files = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif controllers == "memory":
            folder = root / "sys/fs/cgroup/memory"
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        here = folder / name.strip("/")
        for group in (here, *here.parents):
            yield from _left_in_group(group, *files)
            if group == folder:
                break


def _left_in_group(group: Path, limit_name: str, used_name: str, reclaimable_name: str) -> Iterator[int]:
    limit, used = (_number(_lines(group / name)) for name in (limit_name, used_name))
    if limit is not None and used is not None:
        fields = (line.split() for line in _lines(group / "memory.stat"))
        yield limit - used + sum(int(parts[1]) for parts in fields if parts[0] == reclaimable_name)


def _address_space_bytes(root: Path) -> Iterator[int]:
    """What ``ulimit -v`` leaves, with what this process has freed and can use again."""
    if sys.platform == "win32":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = [int(line.split()[0]) for line in _lines(root / "proc/self/statm")]
    if limit != resource.RLIM_INFINITY and pages:
        yield limit - pages[0] * resource.getpagesize() + _freed_bytes()


class _HeapFacts(ctypes.Structure):
    """``struct mallinfo2`` of the GNU C library."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks")
    _fields_ = tuple((name, ctypes.c_size_t) for name in (*_names, "keepcost"))


def _freed_bytes() -> int:
    """What the C library's heap holds that nobody uses."""
    tell = _c_function("mallinfo2", _HeapFacts)
    return int(tell().fordblks) if tell else 0


@functools.cache
def _c_function(name: str, result: type | None = ctypes.c_int) -> Callable[..., Any] | None:
    """A function of this process's C library; None where it has none of that name."""
    library = None if sys.platform == "win32" else ctypes.CDLL(None)
    function: Callable[..., Any] | None = getattr(library, name, None)
    if function is not None:
        function.restype = result  # type: ignore[attr-defined]
    return function


def _lines(path: Path) -> list[str]:
    """The lines of a small file; none where it cannot be read."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _number(lines: list[str]) -> int | None:
    return int(lines[0]) if lines and lines[0].isdigit() else None


def pieces(pictures: int, needed: Callable[[int], int], available: int | None) -> list[int]:
    """How many pictures to work on at a time.

    Args:
        pictures: In the batch.
        needed: The projected bytes of so many of them.
        available: Where it is not known, everything fits.

    Returns:
        Sizes of even pieces, each of which fits; empty if surely not even one picture does.
    """
    if available is None:
        return [pictures]
    comfortable = COMFORTABLE_SHARE * available
    most = max((number for number in range(1, pictures + 1) if needed(number) <= comfortable), default=0)
    if most == 0 and CERTAIN_SHARE * needed(1) > available:
        return []
    return even_sizes(pictures, math.ceil(pictures / max(1, most)))


def even_sizes(pictures: int, parts: int) -> list[int]:
    """Sizes of so many parts, the larger ones first."""
    smaller, larger = divmod(pictures, parts)
    return [smaller + (part < larger) for part in range(parts)]


def picture_exceeds(
    recipe: Recipe, width: int, height: int, device: torch.device, available: int | None, reason: str = ""
) -> MemoryExceededError:
    """What to say of one picture for which there is not enough memory.

    Args:
        recipe: The picture's.
        width: In pixels.
        height: In pixels.
        device: Where it was to be made.
        available: What there was, in bytes.
        reason: What the failed allocation said; empty where nothing was tried.
    """
    needed = gigabytes(batch_bytes(recipe, height, width))
    told = f", which ran out ({' '.join(reason.split())[:200]})" if reason else ""
    return MemoryExceededError(
        f"this picture of {width} x {height} pixels needs about {needed} (projected) and there "
        f"{_are(available)} on {_place(device)}{told}; use a smaller size"
    )


def too_many_pictures(
    recipe: Recipe, width: int, height: int, device: torch.device, available: int | None, sizes: list[int]
) -> str:
    """What to tell of a batch that is done in pieces; the arguments are those of :func:`picture_exceeds`."""
    needed = gigabytes(batch_bytes(recipe, height, width, sum(sizes)))
    return (
        f"{sum(sizes)} pictures of {width} x {height} pixels were made {sizes[0]} at a time: together they "
        f"need about {needed} (projected) and there {_are(available)} on {_place(device)}"
    )


def check_picture_fits(recipe: Recipe, width: int, height: int, device: torch.device) -> None:
    """Raise MemoryExceededError before a picture is started that surely does not fit."""
    available = available_bytes(device)
    if not pieces(1, partial(batch_bytes, recipe, height, width), available):
        raise picture_exceeds(recipe, width, height, device, available)


def check_measuring_fits(layers: Iterable[str], width: int, height: int, device: torch.device) -> None:
    """Raise MemoryExceededError before an image is measured that surely does not fit."""
    needed, available = measuring_bytes(layers, height, width), available_bytes(device)
    if available is not None and CERTAIN_SHARE * needed > available:
        raise MemoryExceededError(
            f"to measure an image of {width} x {height} pixels takes about {gigabytes(needed)} (projected) "
            f"and there {_are(available)} on {_place(device)}; use a smaller size, or style_size for a style"
        )


def gigabytes(number: int) -> str:
    """Bytes as people read them."""
    return f"{number / 1e9:.3g} GB"


def _are(available: int | None) -> str:
    return "is an unknown amount" if available is None else f"are {gigabytes(available)}"


def _place(device: torch.device) -> str:
    return f"{socket.gethostname()} ({device.type})"
