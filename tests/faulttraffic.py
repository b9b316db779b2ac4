"""What passed the fault-injecting proxy: requests, faults, and pairs begun, computed, committed."""

import hashlib
import posixpath
import threading
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from urllib.parse import unquote, urlsplit

CLASS_OF_FOLDER: Mapping[str, str] = {
    "records": "records",
    "images": "images",
    "results": "parts",
    "checkpoints": "checkpoints",
}
CLASS_OF_NAME: Mapping[str, str] = {
    "job.json": "job.json",
    "lease.json": "lease",
    "progress.json": "progress",
}


class Fault(StrEnum):
    """What the proxy does to a request."""

    SLOW_DOWN = "503 SlowDown"
    RESET = "reset before the request"
    CUT = "answer cut in half"
    LOST = "request done, answer lost"
    STALL = "stall, then reset"


def split_target(target: str) -> tuple[str, str]:
    """Bucket and key of a request's path; the key is empty for a bucket."""
    bucket, _, key = unquote(urlsplit(target).path).removeprefix("/").partition("/")
    return bucket, key


def key_class(method: str, target: str) -> str:
    """What a request is about: ``job.json``, ``lease``, ``records``, ..., ``list``, ``other``."""
    _, key = split_target(target)
    if not key:
        return "list" if method == "GET" else "other"
    name = posixpath.basename(key)
    folders = key.split("/")[:-1]
    found = (CLASS_OF_FOLDER[folder] for folder in folders if folder in CLASS_OF_FOLDER)
    return CLASS_OF_NAME.get(name) or next(found, "other")


class Traffic:
    """Counts and notes. The proxy's thread writes, any thread reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._faults: Counter[Fault] = Counter()
        self._fetched: set[str] = set()
        self._records: dict[tuple[str, str], set[str]] = {}
        self._images: set[str] = set()

    def note_request(self, method: str, target: str, fault: Fault | None) -> None:
        """A request has arrived, and this will be done to it."""
        with self._lock:
            self._requests[method, key_class(method, target)] += 1
            if fault is not None:
                self._faults[fault] += 1

    def note_done(self, method: str, target: str, body: bytes, is_whole: bool) -> None:
        """The server has done what a request asked for, and answered with the whole object or less."""
        kind, key = key_class(method, target), split_target(target)[1]
        with self._lock:
            if method == "GET" and kind == "other" and is_whole:
                self._fetched.add(key)
            elif method == "PUT" and kind == "records" and not key.endswith(".failed.json"):
                output, pair_id = _output_and_pair(key, "records")
                self._records.setdefault((output, pair_id), set()).add(hashlib.sha256(body).hexdigest())
            elif method == "PUT" and kind == "images":
                self._images.add(key)

    @property
    def requests(self) -> Counter[tuple[str, str]]:
        """Requests by method and :func:`key_class`, faulty ones included."""
        with self._lock:
            return self._requests.copy()

    @property
    def faults(self) -> Counter[Fault]:
        """Faults by kind."""
        with self._lock:
            return self._faults.copy()

    @property
    def fetched(self) -> set[str]:
        """The keys of inputs that were read whole in one request since :meth:`forget_fetched`.

        A driver reads the beginnings of images; a worker reads an image whole when it is given its pair.
        """
        with self._lock:
            return set(self._fetched)

    def forget_fetched(self) -> None:
        """Begin :attr:`fetched` anew."""
        with self._lock:
            self._fetched.clear()

    def computations(self, output: str) -> dict[str, int]:
        """How often each pair of an output was computed to the end, by pair id.

        A record is stored after every computation. Two that differ are two computations (each says how many
        seconds it took); equal ones are one that was sent again.
        """
        with self._lock:
            return {pair: len(bodies) for (place, pair), bodies in self._records.items() if place == output}

    def committed(self, output: str) -> set[str]:
        """The ids of an output's pairs whose image is stored."""
        with self._lock:
            places = [_output_and_pair(key, "images") for key in self._images]
        return {pair_id for place, pair_id in places if place == output}


def _output_and_pair(key: str, folder: str) -> tuple[str, str]:
    """Both from ``OUT/records/000042/<id>.<digits>.json`` or ``OUT/images/000042/<id>.png``."""
    output, _, rest = key.partition(f"/{folder}/")
    suffixes = 2 if folder == "records" else 1
    return output, posixpath.basename(rest).rsplit(".", suffixes)[0]
