"""Merge an output and be killed on the way: ``python killed_merge.py OUTPUT CHANGES``.

SIGKILL comes before the change of the storage with that number; the lease's own changes do not count.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from merged import LIMITS  # noqa: E402

from stylebatch.job import merge_output  # noqa: E402
from stylebatch.storage import LocalStore  # noqa: E402


class KilledStore(LocalStore):
    """A local store whose process is killed before a change of its results."""

    def __init__(self, changes: int) -> None:
        super().__init__()
        self.left = changes

    def _count(self, uri: str) -> None:
        if "/results/" in uri or uri.endswith("_SUCCESS"):
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def put(self, uri: str, data: bytes) -> None:
        self._count(uri)
        super().put(uri, data)

    def copy(self, source: str, destination: str) -> None:  # and put_file, which calls it
        self._count(destination)
        super().copy(source, destination)

    def put_if_absent(self, uri: str, data: bytes) -> bool:
        self._count(uri)
        return super().put_if_absent(uri, data)

    def delete(self, uri: str) -> None:
        self._count(uri)
        super().delete(uri)


def main(output: str, changes: str) -> Any:
    return merge_output(KilledStore(int(changes)), output, LIMITS)


if __name__ == "__main__":
    main(*sys.argv[1:])
