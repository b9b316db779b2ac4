"""One thread computes, whoever asks; it can be replaced."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from stylebatch.pair.computing import ComputeThread, transfer_threads


def test_work_is_done_in_one_thread() -> None:
    with ThreadPoolExecutor(1) as executor:
        compute = ComputeThread(executor)
        threads = {compute.run(threading.get_ident) for _ in range(5)}
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_what_it_raises_is_raised() -> None:
    with ThreadPoolExecutor(1) as executor, pytest.raises(ZeroDivisionError):
        ComputeThread(executor).run(lambda: 1 // 0)


def test_a_renewed_thread_is_another_with_the_same_settings() -> None:
    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(3,)) as executor:
        compute = ComputeThread(executor)

        def renewing() -> tuple[int, int]:
            compute.renew()
            return threading.get_ident(), torch.get_num_threads()

        first, threads = compute.run(renewing)
        assert (compute.run(threading.get_ident) != first, threads) == (True, 3)
        assert compute.run(torch.get_num_threads) == 3


def test_threads_that_transfer_work_alone_and_leave_the_compute_thread_its_helpers() -> None:
    """torch keeps the number that any thread was given last, and gives it to threads that are new to it."""

    def helped() -> int:
        torch.ones(100_000).add_(1)
        return torch.get_num_threads()

    with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(2,)) as executor:
        compute = ComputeThread(executor)
        with transfer_threads(2) as transfer:
            assert transfer.submit(helped).result() == 1
            assert compute.run(helped) == 2
            compute.run(compute.renew)
            assert transfer.submit(helped).result() == 1
            assert compute.run(helped) == 2


def test_two_threads_never_compute_at_once() -> None:
    """Work that waited for the old thread takes turns with what the new one is given."""
    active: list[int] = []
    most: list[int] = []

    def work() -> None:
        active.append(1)
        most.append(len(active))
        time.sleep(0.01)
        active.pop()

    with ThreadPoolExecutor(1) as executor, ThreadPoolExecutor(4) as callers:
        compute = ComputeThread(executor)
        waiting = [callers.submit(compute.run, work) for _ in range(4)]
        compute.renew()
        waiting += [callers.submit(compute.run, work) for _ in range(8)]
        for future in waiting:
            future.result()
    assert set(most) == {1}


def test_without_a_new_thread_the_old_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(1) as executor:
        compute = ComputeThread(executor)
        thread = compute.run(threading.get_ident)

        def fail(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", fail)
            compute.renew()
        assert compute.run(threading.get_ident) == thread
