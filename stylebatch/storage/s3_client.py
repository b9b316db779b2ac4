"""The boto3 client: how it is set up, and what every request passes on its way."""

import logging
import threading
from collections.abc import MutableMapping
from typing import Any

from stylebatch.errors import ConfigurationError
from stylebatch.storage.retries import Pauses, Retries
from stylebatch.storage.s3_errors import is_about_credentials, is_passing, is_throttling, one_line
from stylebatch.storage.throttle import Gate, Limit

CONNECT_TIMEOUT = 10
"""Seconds to wait for a connection to S3: three SYN packets that get lost."""
READ_TIMEOUT = 30
"""Seconds of silence after which an S3 connection is given up.

botocore's 60 would leave room for one retry in the time that requests are retried for. The longest silence
met from a server that was well was 10 s (SeaweedFS, 16 conditional puts of one object at once).
"""
MAX_CONNECTIONS = 32
"""Requests that one client has under way at most, so threads that use it at once."""
NOTICE_INTERVAL = 60.0
"""Seconds between two lines in the log about requests that are sent again."""
_FAILURES_BEFORE_NOTICE = 4

_SLOT = "stylebatch-slot"
_PAUSES = "stylebatch-pauses"
_Context = MutableMapping[str, Any]

_log = logging.getLogger(__name__)


class S3Connection:
    """One boto3 client for all the threads of a store, made on first use.

    Args:
        retries: When a failed request is sent again.
    """

    def __init__(self, retries: Retries) -> None:
        self.retries = retries
        self._client: Any = None
        self._lock = threading.Lock()

    @property
    def client(self) -> Any:
        """The boto3 client. Raises ConfigurationError."""
        with self._lock:
            if self._client is None:
                self._client = _make_client()
                gate = Gate(Limit(MAX_CONNECTIONS), self.retries.clock)
                _Traffic(self.retries, gate).direct(self._client.meta.events)
            return self._client


class _Traffic:
    """Makes every request of a client pass the gate, and sends it again, through botocore's events.

    botocore itself sends once. Its ``needs-retry`` event comes after each send; whoever answers it with a
    number of seconds has the request signed anew and sent again after them.
    """

    def __init__(self, retries: Retries, gate: Gate) -> None:
        self._retries = retries
        self._gate = gate
        self._noticed = float("-inf")

    def direct(self, events: Any) -> None:
        events.register("before-call.s3", self._before_call)
        events.register("needs-retry.s3", self._needs_retry)
        events.register("after-call.s3", self._after_call)
        events.register("after-call-error.s3", self._after_call)

    def _before_call(self, context: _Context, **_event: Any) -> None:
        self._enter(context)

    def _after_call(self, context: _Context, **_event: Any) -> None:
        self._leave(context)

    def _needs_retry(
        self, response: Any, caught_exception: Any, request_dict: dict[str, Any], **_event: Any
    ) -> float | None:
        """Pause, and ask for the next send with 0 further seconds; None for no more sends."""
        status = response[0].status_code if response else 0
        code = response[1].get("Error", {}).get("Code", "") if response else ""
        self._tell_gate(status, code)
        if not is_passing(status, code, caught_exception):
            return None
        context: _Context = request_dict["context"]
        pauses: Pauses = context.setdefault(_PAUSES, self._retries.pauses_of_one_call())
        seconds = pauses.after_failure()
        if seconds is None:
            return None
        self._notice(pauses, code or status or caught_exception)
        self._wait_outside(context, seconds)
        return 0.0

    def _tell_gate(self, status: int, code: str) -> None:
        if is_throttling(status, code):
            self._gate.throttled()
        elif status:
            self._gate.answered()

    def _wait_outside(self, context: _Context, seconds: float) -> None:
        self._leave(context)
        self._retries.sleep(seconds)
        self._enter(context)

    def _enter(self, context: _Context) -> None:
        self._gate.enter()
        context[_SLOT] = True

    def _leave(self, context: _Context) -> None:
        if context.pop(_SLOT, False):
            self._gate.leave()

    def _notice(self, pauses: Pauses, reason: object) -> None:
        now = self._retries.clock()
        if pauses.failures < _FAILURES_BEFORE_NOTICE or now - self._noticed < NOTICE_INTERVAL:
            return
        self._noticed = now
        _log.warning(
            "S3 does not answer as it should (%s); trying again for up to %.0f s",
            one_line(reason),
            self._retries.seconds,
        )


def _make_client() -> Any:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        max_pool_connections=MAX_CONNECTIONS,
        response_checksum_validation="when_supported",
    )
    try:
        return boto3.session.Session().client("s3", config=config)
    except (ValueError, BotoCoreError) as error:
        if is_about_credentials(error):
            raise
        raise ConfigurationError(
            f"the S3 client cannot be set up: {one_line(error)}; "
            "check AWS_ENDPOINT_URL (https://host:port) and AWS_DEFAULT_REGION"
        ) from error
