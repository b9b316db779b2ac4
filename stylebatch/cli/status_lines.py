"""How the status of a run reads."""

from collections.abc import Iterator

from stylebatch.display import count, duration, rate
from stylebatch.job.bulletin import WorkerNote
from stylebatch.job.status import State, Status

ADVICE = "The command that ran it goes on where it stopped."


def status_lines(status: Status) -> Iterator[str]:
    """A status for people: a line on the state, one on the progress, then what else there is to know."""
    yield f"{status.output}: {_state(status)}"
    yield _progress(status)
    if status.reason:
        yield f"Reason: {status.reason}"
    yield from _failures(status)
    yield from _workers(status)
    for notice in status.notices:
        yield f"Told: {notice}"
    for remark in status.remarks:
        yield f"Note: {remark}."
    if status.state in (State.STOPPED, State.DEAD):
        yield ADVICE


def _state(status: Status) -> str:
    parts = [str(status.state)]
    if status.driver and status.state != State.FINISHED:
        who = "by" if status.state == State.RUNNING else "last by"
        parts.append(
            f"{who} process {status.driver.process} on {status.driver.host} since {status.driver.since}"
        )
    if status.heartbeat_seconds is not None and status.state != State.FINISHED:
        parts.append(f"heard of {duration(status.heartbeat_seconds)} ago")
    return ", ".join(parts)


def _progress(status: Status) -> str:
    if status.rows is None:
        return "The output is being prepared."
    exact = "" if status.ok is not None else "at least "
    parts = [f"{exact}{status.ended} of {count(status.rows, status.counted)} ended"]
    if status.ok is not None:
        parts.append(f"{status.ok} ok, {status.failed} failed")
    if status.pairs_per_hour is not None:
        parts.append(rate(status.pairs_per_hour, status.counted))
    if status.seconds_left is not None:
        parts.append(f"{duration(status.seconds_left)} left")
    if status.told_seconds is not None and status.state == State.RUNNING:
        parts.append(f"told {duration(status.told_seconds)} ago")
    return ", ".join(parts)


def _failures(status: Status) -> Iterator[str]:
    for kind in status.failures:
        yield f"  {kind.count} x {kind.error_type}:"
        yield from (f"    {example}" for example in kind.examples)
        if kind.count > len(kind.examples):
            yield f"    ... and {kind.count - len(kind.examples)} more"
    others = (status.failed or 0) - sum(kind.count for kind in status.failures)
    if others > 0:
        yield f"  {others} more failed: {_where_errors_are(status)}"


def _where_errors_are(status: Status) -> str:
    if status.counted == "pair":
        return f"{status.output}/results says why (error_type, error)"
    return f"{status.output} says why (error)"


def _workers(status: Status) -> Iterator[str]:
    if status.state != State.RUNNING or not status.workers:
        return
    stages = ", ".join(f"{number} {stage}" for stage, number in status.stages.items())
    yield f"{count(status.workers, 'worker')}: {stages}"
    yield from (f"  {_worker(worker)}" for worker in status.listed)
    if status.workers > len(status.listed):
        yield f"  ... and {status.workers - len(status.listed)} more"


def _worker(worker: WorkerNote) -> str:
    place = f"{worker.host} {worker.device}".strip() or "no place yet"
    if not worker.pair_ids:
        return f"{place}: {worker.stage}"
    more = f" and {worker.pairs - 1} more" if worker.pairs > 1 else ""
    return f"{place}: {worker.stage} {worker.pair_ids[0]}{more} ({worker.evaluations}/{worker.iterations})"
