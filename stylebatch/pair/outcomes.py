"""How a pair ends: what becomes of a picture that is no good, and of errors."""

from stylebatch.errors import (
    CredentialsError,
    StorageFullError,
    StorageUnavailableError,
    StylebatchError,
    SynthesisError,
)
from stylebatch.synthesis.optimizers import StopReason
from stylebatch.synthesis.problems import Solution
from stylebatch.work import Outcome, Task, failed_row


def check_solution(solution: Solution) -> None:
    """Raise SynthesisError for a picture that the optimiser could not work on."""
    if solution.stop_reason is StopReason.NOT_FINITE:
        raise SynthesisError(
            f"the loss was not finite after {solution.evaluations} evaluations, again after a restart from "
            "the last good image with a smaller step; use smaller weights"
        )
    curve = solution.loss_curve
    if solution.stop_reason is StopReason.NO_DESCENT and not curve[-1] < curve[0]:
        raise SynthesisError(
            f"no step lowers the loss ({curve[0]:.4g}) of the start image; use another start or other weights"
        )


def failure(task: Task, error: StylebatchError, is_output: bool = False) -> Outcome:
    """The outcome of an error.

    Around a pair's own images and weights, little concerns the other pairs, and a storage that is away may be
    tried again. Output that is away concerns them all: each would be computed only to be lost.
    """
    row = failed_row(task.pair, type(error).__name__, str(error), task.attempt)
    return Outcome(task, row, can_retry=error.can_retry, stops_job=_stops_job(error, is_output))


def _stops_job(error: StylebatchError, is_output: bool) -> bool:
    if is_output:
        return error.stops_job or isinstance(error, StorageUnavailableError)
    return isinstance(error, CredentialsError | StorageFullError)


def is_final(outcome: Outcome) -> bool:
    """Whether nobody will work on this pair again."""
    return not (outcome.can_retry or outcome.stops_job)
