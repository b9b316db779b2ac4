"""A small S3 server on the loopback interface that fails as it is told, and a time that passes at once."""

import hashlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from stylebatch.storage import Retries

Fault = int | str
"""An HTTP status with an error's code (``"503 SlowDown"``) or without (503), or one of ``FAULTS``."""
FAULTS = ("reset", "silence", "half", "half and silence", "lost")
"""The connection is reset; nothing is ever answered; half of the answer's body is sent and the connection
closed, or not; all is done, but the connection closed without an answer."""


class S3Stub:
    """What the stub holds, does and has seen; requests of several threads are answered at once."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        """How the next requests fail, one each; then none does."""
        self.requests: list[str] = []
        """Every request, as ``GET /bucket/key``."""
        self.objects: dict[str, bytes] = {}
        """By path: ``/bucket/key``."""
        self.conditions = "kept"
        """What becomes of If-Match and If-None-Match: ``kept``, ``ignored`` or a status that refuses them."""
        self.fault_for: Callable[[str], Fault | None] = lambda request: None
        """Called in each request's own thread; how it fails, if not as ``faults`` say."""
        self.closed = threading.Event()
        self.lock = threading.Lock()

    def fault_of(self, request: str) -> Fault | None:
        with self.lock:
            self.requests.append(request)
            fault = self.faults.pop(0) if self.faults else None
        return fault or self.fault_for(request)

    def refusal(self, path: str, headers: Any) -> Fault | None:
        """How a put is refused for its conditions."""
        conditions = {name: headers[name] for name in ("If-Match", "If-None-Match") if headers[name]}
        if not conditions or self.conditions == "ignored":
            return None
        if self.conditions != "kept":
            return self.conditions
        present = self.objects.get(path)
        holds = (
            present is None
            if "If-None-Match" in conditions
            else present is not None and etag(present) == conditions["If-Match"]
        )
        return None if holds else "412 PreconditionFailed"


def etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    stub: S3Stub

    def do_GET(self) -> None:
        self._serve(self._get)

    do_HEAD = do_GET  # noqa: N815 - the base class calls it so

    def do_PUT(self) -> None:
        self._serve(self._put)

    def do_DELETE(self) -> None:
        self._serve(self._delete)

    def _serve(self, carry_out: Callable[[], tuple[int, bytes, bytes | None]]) -> None:
        path = self.path.partition("?")[0]
        self.sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.key = path
        fault = self.stub.fault_of(f"{self.command} {path}")
        if fault == "silence":
            self.stub.closed.wait()
        elif fault == "reset":
            self._reset()
        elif fault in (None, "half", "half and silence", "lost"):
            answer = carry_out()
            if fault == "lost":
                self._hang_up()
            else:
                self._answer(*answer, fault)
        else:
            self._answer(*self._error(str(fault)))

    def _get(self) -> tuple[int, bytes, bytes | None]:
        data = self.stub.objects.get(self.key)
        if data is None:
            return self._error("404 NoSuchKey")
        span = self.headers.get("Range")
        if span is None:
            return 200, data, data
        first, last = span.removeprefix("bytes=").split("-")
        return 206, data[int(first) : int(last) + 1], data

    def _put(self) -> tuple[int, bytes, bytes | None]:
        with self.stub.lock:
            refusal = self.stub.refusal(self.key, self.headers)
            if refusal:
                return self._error(str(refusal))
            self.stub.objects[self.key] = self.sent
        return 200, b"", self.sent

    def _delete(self) -> tuple[int, bytes, bytes | None]:
        self.stub.objects.pop(self.key, None)
        return 204, b"", None

    def _error(self, fault: str) -> tuple[int, bytes, None]:
        status, _, code = fault.partition(" ")
        body = f"<Error><Code>{code}</Code><Message>As it was told.</Message></Error>" if code else ""
        return int(status), body.encode(), None

    def _answer(self, status: int, body: bytes, stored: bytes | None, fault: Fault | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if stored is not None:
            self.send_header("ETag", etag(stored))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if fault else body)
        if fault == "half and silence":
            self.stub.closed.wait()
        elif fault:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, *_arguments: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_arguments: Any) -> None:
        """A client that leaves is meant to."""


@contextmanager
def running_stub(port: int = 0) -> Iterator[tuple[S3Stub, str]]:
    """A stub and its endpoint."""
    stub = S3Stub()
    server = _Server(("127.0.0.1", port), type("Handler", (_Handler,), {"stub": stub}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield stub, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        stub.closed.set()
        server.shutdown()
        server.server_close()
        thread.join()


class Time:
    """A time that only pauses make pass, for one thread."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def retries(self) -> Retries:
        """The usual retries, taking no time."""
        return Retries(clock=self.clock, sleep=self.sleep)
