"""Ray as ``ray start`` runs it: processes with a home, a token and a mark of their own, gone at the end."""

import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "STYLEBATCH_TEST_RAY"
"""The environment variable that all processes of a test's Ray have."""
SCRIPTS = sysconfig.get_path("scripts")
OBJECT_STORE_BYTES = 80 * 2**20
SECONDS_TO_START = 90


class RayProcesses:
    """Starts nodes of a Ray cluster, and ends every process that came of it.

    Args:
        folder: Of its temporary files. Its path is short, since sockets are in it.
        environment: Added to that of this process.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._mark = uuid.uuid4().hex
        (folder / "home" / ".ray").mkdir(parents=True)
        token = folder / "home" / ".ray" / "auth_token"
        token.write_text(uuid.uuid4().hex * 2)
        token.chmod(0o600)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.environment = kept | {
            "HOME": str(folder / "home"),
            "PATH": f"{SCRIPTS}:{os.environ['PATH']}",
            "RAY_USAGE_STATS_ENABLED": "0",
            MARK: self._mark,
            **environment,
        }
        """Of programs that belong to this cluster's user."""
        self._nodes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, options: Sequence[str], within: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Run ``ray start`` with these options until it is killed.

        Args:
            name: Of its log.
            options: Besides those that every node of a test has.
            within: A command before it, such as ``ip netns exec NAME``.
        """
        command = [
            *within,
            str(Path(SCRIPTS) / "ray"),
            *("start", "--block", "--disable-usage-stats"),
            f"--object-store-memory={OBJECT_STORE_BYTES}",
            # The ports of other clusters on this machine stay theirs.
            *("--min-worker-port=0", "--max-worker-port=0"),
            *options,
        ]
        with (self.folder / f"{name}.log").open("ab") as log:
            node = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment | {"RAY_AUTH_MODE": "token"},  # only a head finds its token by itself
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._nodes.append(node)
        return node

    def log(self, name: str) -> str:
        """What the nodes of this name printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def end(self) -> None:
        """Kill every process with the mark, also those that others start while they die."""
        deadline = time.monotonic() + 20
        while found := list(marked_processes(self._mark)):
            for process in found:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes of a test's Ray do not die: {found}")
            time.sleep(0.1)
        for node in self._nodes:
            node.wait()


def marked_processes(mark: str) -> Iterator[int]:
    """The ids of running processes whose environment has this mark, but for this process."""
    wanted = f"{MARK}={mark}".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        process = int(environment.parent.name)
        with suppress(OSError):
            if process != os.getpid() and wanted in environment.read_bytes().split(b"\0"):
                yield process


@dataclass(frozen=True)
class Head:
    """A cluster of one machine."""

    address: str
    """Of its dashboard."""
    processes: RayProcesses

    def command(self, *arguments: str, home: Path | None = None) -> subprocess.Popen[str]:
        """Start ``stylebatch`` with the cluster's token, or with another home."""
        environment = {
            name: value for name, value in self.processes.environment.items() if not name.startswith("AWS_")
        }
        return subprocess.Popen(
            [sys.executable, "-m", "stylebatch", *arguments],
            env=environment | {"HOME": str(home)} if home else environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@contextmanager
def running_head(environment: Mapping[str, str]) -> Iterator[Head]:
    """A Ray head with its dashboard on loopback and one core, until the block ends.

    Args:
        environment: What its processes have besides this one's environment.
    """
    with tempfile.TemporaryDirectory(prefix="sb-ray-", ignore_cleanup_errors=True) as name:
        processes = RayProcesses(Path(name), environment)
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        try:
            node = processes.start(
                "head",
                [
                    "--head",
                    "--num-cpus=1",
                    "--node-ip-address=127.0.0.1",
                    "--dashboard-host=127.0.0.1",
                    f"--temp-dir={name}/t",
                    *(f"--{option}={port}" for option, port in ports.items()),
                ],
            )
            address = f"http://127.0.0.1:{ports['dashboard-port']}"
            _wait_for_dashboard(address, node, processes)
            yield Head(address, processes)
        finally:
            processes.end()


PORTS = ("port", "dashboard-port", "dashboard-agent-listen-port", "ray-client-server-port")
"""Options of ``ray start`` for ports that are fixed otherwise, and so another cluster's."""


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _wait_for_dashboard(address: str, node: subprocess.Popen[bytes], processes: RayProcesses) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while not _answers(address):
        if node.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"Ray did not start in {SECONDS_TO_START} s:\n{processes.log('head')[-3000:]}")
        time.sleep(0.5)


def _answers(address: str) -> bool:
    """Whether there is a dashboard that could take a job; it asks for the token."""
    try:
        urllib.request.urlopen(f"{address}/api/jobs/", timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code == 401
    except OSError:
        return False
    return True
