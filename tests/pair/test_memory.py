"""How much memory there is, what fits into it, and what running out of it looks like."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stylebatch.errors import MemoryExceededError
from stylebatch.pair import memory
from stylebatch.pair.memory import (
    CERTAIN_SHARE,
    COMFORTABLE_SHARE,
    available_bytes,
    check_measuring_fits,
    check_picture_fits,
    even_sizes,
    gigabytes,
    host_bytes,
    is_out_of_memory,
    pieces,
    spoils_thread,
)
from stylebatch.recipe import Recipe
from stylebatch.synthesis.projection import batch_bytes, measuring_bytes

CPU = torch.device("cpu")
GIB = 2**30


class TestPieces:
    @pytest.mark.parametrize(
        ("pictures", "available", "sizes"),
        [
            (16, 10_000, [16]),
            (4, 534, [4]),
            (4, 528, [2, 2]),
            (16, 600, [4, 4, 4, 4]),
            (7, 420, [3, 2, 2]),
            (3, 120, [1, 1, 1]),
            (3, 90, [1, 1, 1]),
            (1, 112, [1]),
            (1, 90, [1]),
            (1, 84, []),
            (5, 84, []),
            (5, 0, []),
            (5, None, [5]),
        ],
    )
    def test_a_batch_of_pictures_of_100_bytes(
        self, pictures: int, available: int | None, sizes: list[int]
    ) -> None:
        assert pieces(pictures, lambda number: 100 * number, available) == sizes

    def test_every_piece_fits_or_is_a_single_picture(self) -> None:
        for pictures in range(1, 17):
            for available in range(0, 2000, 13):
                sizes = pieces(pictures, lambda number: 100 * number, available)
                assert sum(sizes) == (pictures if available >= CERTAIN_SHARE * 100 else 0)
                assert max(sizes, default=0) - min(sizes, default=0) <= 1
                assert all(size == 1 or 100 * size <= COMFORTABLE_SHARE * available for size in sizes)

    def test_halves(self) -> None:
        assert [even_sizes(pictures, 2) for pictures in (2, 3, 16)] == [[1, 1], [2, 1], [8, 8]]


def machine(root: Path, files: dict[str, str]) -> Path:
    """A folder in which ``proc`` and ``sys`` hold these files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal: 16000000 kB\nMemFree: 1 kB\nMemAvailable: 8388608 kB\n"}


class TestWhatThereIs:
    def test_the_kernel_s_estimate(self, tmp_path: Path) -> None:
        assert host_bytes(machine(tmp_path, MEMINFO)) == 8 * GIB

    def test_nobody_tells(self, tmp_path: Path) -> None:
        assert host_bytes(tmp_path) is None

    def test_a_control_group_of_version_2(self, tmp_path: Path) -> None:
        """With the files of a cache that the kernel would give up."""
        files = {
            "proc/self/cgroup": "0::/jobs/worker\n",
            "sys/fs/cgroup/jobs/worker/memory.max": f"{4 * GIB}\n",
            "sys/fs/cgroup/jobs/worker/memory.current": f"{3 * GIB}\n",
            "sys/fs/cgroup/jobs/worker/memory.stat": f"anon 5\ninactive_file {GIB}\n",
        }
        assert host_bytes(machine(tmp_path, MEMINFO | files)) == 2 * GIB

    def test_the_groups_above_count_too(self, tmp_path: Path) -> None:
        files = {
            "proc/self/cgroup": "0::/jobs/worker\n",
            "sys/fs/cgroup/jobs/worker/memory.max": "max\n",
            "sys/fs/cgroup/jobs/worker/memory.current": f"{GIB}\n",
            "sys/fs/cgroup/jobs/memory.max": f"{4 * GIB}\n",
            "sys/fs/cgroup/jobs/memory.current": f"{3 * GIB}\n",
        }
        assert host_bytes(machine(tmp_path, MEMINFO | files)) == GIB

    def test_a_container_sees_its_own_group_at_the_top(self, tmp_path: Path) -> None:
        files = {
            "proc/self/cgroup": "0::/docker/0123\n",
            "sys/fs/cgroup/memory.max": f"{4 * GIB}\n",
            "sys/fs/cgroup/memory.current": f"{GIB}\n",
        }
        assert host_bytes(machine(tmp_path, MEMINFO | files)) == 3 * GIB

    def test_a_control_group_of_version_1(self, tmp_path: Path) -> None:
        files = {
            "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/jobs\n0::/\n",
            "sys/fs/cgroup/memory/jobs/memory.limit_in_bytes": f"{4 * GIB}\n",
            "sys/fs/cgroup/memory/jobs/memory.usage_in_bytes": f"{2 * GIB}\n",
            "sys/fs/cgroup/memory/jobs/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB}\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{9 * GIB}\n",
        }
        assert host_bytes(machine(tmp_path, MEMINFO | files)) == 3 * GIB

    def test_more_used_than_allowed_is_nothing(self, tmp_path: Path) -> None:
        files = {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": f"{GIB}\n",
            "sys/fs/cgroup/memory.current": f"{2 * GIB}\n",
        }
        assert host_bytes(machine(tmp_path, MEMINFO | files)) == 0

    def test_a_limit_on_the_address_space(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        resource = pytest.importorskip("resource")
        monkeypatch.setattr(resource, "getrlimit", lambda kind: (5 * GIB, -1))
        pages = 3 * GIB // resource.getpagesize()
        root = machine(tmp_path, MEMINFO | {"proc/self/statm": f"{pages} 1 1\n"})
        left = host_bytes(root)
        assert left is not None
        assert 2 * GIB <= left < 2 * GIB + GIB  # with what this process has freed

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_this_machine_tells(self) -> None:
        left = available_bytes(CPU)
        assert left is not None
        assert left > 2**26

    def test_a_gpu_s_cache_is_free_to_be_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * GIB, 16 * GIB))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5 * GIB)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 4 * GIB)
        assert available_bytes(torch.device("cuda")) == 4 * GIB


