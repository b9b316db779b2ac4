"""Whether another process of this machine is still alive, told by ``/proc`` where there is one.

A process id alone says little: ids are used again, and every container counts its own. A mark names a process
for good: the boot of its kernel, its namespace of ids, its id, and when it started.
"""

import os
from pathlib import Path

PROC = Path("/proc")
_BOOT_ID = "sys/kernel/random/boot_id"
_DEAD_STATES = frozenset("ZX")
"""A zombie, and a process that is being removed."""
_START_TIME = 19
"""Place of the start time in ``/proc/PID/stat`` after the program's name: field 22, the state being 3."""


def process_mark() -> str:
    """This process, as no other is named; '' where ``/proc`` does not tell."""
    try:
        if (PROC / "self").readlink().name != str(os.getpid()):  # the /proc of another namespace of ids
            return ""
        _, started = _state_and_start(os.getpid())
        return f"{_machine()} {os.getpid()} {started}"
    except (OSError, ValueError, IndexError):
        return ""


def has_died(mark: str) -> bool:
    """Whether a process of this machine has ended; False if that cannot be known from here."""
    parts = mark.split()
    mine = process_mark().split()
    if len(parts) != 4 or parts[:2] != mine[:2] or not parts[2].isdecimal():
        return False
    process, started = int(parts[2]), parts[3]
    try:
        state, found = _state_and_start(process)
    except (OSError, ValueError, IndexError):
        return not _exists(process)  # /proc may hide the processes of other users
    return state in _DEAD_STATES or found != started


def _machine() -> str:
    """This boot of this kernel, and the namespace of process ids."""
    return f"{(PROC / _BOOT_ID).read_text().strip()} {(PROC / 'self/ns/pid').readlink()}"


def _state_and_start(process: int) -> tuple[str, str]:
    """The state of a process, and its start in clock ticks since the boot."""
    fields = (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    return fields[0], fields[_START_TIME]


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
