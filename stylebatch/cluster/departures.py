"""What to do with the workers of a machine that is about to leave the cluster. Pure policy: no Ray, no clock.

A machine whose end has been announced (a spot notice, a pod that is ended, ``ray drain-node``) gets no new
work. What its workers have goes on as long as there is time, because it may well end before the machine does:
two minutes is the time of many pairs. A checkpoint is stored at once, and another one shortly before the end.
"""

from enum import StrEnum

LAST_CHECKPOINT = 15.0
"""Seconds before its end in which a machine's workers store where they stand a last time."""
LETTING_GO = 4.0
"""Seconds before its end in which its workers are let go, so that others can have their pairs."""
TIME_UNTOLD = 120.0
"""Seconds that a machine is taken to have from when its leaving is seen, if nobody says how many."""


class Step(StrEnum):
    """What is to be done with a worker now."""

    WORK_ON = "nothing: it works on"
    CHECKPOINT = "ask it to store where it stands"
    LET_GO = "take its pairs back, and end it"


def next_step(seconds_left: float, checkpoints: int, is_idle: bool) -> Step:
    """What to do now with a worker of a machine that leaves.

    Args:
        seconds_left: Until the machine is gone.
        checkpoints: That the worker was asked for since its machine's leaving is known.
        is_idle: Whether the worker has nothing.
    """
    if is_idle or (seconds_left <= LETTING_GO and checkpoints):
        return Step.LET_GO
    due = 2 if seconds_left <= LAST_CHECKPOINT else 1
    return Step.CHECKPOINT if checkpoints < due else Step.WORK_ON
