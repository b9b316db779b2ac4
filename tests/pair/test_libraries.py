"""Code that is not called is given back, and read again when it is."""

import re
import sys
from pathlib import Path

import pytest
import torch

from stylebatch.pair.libraries import release_code, release_gpu_libraries

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it is done on Linux alone")


def resident() -> int:
    """Bytes of this process in memory."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def test_code_is_given_back_and_read_again() -> None:
    values = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    expected = torch.linalg.inv(values)
    before = resident()
    released = release_code(lambda path: "libtorch_cpu" in path)
    assert released > 10e6
    assert resident() < before - released / 2
    assert torch.equal(torch.linalg.inv(values), expected)


def test_nothing_else_is_given_back() -> None:
    asked: list[str] = []

    def nothing(path: str) -> bool:
        asked.append(path)
        return False

    assert release_code(nothing) == 0
    assert any("libtorch_cpu" in path for path in asked)
    assert all(path.startswith("/") for path in asked)


@pytest.mark.skipif(torch.version.cuda is None, reason="this torch was built without libraries for GPUs")
def test_libraries_for_gpus_are_known() -> None:
    release_gpu_libraries()
    assert release_gpu_libraries() < 1e6  # nothing calls them
