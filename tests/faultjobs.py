"""What a trial by faults runs: the inputs in a bucket, and drivers as processes of their own."""

import io
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from s3server import S3Server, show_only_server

STYLES = 3
WIDTH, HEIGHT = 200, 150
"""Of the images, which are stored without compression: larger than what a driver reads of them."""


class Driver:
    """``stylebatch run`` as a process; the same command again after each death."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._command = [sys.executable, "-m", "stylebatch", "run", *command]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> None:
        """Start the command."""
        self.starts += 1
        with self._log.open("ab") as log:
            log.write(f"\n--- start {self.starts}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                self._command, cwd=self._log.parent, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """SIGKILL, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def code(self) -> int | None:
        """The exit code; None while it runs."""
        return self._process.poll() if self._process is not None else None

    @property
    def last_words(self) -> str:
        """The end of what it printed since its last start."""
        text = self._log.read_text(errors="replace")
        return text.rpartition("\n--- start ")[2][-4000:]


class Bucket:
    """A bucket, seen directly: not through a proxy, nor through stylebatch's own storage."""

    def __init__(self, server: S3Server, name: str) -> None:
        self._client = server.client
        self.name = name
        self._client.create_bucket(Bucket=name)

    def put(self, key: str, data: bytes) -> None:
        """Store an object."""
        self._client.put_object(Bucket=self.name, Key=key, Body=data)

    def objects(self, folder: str) -> dict[str, bytes]:
        """Every object below a folder, by its name relative to it."""
        names = [key.removeprefix(f"{folder}/") for key in self._keys(f"{folder}/")]
        return {name: self._get(f"{folder}/{name}") for name in names}

    def remove(self) -> None:
        """Delete the bucket with all that it holds."""
        for key in self._keys(""):
            self._client.delete_object(Bucket=self.name, Key=key)
        self._client.delete_bucket(Bucket=self.name)

    def _keys(self, prefix: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return [key for key in keys if not key.endswith("/")]

    def _get(self, key: str) -> bytes:
        return bytes(self._client.get_object(Bucket=self.name, Key=key)["Body"].read())


@contextmanager
def new_bucket(server: S3Server, name: str) -> Iterator[Bucket]:
    """A :class:`Bucket` until the block ends."""
    bucket = Bucket(server, name)
    try:
        yield bucket
    finally:
        bucket.remove()


def store_inputs(bucket: Bucket, pair_ids: Sequence[str]) -> str:
    """Store one content image for each pair, a few styles, and the manifest; the manifest's URI.

    A content image has only one pair, so that reading it whole tells that the pair is begun.
    """
    for number, pair_id in enumerate(pair_ids):
        bucket.put(content_key(pair_id), _picture(number))
    for number in range(STYLES):
        bucket.put(f"in/style-{number}.png", _picture(1000 + number))
    table = {
        "pair_id": list(pair_ids),
        "content": [f"{pair_id}.png" for pair_id in pair_ids],
        "style": [f"style-{number % STYLES}.png" for number in range(len(pair_ids))],
    }
    file = io.BytesIO()
    pq.write_table(pa.table(table), file)
    bucket.put("in/pairs.parquet", file.getvalue())
    return f"s3://{bucket.name}/in/pairs.parquet"


def content_key(pair_id: str) -> str:
    """Where a pair's content image is."""
    return f"in/{pair_id}.png"


def _picture(seed: int) -> bytes:
    """A smooth coloured picture, another for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(
        file, "PNG", compress_level=0
    )
    return file.getvalue()


@contextmanager
def aws_environment(server: S3Server, endpoint: str) -> Iterator[None]:
    """Until the block ends, processes that start find the server at this address, and no other account."""
    with pytest.MonkeyPatch.context() as patch:
        show_only_server(patch, endpoint, server.access_key, server.secret_key)
        yield
