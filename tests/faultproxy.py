"""A proxy that stands before a real S3 server and injects faults into a share of the requests.

Requests and answers pass byte for byte (requests are signed), each read whole before it is passed on.
"""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from faulttraffic import Fault, Traffic

STALL_SECONDS = 1.0
"""Short, for time-outs would make the tests slow; a real one ends in the same retry."""
SECONDS_TO_START = 10
FAULTS_ANYWHERE = (Fault.SLOW_DOWN, Fault.RESET, Fault.STALL)
FAULTS_BY_METHOD: Mapping[str, tuple[Fault, ...]] = {
    "GET": (*FAULTS_ANYWHERE, Fault.CUT),
    "PUT": (*FAULTS_ANYWHERE, Fault.LOST),
    "POST": (*FAULTS_ANYWHERE, Fault.LOST),
    "DELETE": (*FAULTS_ANYWHERE, Fault.LOST),
}
SLOW_DOWN_BODY = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True)
class Message:
    """A request or an answer, as it is sent."""

    head: bytes
    """The first line and the headers, with the empty line after them."""
    body: bytes = b""
    """Chunks are as they were sent, with their lengths."""

    @property
    def first_line(self) -> list[str]:
        """Method, target and version; or version, status and reason."""
        return self.head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)

    @property
    def headers(self) -> dict[str, str]:
        """By name in small letters."""
        lines = self.head.decode("latin-1").split("\r\n")[1:-2]
        pairs = (line.partition(":") for line in lines)
        return {name.strip().lower(): value.strip() for name, _, value in pairs}


class _BreakOff(Exception):  # noqa: N818 - not an error: what a fault does next
    """The client's connection is to be reset."""


