"""The metadata service of an EC2 machine, as far as spot notices go, on loopback."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN_PATH = "/latest/api/token"
NOTICE_PATH = "/latest/meta-data/spot/instance-action"


class FakeMetadata:
    """Answers as version 2 of the service does. Use :func:`running_metadata`."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.requests: list[tuple[str, str, int]] = []
        """Method, path and the status that was answered."""
        self.notice: bytes | None = None
        self.is_broken = False
        self.tokens = 0
        """That were given; the last one is valid."""

    def announce(self, seconds: float, action: str = "terminate") -> None:
        """The machine goes in so many seconds, which the notice says by the second."""
        at = datetime.now(UTC) + timedelta(seconds=seconds)
        self.notice = json.dumps({"action": action, "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"}).encode()

    def answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and body."""
        if self.is_broken:
            return 500, b""
        if (method, path) == ("PUT", TOKEN_PATH):
            if not 1 <= int(headers.get("x-aws-ec2-metadata-token-ttl-seconds", 0)) <= 21600:
                return 400, b""
            self.tokens += 1
            return 200, f"token-{self.tokens}".encode()
        if headers.get("x-aws-ec2-metadata-token") != f"token-{self.tokens}":
            return 401, b""
        if (method, path) == ("GET", NOTICE_PATH) and self.notice is not None:
            return 200, self.notice
        return 404, b""


@contextmanager
def running_metadata() -> Iterator[FakeMetadata]:
    """A :class:`FakeMetadata` until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer("GET")

        def do_PUT(self) -> None:
            self._answer("PUT")

        def _answer(self, method: str) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, body = metadata.answer(method, self.path, headers)
            metadata.requests.append((method, self.path, status))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    metadata = FakeMetadata(server.server_port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield metadata
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
