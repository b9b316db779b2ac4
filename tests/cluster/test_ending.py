"""Signals that ask a run to end."""

import os
import signal
import threading

import pytest

from stylebatch.cluster.ending import Ending, noting_signals


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_the_first_signal_asks_and_the_second_ends_at_once(number: signal.Signals, reason: str) -> None:
    ending = Ending()
    with noting_signals(ending):
        assert ending.reason == ""
        os.kill(os.getpid(), number)
        assert ending.reason == reason
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_the_two_signals_count_together() -> None:
    ending = Ending()
    with noting_signals(ending):
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert ending.reason == "SIGTERM"


def test_afterwards_signals_do_what_they_did_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with noting_signals(Ending()):
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] != before
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_a_thread_cannot_take_signals_and_runs_without() -> None:
    seen: list[object] = []

    def run() -> None:
        with noting_signals(Ending()):
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before]