class FaultProxy:
    """Passes HTTP on to one server. Use :func:`running_proxy`.

    Args:
        upstream: The server, as ``http://host:port``.
        share: The share of requests that meet a fault, 0 to 1; may be changed at any time.
        seed: Of the random choices.
    """

    def __init__(self, upstream: str, share: float, seed: int) -> None:
        self.share = share
        self.traffic = Traffic()
        self.endpoint = ""
        address = urlsplit(upstream)
        self._upstream = address.hostname, address.port
        self._random = random.Random(seed)
        self._connections: set[asyncio.Task[None] | None] = set()

    async def serve(self, ready: "Future[_Serving]") -> None:
        """Accept connections until the :class:`_Serving` that is handed out is told to stop."""
        try:
            server = await asyncio.start_server(self._serve_client, "127.0.0.1", 0)
        except OSError as error:
            ready.set_exception(error)
            return
        self.endpoint = "http://127.0.0.1:{1}".format(*server.sockets[0].getsockname())
        serving = _Serving(asyncio.get_running_loop(), asyncio.Event())
        ready.set_result(serving)
        await serving.stopping.wait()
        server.close()
        open_connections = [task for task in self._connections if task is not None]
        for task in open_connections:
            task.cancel()
        await asyncio.gather(*open_connections, return_exceptions=True)

    async def _serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client, kept open for many requests, as ours to the server is."""
        self._connections.add(asyncio.current_task())
        upstream = _Upstream(*self._upstream)
        try:
            while (request := await _read_request(reader, writer)) is not None:
                await self._pass_on(request, upstream, writer)
        except (_BreakOff, OSError, asyncio.IncompleteReadError):
            _reset(writer)
        finally:
            self._connections.discard(asyncio.current_task())
            await upstream.close()
            await _close(writer)

    async def _pass_on(self, request: Message, upstream: "_Upstream", client: asyncio.StreamWriter) -> None:
        method, target, _ = request.first_line
        fault = self.choose_fault(method)
        self.traffic.note_request(method, target, fault)
        if fault is Fault.SLOW_DOWN:
            await _send(client, _slow_down(method))
            return
        if fault is Fault.STALL:
            await asyncio.sleep(STALL_SECONDS)
        if fault in (Fault.RESET, Fault.STALL):
            raise _BreakOff
        answer = await upstream.exchange(request)
        if answer.first_line[1].startswith("2"):
            self.traffic.note_done(method, target, request.body, is_whole=_is_whole(answer))
        await self._answer(client, answer, fault)

    async def _answer(self, client: asyncio.StreamWriter, answer: Message, fault: Fault | None) -> None:
        if fault is Fault.CUT:
            await _send(client, Message(answer.head, answer.body[: len(answer.body) // 2]))
        if fault in (Fault.CUT, Fault.LOST):
            raise _BreakOff
        await _send(client, answer)

    def choose_fault(self, method: str) -> Fault | None:
        """What shall happen to the next request of this method."""
        if self._random.random() >= self.share:
            return None
        return self._random.choice(FAULTS_BY_METHOD.get(method, FAULTS_ANYWHERE))


@dataclass(frozen=True)
class _Serving:
    """How another thread stops the proxy."""

    loop: asyncio.AbstractEventLoop
    stopping: asyncio.Event

    def stop(self) -> None:
        """Let :meth:`FaultProxy.serve` return."""
        self.loop.call_soon_threadsafe(self.stopping.set)


class _Upstream:
    """The proxy's connection to the server for one client's connection."""

    def __init__(self, host: str | None, port: int | None) -> None:
        self._address = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def exchange(self, request: Message) -> Message:
        """Send a request and read its answer."""
        if self._streams is None or self._streams[0].at_eof():
            await self.close()
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        await _send(writer, request)
        return await _read_answer(reader, request.first_line[0])

    async def close(self) -> None:
        """End the connection, if there is one."""
        if self._streams is not None:
            await _close(self._streams[1])


async def _read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Message | None:
    """The next request, without ``Expect``, which is answered here; None when the client has gone."""
    try:
        head = Message(await reader.readuntil(END_OF_HEAD))
    except asyncio.IncompleteReadError:
        return None
    if head.headers.get("expect", "").lower() == "100-continue":
        writer.write(CONTINUE)
        await writer.drain()
    lines = head.head.split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith(b"expect:")]
    return Message(b"\r\n".join(kept), await _read_body(reader, head.headers))


async def _read_answer(reader: asyncio.StreamReader, method: str) -> Message:
    head = Message(await reader.readuntil(END_OF_HEAD))
    if method == "HEAD" or head.first_line[1] in ("204", "304"):
        return head
    return Message(head.head, await _read_body(reader, head.headers))


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return b"".join([chunk async for chunk in _chunks(reader)])
    return await reader.readexactly(int(headers.get("content-length", 0)))


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The pieces of a chunked body with their lengths, the trailers, and the empty line that ends them."""
    size = None
    while size != 0:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        yield line
        if size:
            yield await reader.readexactly(size + 2)
    while line != b"\r\n":
        line = await reader.readuntil(b"\r\n")
        yield line


def _is_whole(answer: Message) -> bool:
    """Whether an answer holds all bytes of the object, even if the request asked for a range of them."""
    content_range = answer.headers.get("content-range", "bytes 0-0/1")
    span, _, total = content_range.removeprefix("bytes ").partition("/")
    first, _, last = span.partition("-")
    return int(first) == 0 and int(last) + 1 == int(total)


def _slow_down(method: str) -> Message:
    head = (
        "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\n"
        f"Content-Length: {len(SLOW_DOWN_BODY)}\r\n\r\n"
    )
    return Message(head.encode(), b"" if method == "HEAD" else SLOW_DOWN_BODY)


async def _send(writer: asyncio.StreamWriter, message: Message) -> None:
    writer.write(message.head + message.body)
    await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, not FIN: the other side meets ``ECONNRESET``, not the end of a stream."""
    own_socket = writer.get_extra_info("socket")
    with suppress(OSError):
        own_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


@contextmanager
def running_proxy(upstream: str, share: float, seed: int) -> Iterator[FaultProxy]:
    """A :class:`FaultProxy` in a thread of its own, until the block ends."""
    proxy = FaultProxy(upstream, share, seed)
    ready: Future[_Serving] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(proxy.serve(ready)), name="proxy", daemon=True)
    thread.start()
    serving = ready.result(SECONDS_TO_START)
    try:
        yield proxy
    finally:
        serving.stop()
        thread.join(SECONDS_TO_START)