class TestRunningOut:
    @pytest.mark.parametrize(
        "error",
        [
            MemoryError(),
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"
            ),
            RuntimeError("could not create a primitive"),
        ],
    )
    def test_it_is_recognised(self, error: Exception) -> None:
        assert is_out_of_memory(error)

    @pytest.mark.parametrize(
        "error", [RuntimeError("size mismatch"), ValueError("DefaultCPUAllocator: can't allocate memory")]
    )
    def test_nothing_else_is(self, error: Exception) -> None:
        assert not is_out_of_memory(error)

    def test_as_torch_really_says_it(self) -> None:
        with pytest.raises(RuntimeError) as raised:
            torch.empty(2**61, dtype=torch.uint8)
        assert is_out_of_memory(raised.value)

    def test_a_kernel_that_could_not_be_made_spoils_its_thread(self) -> None:
        assert spoils_thread("could not create a primitive")
        assert not spoils_thread("DefaultCPUAllocator: can't allocate memory")


def test_bytes_are_told_in_gigabytes() -> None:
    assert [gigabytes(number) for number in (12_345_678_901, 2_000_000_000, 40_000_000)] == [
        "12.3 GB",
        "2 GB",
        "0.04 GB",
    ]


class TestRefusals:
    def test_a_picture_that_cannot_fit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        recipe = Recipe(size=4096)
        needed = batch_bytes(recipe, 3072, 4096)
        for share, fits in ((1.1, True), (CERTAIN_SHARE, True), (CERTAIN_SHARE - 0.01, False)):
            monkeypatch.setattr(
                memory, "available_bytes", lambda device, share=share: int(share * needed) + 1
            )
            if fits:
                check_picture_fits(recipe, 4096, 3072, CPU)
        with pytest.raises(
            MemoryExceededError,
            match=rf"^this picture of 4096 x 3072 pixels needs about {gigabytes(needed)} \(projected\) and "
            r"there are \S+ GB on \S+ \(cpu\); use a smaller size$",
        ):
            check_picture_fits(recipe, 4096, 3072, CPU)

    def test_an_image_that_cannot_be_measured(self, monkeypatch: pytest.MonkeyPatch) -> None:
        layers = ["conv1_1", "conv5_1"]
        needed = measuring_bytes(layers, 3000, 4000)
        monkeypatch.setattr(memory, "available_bytes", lambda device: needed)
        check_measuring_fits(layers, 4000, 3000, CPU)
        monkeypatch.setattr(memory, "available_bytes", lambda device: needed // 2)
        with pytest.raises(
            MemoryExceededError, match="to measure an image of 4000 x 3000 pixels takes about 7"
        ):
            check_measuring_fits(layers, 4000, 3000, CPU)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    "arguments",
    [
        ["256", "192", "1"],
        ["96", "96", "4", "history=30", "iterations=31"],
        ["256", "128", "1", "pooling=max", "scales=2"],
    ],
    ids=["one picture", "a batch with a long history", "max pooling and two sizes"],
)
def test_a_worker_s_peak_is_projected_within_a_fifth(arguments: list[str]) -> None:
    program = Path(__file__).with_name("peak_memory.py")
    done = subprocess.run([sys.executable, program, *arguments], capture_output=True, check=True)
    told = json.loads(done.stdout)
    assert told["projected"]["process"] == pytest.approx(told["measured"]["process"], rel=0.2)
    assert told["measured"]["synthesis"] > CERTAIN_SHARE * told["projected"]["synthesis"]
