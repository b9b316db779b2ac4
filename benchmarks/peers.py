"""What the benchmarks compare with: pastiche 1.6.0, and ``torch.optim.LBFGS`` as most programs use it."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import Tensor

THREADS = 2

Build = Callable[..., Callable[[], object]]
"""Makes, in its own process, what is to be timed."""


def pastiche_command(content: Path, style: Path, output: Path, size: int, steps: int) -> list[str]:
    """One picture by pastiche, from the content, with average pooling; it makes nothing smaller or larger."""
    files = ["--content", str(content), "--styles", str(style), "--output", str(output)]
    sizes = ["--size", str(size), "--style-size", str(size)]
    return [sys.executable, "-m", "pastiche", *files, *sizes, "--pooling", "avg", "--num-steps", str(steps)]


def seconds_of(command: list[str]) -> float:
    """Of a whole process, which must succeed."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def plain_lbfgs(start: Tensor, loss: Callable[[Tensor], Tensor], evaluations: int) -> Tensor:
    """``torch.optim.LBFGS`` with step 1, history 100 and no line search, as pastiche uses it."""
    picture = start.clone(memory_format=torch.contiguous_format).requires_grad_()
    optimizer = torch.optim.LBFGS([picture], lr=1, max_iter=1, history_size=100)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(picture)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    for _ in range(evaluations):
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return picture.detach()


class Racer:
    """A process of its own that does its work once each time it is asked, and tells how long it took."""

    def __init__(self, build: Build, *arguments: object) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_race, args=(theirs, build, arguments), daemon=True)
        self._process.start()
        theirs.close()  # so that a process that ends early ends the wait for it, too
        self._pipe.recv()

    def lap(self) -> float:
        """Seconds of doing it once more."""
        self._pipe.send(True)
        seconds: float = self._pipe.recv()
        return seconds

    def stop(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join()


def _race(pipe: Connection, build: Build, arguments: tuple[object, ...]) -> None:
    torch.set_num_threads(THREADS)
    work = build(*arguments)
    work()
    pipe.send(True)
    try:
        while pipe.recv():
            started = time.perf_counter()
            work()
            pipe.send(time.perf_counter() - started)
    except EOFError:
        return


@contextmanager
def racing(*racers: tuple[Build, *tuple[object, ...]]) -> Iterator[list[Racer]]:
    """Processes for these (build, arguments...), each with memory and threads of its own."""
    started = [Racer(build, *arguments) for build, *arguments in racers]
    try:
        yield started
    finally:
        for racer in started:
            racer.stop()


def interleaved(racers: list[Racer], rounds: int) -> list[list[float]]:
    """Seconds of each racer in each round, all racers taking turns."""
    laps = [[racer.lap() for racer in racers] for _ in range(rounds)]
    return [list(column) for column in zip(*laps, strict=True)]
