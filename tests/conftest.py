"""Fixtures for every test."""

import os
import signal
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: one torch thread in a test process
sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not make s3server importable

from s3server import S3Server, running_s3_server, show_only_server

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts the suite in the background has it ignore Ctrl-C, and with it every program that the
    # suite starts; tests press it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """A real S3 server, started when the first test asks for it."""
    with running_s3_server() as server:
        yield server


@pytest.fixture
def s3_bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URI of a new bucket, and an environment in which AWS programs find it and nothing else."""
    show_only_server(monkeypatch, s3_server.endpoint, s3_server.access_key, s3_server.secret_key)
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    s3_server.client.create_bucket(Bucket=bucket)
    yield f"s3://{bucket}"
    s3_server.client.delete_bucket(Bucket=bucket)
