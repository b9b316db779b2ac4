"""The command ``watch-spot``: beside Ray on every machine that may be taken away."""

import argparse
from typing import Any

from stylebatch.cli.arguments import seconds
from stylebatch.cli.exits import ALL_OK


def add_watch_spot(commands: Any) -> None:
    """Add the command ``watch-spot`` to the others."""
    parser = commands.add_parser(
        "watch-spot",
        help="tell Ray in time that this machine goes",
        description=watch_spot.__doc__,
    )
    parser.add_argument(
        "--address",
        default="auto",
        metavar="RAY",
        help="the cluster (auto, host:port); default: this machine's",
    )
    parser.add_argument(
        "--metadata", metavar="URL", help="of the metadata service (EC2's); none watches for SIGTERM alone"
    )
    parser.add_argument("--node-id", metavar="ID", help="Ray's id of this machine; default: by its address")
    parser.add_argument(
        "--grace", type=seconds, metavar="S", help="seconds that this machine has after SIGTERM (25)"
    )
    parser.set_defaults(command=watch_spot)


def watch_spot(options: argparse.Namespace) -> int:
    """Wait for a spot notice of EC2, or SIGTERM; then tell Ray that this machine leaves the cluster."""
    from stylebatch.cluster.spot_watcher import DEFAULT_GRACE, METADATA, InstanceMetadata, watch

    endpoint = options.metadata or METADATA
    watch(
        options.address,
        options.node_id,
        None if endpoint == "none" else InstanceMetadata(endpoint),
        DEFAULT_GRACE if options.grace is None else options.grace,
        _say,
    )
    return ALL_OK


def _say(line: str) -> None:
    print(line, flush=True)
