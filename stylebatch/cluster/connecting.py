"""Ray itself: started on this machine or joined, asked for its machines, and told which of them leaves."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError

from stylebatch.cluster.plans import Resources
from stylebatch.errors import ClusterError, JobStoppedError, StylebatchError

OBJECT_STORE_BYTES = 100 * 2**20
"""For an embedded Ray: nothing large travels through it."""


@contextmanager
def connected(address: str | None) -> Iterator[Resources]:
    """Start an embedded Ray, or join the cluster at an address, until the block ends.

    Args:
        address: None starts one on this machine; else what ``ray.init`` takes (``auto``, ``host:port``).

    Raises:
        ClusterError: There is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    try:
        if address is None:
            # Ray would start workers of its own choice, which ours, with an environment of theirs, never use.
            os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
            ray.init("local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)
        else:
            ray.init(address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        where = (
            f"no Ray cluster at {address} answers (for one that asks for a token, set RAY_AUTH_MODE=token, "
            "with the token in ~/.ray/auth_token)"
            if address
            else "Ray does not start here"
        )
        raise ClusterError(f"{where}: {str(error).splitlines()[0]}") from error
    try:
        machines = [node["Resources"] for node in live_nodes()]
        cores = tuple(int(machine.get("CPU", 0)) for machine in machines)
        yield Resources(cores, sum(int(machine.get("GPU", 0)) for machine in machines))
    finally:
        ray.shutdown()


@contextmanager
def stopping_part_way(has_begun: Callable[[], bool]) -> Iterator[None]:
    """Let what ends a run that has begun say that it has stopped part-way; what ends it before is as it is.

    Args:
        has_begun: Whether work has been handed out.

    Raises:
        JobStoppedError: Ray failed, or the run has met something that it cannot go on from.
    """
    try:
        yield
    except RayError as error:
        raise JobStoppedError(f"Ray failed: {one_line(error)}") from error
    except StylebatchError as error:
        if not has_begun() or isinstance(error, JobStoppedError):
            raise
        raise JobStoppedError(str(error)) from error


def live_nodes() -> list[dict[str, Any]]:
    """The machines of the cluster, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def leaving_machines() -> dict[str, float | None]:
    """The machines that are about to leave, by Ray's id: the seconds that each has left; None if nobody said.

    Ray has no public question for this; its own libraries ask the same way.
    """
    deadlines: dict[str, int] = ray._private.state.state.get_draining_nodes()
    now = time.time()
    return {machine: stamp / 1000 - now if stamp else None for machine, stamp in deadlines.items()}


def one_line(error: object) -> str:
    """The beginning of a message, without line breaks."""
    return " ".join(str(error).split())[:300] or type(error).__name__
