"""Telling Ray that a machine is about to leave the cluster: no new work goes there, and drivers see it.

Ray does the same for ``ray drain-node``, which needs a whole client of the cluster to find out where it is.
This asks the cluster's control service alone, so it also works from a container beside Ray's own.
"""

import time
from collections.abc import Mapping

from ray._private.services import canonicalize_bootstrap_address_or_die
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.core.generated import autoscaler_pb2, gcs_pb2
from ray.exceptions import RayError
from ray.util import get_node_ip_address

from stylebatch.errors import ClusterError

ANSWER_SECONDS = 10.0
"""In which the control service must answer."""


def own_node(address: str, node_id: str | None = None) -> str:
    """Ray's id of the machine that this process runs on.

    Args:
        address: Of the cluster: ``host:port``, or ``auto`` for the one that this machine belongs to.
        node_id: To be looked up instead.

    Raises:
        ClusterError: No cluster answers, or it does not say which of its machines this is.
    """
    try:
        known = _client(address).get_all_node_info(timeout=ANSWER_SECONDS)
    except (RayError, RuntimeError) as error:
        raise _no_answer(address, error) from error
    alive = gcs_pb2.GcsNodeInfo.ALIVE  # type: ignore[attr-defined]
    nodes = {key.hex(): node.node_manager_address for key, node in known.items() if node.state == alive}
    # As ``ray start`` finds it, by the way that leads to the head.
    own_address: str = get_node_ip_address(_canonical(address))  # type: ignore[no-untyped-call]
    return choose_node(nodes, own_address, node_id)


def choose_node(nodes: Mapping[str, str], own_address: str, node_id: str | None) -> str:
    """Which of a cluster's machines is meant.

    Args:
        nodes: The address of each machine by Ray's id.
        own_address: Of this machine.
        node_id: What the user says; None is the machine with that address.

    Raises:
        ClusterError: There is no such machine, or there are several.
    """
    if node_id is not None:
        if node_id not in nodes:
            raise ClusterError(
                f"no machine of the cluster has the id {node_id}; its {len(nodes)} machines are "
                + ", ".join(f"{one} ({address})" for one, address in nodes.items())
            )
        return node_id
    here = [one for one, address in nodes.items() if address == own_address]
    if len(here) != 1:
        raise ClusterError(
            f"{len(here)} of the cluster's {len(nodes)} machines have the address {own_address} of this one; "
            "say with --node-id which one it is: "
            + ", ".join(f"{one} ({address})" for one, address in nodes.items())
        )
    return here[0]


def drain_node(address: str, node_id: str, seconds_left: float, message: str) -> None:
    """Tell Ray that a machine leaves.

    Args:
        address: Of the cluster: ``host:port``, or ``auto`` for the one that this machine belongs to.
        node_id: Ray's id of the machine.
        seconds_left: Until it is gone.
        message: Why, for Ray's logs.

    Raises:
        ClusterError: No cluster answers, or it refuses.
    """
    reason = autoscaler_pb2.DRAIN_NODE_REASON_PREEMPTION  # type: ignore[attr-defined]
    deadline = int(1000 * (time.time() + max(0.0, seconds_left)))
    try:
        is_accepted, refusal = _client(address).drain_node(
            node_id, reason, message, deadline, timeout=ANSWER_SECONDS
        )
    except (RayError, RuntimeError) as error:
        raise _no_answer(address, error) from error
    if not is_accepted:
        raise ClusterError(f"Ray does not drain the machine {node_id}: {refusal}")


def _canonical(address: str) -> str:
    try:
        return canonicalize_bootstrap_address_or_die(address)
    except (ConnectionError, ValueError) as error:
        raise _no_answer(address, error) from error


def _client(address: str) -> GcsClient:
    canonical = _canonical(address)
    try:
        return GcsClient(address=canonical)
    except (RuntimeError, RayError) as error:
        raise _no_answer(address, error) from error


def _no_answer(address: str, error: Exception) -> ClusterError:
    first_line = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return ClusterError(
        f"no Ray cluster at {address} answers: {first_line}; give --address HEAD:6379, and for a cluster "
        "that asks for a token RAY_AUTH_MODE=token, with the token in ~/.ray/auth_token"
    )
