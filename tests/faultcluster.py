"""A Ray cluster of several nodes on this machine, whose workers and nodes can be killed."""

import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import stylebatch.cluster  # noqa: F401 - before Ray: lets its clients show the token that clusters ask for

WORKER_TITLE = b"ray::Worker"
OBJECT_STORE_BYTES = 80 * 2**20
NODES = 2


class KillableCluster:
    """A head without processor cores and :data:`NODES` nodes with one each. Use :func:`running_cluster`."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self._nodes = [self._add_node() for _ in range(NODES)]

    @property
    def address(self) -> str:
        """What ``--address`` takes."""
        return str(self._cluster.address)

    def kill_worker(self, choice: random.Random) -> bool:
        """Kill one of the worker processes; False if there is none."""
        workers = sorted(self.workers())
        if not workers:
            return False
        with suppress(ProcessLookupError):
            os.kill(choice.choice(workers), signal.SIGKILL)
        return True

    def kill_node(self, choice: random.Random) -> None:
        """Kill all processes of one of the nodes at once, and add a new node."""
        node = self._nodes.pop(choice.randrange(NODES))
        self._cluster.remove_node(node, allow_graceful=False)
        self._nodes.append(self._add_node())

    def workers(self) -> Iterator[int]:
        """The process ids of the workers (actors of stylebatch) on the nodes."""
        for node in self._nodes:
            yield from child_workers(node)

    def shutdown(self) -> None:
        """Kill everything."""
        self._cluster.shutdown()

    def _add_node(self) -> Any:
        return self._cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)


@contextmanager
def running_cluster() -> Iterator[KillableCluster]:
    """A :class:`KillableCluster` until the block ends; its processes inherit today's environment."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    cluster = KillableCluster()
    try:
        yield cluster
    finally:
        cluster.shutdown()


def _children(parent: int) -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state_and_parent = stat.read_text().rpartition(")")[2].split()
            if int(state_and_parent[1]) == parent:
                yield int(stat.parent.name)


def _is_worker(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().startswith(WORKER_TITLE)
    except OSError:
        return False


def child_workers(node: Any) -> list[int]:
    """The process ids of the workers (actors of stylebatch) on a node of ``ray.cluster_utils.Cluster``."""
    raylets = [raylet.process.pid for raylet in node.all_processes.get("raylet", [])]
    return [child for raylet in raylets for child in _children(raylet) if _is_worker(child)]
