"""What becomes of the workers of a machine that leaves, as its end comes nearer."""

import pytest

from stylebatch.cluster.departures import LAST_CHECKPOINT, LETTING_GO, Step, next_step


def steps(seconds: float, tick: float = 0.5) -> list[tuple[float, Step]]:
    """What is done with a busy worker, and when, from a notice so many seconds before the end."""
    done, checkpoints, left = [], 0, seconds
    while not done or done[-1][1] is not Step.LET_GO:
        step = next_step(left, checkpoints, is_idle=False)
        checkpoints += step is Step.CHECKPOINT
        if step is not Step.WORK_ON:
            done.append((left, step))
        left -= tick
    return done


def test_two_minutes_are_used() -> None:
    assert steps(120) == [
        (120, Step.CHECKPOINT),
        (LAST_CHECKPOINT, Step.CHECKPOINT),
        (LETTING_GO, Step.LET_GO),
    ]


@pytest.mark.parametrize("seconds", [10, 5])
def test_a_short_notice(seconds: float) -> None:
    done = [step for _, step in steps(seconds)]
    assert done == [Step.CHECKPOINT, Step.CHECKPOINT, Step.LET_GO]
    assert steps(seconds)[-1][0] == LETTING_GO


@pytest.mark.parametrize("seconds", [LETTING_GO, 1, 0, -100])
def test_a_notice_that_comes_too_late_still_gives_time_for_one_checkpoint(seconds: float) -> None:
    assert steps(seconds) == [(seconds, Step.CHECKPOINT), (seconds - 0.5, Step.LET_GO)]


@pytest.mark.parametrize("seconds", [1e6, 60, 0])
@pytest.mark.parametrize("checkpoints", [0, 1, 2])
def test_who_has_nothing_goes_at_once(seconds: float, checkpoints: int) -> None:
    assert next_step(seconds, checkpoints, is_idle=True) is Step.LET_GO
