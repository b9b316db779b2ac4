"""What a bucket holds below a folder: objects, and what interrupted puts left."""

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from stylebatch.objectstore import S3_SCHEME, StoredObject
from stylebatch.storage.hidden import HIDDEN_PREFIX, is_hidden


def objects_under(client: Any, bucket: str, folder_key: str) -> list[StoredObject]:
    """Every object whose key starts with ``folder_key``, which is empty or ends with a slash."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=folder_key)
    return [
        _stored(bucket, entry)
        for page in pages
        for entry in page.get("Contents", [])
        if not entry["Key"].endswith("/")
    ]


def objects_named(client: Any, bucket: str, key: str) -> list[StoredObject]:
    """The object with this key, if there is one: it precedes all others that its key begins."""
    page = client.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1)
    return [_stored(bucket, entry) for entry in page.get("Contents", []) if entry["Key"] == key]


def _stored(bucket: str, entry: dict[str, Any]) -> StoredObject:
    return StoredObject(f"{S3_SCHEME}{bucket}/{entry['Key']}", entry["Size"])


def seconds_since(moment: datetime, answer: dict[str, Any]) -> float:
    """Seconds between a moment and an answer, by the clock of the server that gave it."""
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    now = parsedate_to_datetime(date) if date else datetime.now(UTC)
    return max(0.0, (now - moment).total_seconds())


def remove_probes(client: Any, bucket: str, folder_key: str, older_than: float) -> None:
    """Remove the hidden objects of this very folder that are older than so many seconds."""
    page = client.list_objects_v2(Bucket=bucket, Prefix=f"{folder_key}{HIDDEN_PREFIX}")
    for entry in page.get("Contents", []):
        is_old = seconds_since(entry["LastModified"], page) > older_than
        if is_old and is_hidden(entry["Key"].removeprefix(folder_key)):
            client.delete_object(Bucket=bucket, Key=entry["Key"])


def abort_uploads(client: Any, bucket: str, folder_key: str, older_than: float) -> None:
    """Abort unfinished multipart uploads to this very folder that are older than so many seconds."""
    for upload in [*_uploads(client, bucket, folder_key, older_than)]:
        client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])


def _uploads(client: Any, bucket: str, folder_key: str, older_than: float) -> Iterator[dict[str, Any]]:
    pages = client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=folder_key)
    for page in pages:
        for upload in page.get("Uploads", []):
            is_here = "/" not in upload["Key"].removeprefix(folder_key)
            if is_here and seconds_since(upload["Initiated"], page) > older_than:
                yield upload
