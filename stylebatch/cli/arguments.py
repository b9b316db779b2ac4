"""What a typed argument may be; every refusal says what is allowed."""

import argparse
import math

from stylebatch.cluster.scaling import LEAST_GPUS, MOST_GPUS, WorkerLimits


def whole(text: str) -> int:
    """A whole number of 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def positive(text: str) -> int:
    """A whole number of 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def seconds(text: str) -> float:
    """A finite number of seconds, 0 or more."""
    number = _number(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")
    return number


def workers(text: str) -> int | WorkerLimits | None:
    """``auto``, ``N`` or ``MIN:MAX``."""
    least, colon, most = text.partition(":")
    try:
        if text == "auto":
            return None
        return WorkerLimits(positive(least), positive(most)) if colon else positive(text)
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not auto, a whole number of 1 or more, or MIN:MAX with 1 <= MIN <= MAX"
        ) from error


def gpu_share(text: str) -> float:
    """How much of a GPU a worker has."""
    share = _number(text)
    if not LEAST_GPUS <= share <= MOST_GPUS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from {LEAST_GPUS} to {MOST_GPUS:g}")
    return share


def ratio(text: str) -> float:
    """A finite number above 0."""
    number = _number(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, such as 1e-3")
    return number


def _number(text: str) -> float:
    """Not a number, where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
