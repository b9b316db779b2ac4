"""What boto3's failures mean: each becomes a StorageError that says whether to try again, or to stop."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stylebatch.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    CredentialsError,
    NotFoundError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from stylebatch.objectstore import S3_SCHEME

_CLASS_OF_CODE: dict[str, type[StorageError]] = {
    "NoSuchBucket": BucketNotFoundError,
    "NoSuchKey": NotFoundError,
    "InvalidAccessKeyId": CredentialsError,
    "SignatureDoesNotMatch": CredentialsError,
    "ExpiredToken": CredentialsError,
    "InvalidToken": CredentialsError,
    "TokenRefreshRequired": CredentialsError,
    "RequestTimeTooSkewed": CredentialsError,
    "AccessDenied": AccessDeniedError,
    "SlowDown": StorageUnavailableError,
    "Throttling": StorageUnavailableError,
    "ThrottlingException": StorageUnavailableError,
    "RequestLimitExceeded": StorageUnavailableError,
    "RequestTimeout": StorageUnavailableError,
    "QuotaExceeded": StorageFullError,
    "XMinioStorageFull": StorageFullError,
    "InsufficientStorage": StorageFullError,
    "NotImplemented": StorageError,
}
_CLASS_OF_STATUS: dict[int, type[StorageError]] = {
    401: CredentialsError,
    403: AccessDeniedError,
    404: NotFoundError,
    429: StorageUnavailableError,
    500: StorageUnavailableError,
    502: StorageUnavailableError,
    503: StorageUnavailableError,
    504: StorageUnavailableError,
    507: StorageFullError,
}
_S3_SENTENCES: dict[type[StorageError], str] = {
    NotFoundError: "there is no such object ({reason}); check the bucket and the key",
    BucketNotFoundError: "there is no bucket {bucket!r} ({reason}); create it, or correct its name",
    CredentialsError: "the storage was given no valid credentials ({reason}); check AWS_ACCESS_KEY_ID, "
    "AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE or the machine's role, and its clock",
    AccessDeniedError: "access is denied ({reason}); allow these credentials to use it (where they may not "
    "list the bucket, a missing object looks the same)",
    StorageFullError: "the storage has no room left ({reason}); make room, then run again",
    StorageUnavailableError: "the storage does not answer as it should, after all retries ({reason}); check "
    "the network and AWS_ENDPOINT_URL, then try again",
    StorageError: "the storage refused the request ({reason}); correct what it names",
}


@contextmanager
def s3_errors(uri: str) -> Iterator[None]:
    """Turn every failure of boto3 inside the block into a StorageError about this URI."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        kind = _s3_error_class(error)
        bucket = uri.removeprefix(S3_SCHEME).partition("/")[0]
        sentence = _S3_SENTENCES[kind].format(bucket=bucket, reason=_reason(error, kind))
        raise kind(f"{uri}: {sentence}") from error


def _s3_error_class(error: Exception) -> type[StorageError]:
    from botocore import exceptions as botocore

    if isinstance(error, botocore.ClientError):
        by_status = _CLASS_OF_STATUS.get(status_of(error), StorageError)
        return _CLASS_OF_CODE.get(_code(error), by_status)
    if isinstance(
        error,
        botocore.NoCredentialsError
        | botocore.PartialCredentialsError
        | botocore.CredentialRetrievalError
        | botocore.ProfileNotFound
        | botocore.TokenRetrievalError
        | botocore.MetadataRetrievalError
        | botocore.SSOError,
    ):
        return CredentialsError
    if isinstance(
        error,
        botocore.HTTPClientError
        | botocore.ConnectionError
        | botocore.IncompleteReadError
        | botocore.FlexibleChecksumError,
    ):
        return StorageUnavailableError
    return StorageError


def _reason(error: Exception, kind: type[StorageError]) -> str:
    """What went wrong in the storage's words, where they cannot repeat a secret."""
    code = _code(error) or type(error).__name__
    if kind is CredentialsError:
        return code
    return f"{code}: {one_line(_answer(error, 'Error').get('Message', error))}"


def _code(error: Exception) -> str:
    return str(_answer(error, "Error").get("Code", ""))


def status_of(error: Exception) -> int:
    """The HTTP status of a server's answer; 0 where there was none."""
    return int(_answer(error, "ResponseMetadata").get("HTTPStatusCode", 0))


def _answer(error: Exception, part: str) -> dict[str, Any]:
    """A part of the server's answer; empty for an error that is none, such as a lost connection."""
    answer = getattr(error, "response", None) or {}
    return dict(answer.get(part, {}))


def one_line(text: object) -> str:
    """At most 300 characters of a message, without line breaks or the credentials of a URL."""
    without_credentials = re.sub(r"//[^/\s]*@", "//***@", str(text))
    return " ".join(without_credentials.split())[:300].rstrip(".")
