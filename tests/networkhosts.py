"""Hosts on one machine: network namespaces that a switch connects, each with an address of its own."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

REQUIRED = "STYLEBATCH_REQUIRE_NETWORK_TEST"
"""Where this variable is 1, a machine that cannot have hosts is an error."""
NAMESPACE = re.compile(r"stylebatch-(\d+)-\w+")
"""Names carry the process that made them, so that the next test can remove what a killed one left."""
NAMESPACES = Path("/run/netns")
SWITCH = "switch"


class NoHostsError(Exception):
    """Hosts cannot be made here; the message says why."""


class Hosts:
    """A switch and the hosts at it. Use :func:`running_hosts`.

    Args:
        names: Of the hosts, at most 10 letters each.
        maker: The id of the process that makes them.
    """

    def __init__(self, names: Sequence[str], maker: int) -> None:
        self._maker = maker
        self.addresses = {name: f"10.213.0.{number}" for number, name in enumerate(names, 1)}
        """By name."""

    def make(self) -> None:
        """Make the switch and the hosts, and connect them.

        Raises:
            NoHostsError: It is not allowed here.
        """
        self._add(SWITCH)
        self._ip(SWITCH, "link add bridge type bridge")
        self._ip(SWITCH, "link set bridge up")
        for name, address in self.addresses.items():
            self._add(name)
            peer = f"peer name {name} netns {self._namespace(SWITCH)}"
            _run(f"link add eth0 netns {self._namespace(name)} type veth {peer}")
            self._ip(SWITCH, f"link set {name} master bridge up")
            self._ip(name, f"address add {address}/24 dev eth0")
            self._ip(name, "link set eth0 up")

    def within(self, name: str) -> list[str]:
        """What stands before a command that runs on a host."""
        return [_program(), "netns", "exec", self._namespace(name)]

    def cut_off(self, name: str) -> None:
        """Take a host's cable out of the switch."""
        self._ip(SWITCH, f"link set {name} down")

    def connect(self, name: str) -> None:
        """Put it in again."""
        self._ip(SWITCH, f"link set {name} up")

    def processes(self, name: str, title: bytes) -> set[int]:
        """The ids of a host's processes whose command line begins so."""
        processes = map(int, _run(f"netns pids {self._namespace(name)}").split())
        return {process for process in processes if _command_line(process).startswith(title)}

    def _add(self, name: str) -> None:
        _run(f"netns add {self._namespace(name)}")
        self._ip(name, "link set lo up")

    def _namespace(self, name: str) -> str:
        return f"stylebatch-{self._maker}-{name}"

    def _ip(self, name: str, command: str) -> None:
        _run(f"-n {self._namespace(name)} {command}")


@contextmanager
def running_hosts(names: Sequence[str]) -> Iterator[Hosts]:
    """Hosts until the block ends; then all their processes are killed, and nothing is left of them.

    Raises:
        NoHostsError: They cannot be made here.
    """
    remove_abandoned()
    try:
        hosts = Hosts(names, os.getpid())
        hosts.make()
        yield hosts
    finally:
        for namespace in namespaces_of(os.getpid()):
            _remove(namespace)


def remove_abandoned() -> None:
    """Remove what tests left that were killed themselves."""
    for namespace in _existing():
        maker = NAMESPACE.fullmatch(namespace)
        if maker and not Path(f"/proc/{maker[1]}").exists():
            _remove(namespace)


def namespaces_of(process: int) -> list[str]:
    """The namespaces that a process has made and not removed."""
    return [name for name in _existing() if (match := NAMESPACE.fullmatch(name)) and int(match[1]) == process]


def _existing() -> list[str]:
    return sorted(path.name for path in NAMESPACES.iterdir()) if NAMESPACES.exists() else []


def _command_line(process: int) -> bytes:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def _remove(namespace: str) -> None:
    """Kill what runs in a namespace, and delete it with its devices."""
    if namespace not in _existing():
        return
    deadline = time.monotonic() + 20
    while processes := _run(f"netns pids {namespace}").split():
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        if time.monotonic() > deadline:
            raise RuntimeError(f"processes in {namespace} do not die: {processes}")
        time.sleep(0.1)
    _run(f"netns delete {namespace}")


def _run(command: str) -> str:
    """What ``ip`` says to a command."""
    done = subprocess.run([_program(), *command.split()], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoHostsError(f"ip {command}: {done.stderr.strip()} (root is needed, and network namespaces)")
    return done.stdout


def _program() -> str:
    found = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise NoHostsError("there is no program ip; install iproute2")
    return found
