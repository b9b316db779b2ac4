"""Watches for the end of its machine, and tells Ray in time: a spot notice of EC2, or SIGTERM.

EC2 gives notice two minutes before it takes a spot machine away; Kubernetes sends SIGTERM to a pod.
"""

import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

from stylebatch.cluster.draining import drain_node, own_node
from stylebatch.cluster.ending import SIGNAL_NAMES, Ending, noting_signals
from stylebatch.errors import ClusterError, MetadataError

METADATA = "http://169.254.169.254"
"""Where an EC2 machine finds its metadata."""
POLL_SECONDS = 5.0
"""Between two questions for a notice; AWS advises so."""
LOOK_SECONDS = 0.2
"""Between two looks whether a signal has come."""
RETRY_SECONDS = 1.0
"""Between two attempts to tell Ray."""
ANSWER_SECONDS = 2.0
"""In which the metadata service, which is on the machine, must answer."""
TOKEN_SECONDS = 21600
"""That a token of the metadata service is asked for: six hours, its most."""
LONGEST_ANSWER = 64 * 1024
"""Bytes."""
DEFAULT_GRACE = 25.0
"""Seconds from SIGTERM to the end: a little less than the 30 that Kubernetes gives a pod."""

TERMINATED = SIGNAL_NAMES[signal.SIGTERM]


@dataclass(frozen=True)
class SpotNotice:
    """EC2's word that it will take the machine away."""

    action: str
    """``terminate``, ``stop`` or ``hibernate``."""
    at: datetime
    """When, with its time zone."""


def parse_notice(body: bytes) -> SpotNotice:
    """A notice as the metadata service words it: ``{"action": "terminate", "time": "2026-01-31T12:00:00Z"}``.

    Raises:
        MetadataError: It is worded otherwise.
    """
    try:
        told = json.loads(body)
        at = datetime.fromisoformat(told["time"])
        return SpotNotice(str(told["action"]), at if at.tzinfo else at.replace(tzinfo=UTC))
    except (ValueError, TypeError, KeyError) as error:
        raise MetadataError(f"this is no spot notice: {body[:200]!r} ({error})") from error


class InstanceMetadata:
    """The metadata service of an EC2 machine (version 2: every question carries a token).

    Args:
        endpoint: Where it is.
    """

    def __init__(self, endpoint: str = METADATA) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._token = ""
        # No proxy stands between a machine and its own metadata, whatever the environment says.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def check(self) -> None:
        """Ask for a token, to see whether there is such a service.

        Raises:
            MetadataError: It does not answer.
        """
        lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_SECONDS)}
        self._token = self._ask("PUT", "/latest/api/token", lifetime).decode("ascii", "replace")

    def spot_notice(self) -> SpotNotice | None:
        """The notice, if there is one.

        Raises:
            MetadataError: The service does not answer, or not as it should.
        """
        if not self._token:
            self.check()
        try:
            told = self._ask(
                "GET", "/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": self._token}
            )
        except _AnswerError as error:
            if error.status == HTTPStatus.UNAUTHORIZED:
                self._token = ""  # it has expired; the next question brings another
            elif error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return parse_notice(told)

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> bytes:
        request = urllib.request.Request(self._endpoint + path, method=method, headers=headers)
        try:
            with self._opener.open(request, timeout=ANSWER_SECONDS) as answer:
                return bytes(answer.read(LONGEST_ANSWER))
        except urllib.error.HTTPError as error:
            error.close()
            raise _AnswerError(f"{method} {request.full_url}: {error}", error.code) from error
        except (OSError, ValueError) as error:
            raise MetadataError(f"{method} {request.full_url}: {error}") from error


class _AnswerError(MetadataError):
    """The service has answered, with another status than 200."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Departure:
    """That, and when, this machine goes."""

    reason: str
    """For people."""
    at: float
    """Seconds since the epoch."""

    @property
    def seconds_left(self) -> float:
        """From now."""
        return self.at - time.time()


def watch(
    address: str,
    node_id: str | None = None,
    metadata: InstanceMetadata | None = None,
    grace: float = DEFAULT_GRACE,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Wait until the end of this machine is announced, and tell Ray. Ctrl-C ends the watch alone.

    Args:
        address: Of the cluster, see :func:`~stylebatch.cluster.draining.own_node`.
        node_id: Ray's id of this machine; None finds it by its address.
        metadata: Where spot notices appear; None watches for SIGTERM alone.
        grace: Seconds that this machine has after SIGTERM.
        say: Is told what happens.

    Raises:
        ClusterError: No cluster answers, or it does not know this machine, at the start or until the end.
        MetadataError: There is no metadata service.
    """
    ending = Ending()
    with noting_signals(ending):
        found = own_node(address, node_id)
        if metadata:
            metadata.check()
        say(f"watching over machine {found} for {'a spot notice or ' if metadata else ''}SIGTERM")
        departure = _await_departure(metadata, ending, grace, say)
        if departure:
            say(f"{departure.reason}: {departure.seconds_left:.0f} s are left; telling Ray")
            _tell_ray(address, node_id, departure)
            say("Ray gives this machine no new work; runs of stylebatch take what it has elsewhere")


def _await_departure(
    metadata: InstanceMetadata | None, ending: Ending, grace: float, say: Callable[[str], None]
) -> Departure | None:
    complaint = ""
    while not ending.reason:
        try:
            notice = metadata.spot_notice() if metadata else None
            complaint = ""
        except MetadataError as error:
            notice = None
            if str(error) != complaint:
                complaint = str(error)
                say(f"is there a notice? {complaint}; asking again every {POLL_SECONDS:g} s")
        if notice:
            return Departure(f"spot notice to {notice.action}", notice.at.timestamp())
        _pause(ending)
    return Departure(TERMINATED, time.time() + grace) if ending.reason == TERMINATED else None


def _pause(ending: Ending) -> None:
    until = time.monotonic() + POLL_SECONDS
    while not ending.reason and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)


def _tell_ray(address: str, node_id: str | None, departure: Departure) -> None:
    """Until it has heard, or the time is up. Ray may have started anew: it is asked again who we are."""
    while True:
        try:
            found = own_node(address, node_id)
            drain_node(address, found, departure.seconds_left, f"stylebatch: {departure.reason}")
            return
        except ClusterError:
            if departure.seconds_left <= 0:
                raise
        time.sleep(RETRY_SECONDS)
