"""What boto3's failures mean: each becomes a StorageError that says whether to try again, or to stop."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stylebatch.errors import (
    AccessDeniedError,
    BucketNotFoundError,
    ConfigurationError,
    CredentialsError,
    NotFoundError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from stylebatch.objectstore import S3_SCHEME

THROTTLING_CODES = frozenset(
    {
        "SlowDown",
        "SlowDownRead",
        "SlowDownWrite",
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "TooManyRequests",
        "TooManyRequestsException",
        "BandwidthLimitExceeded",
    }
)
PASSING_CODES = THROTTLING_CODES | {
    "RequestTimeout",
    "RequestTimeoutException",
    "PriorRequestNotComplete",
    "InternalError",
    "ServiceUnavailable",
    "ConditionalRequestConflict",
    "OperationAborted",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
    "IncompleteBody",
}
"""Failures that sending the same request again may not meet.

The last four say that the body was changed, or cut off, on its way.
"""

_CLASS_OF_CODE: dict[str, type[StorageError]] = {
    **dict.fromkeys(PASSING_CODES, StorageUnavailableError),
    "NoSuchBucket": BucketNotFoundError,
    "NoSuchKey": NotFoundError,
    "InvalidAccessKeyId": CredentialsError,
    "SignatureDoesNotMatch": CredentialsError,
    "ExpiredToken": CredentialsError,
    "InvalidToken": CredentialsError,
    "TokenRefreshRequired": CredentialsError,
    "RequestTimeTooSkewed": CredentialsError,
    "AccessDenied": AccessDeniedError,
    "QuotaExceeded": StorageFullError,
    "XMinioStorageFull": StorageFullError,
    "InsufficientStorage": StorageFullError,
    "NotImplemented": ConfigurationError,
}
_CLASS_OF_STATUS: dict[int, type[StorageError]] = {
    401: CredentialsError,
    403: AccessDeniedError,
    404: NotFoundError,
    408: StorageUnavailableError,
    429: StorageUnavailableError,
    501: ConfigurationError,
    505: ConfigurationError,
    507: StorageFullError,
}
_S3_SENTENCES: dict[type[StorageError], str] = {
    NotFoundError: "there is no such object ({reason}); check the bucket and the key",
    BucketNotFoundError: "there is no bucket {bucket!r} ({reason}); create it, or correct its name",
    CredentialsError: "the storage was given no valid credentials ({reason}); check AWS_ACCESS_KEY_ID, "
    "AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_PROFILE or the machine's role, and its clock",
    AccessDeniedError: "access is denied ({reason}); allow these credentials to use it (where they may not "
    "list the bucket, a missing object looks the same)",
    ConfigurationError: "the storage cannot be used as it is set up ({reason}); check AWS_ENDPOINT_URL "
    "(https://host:port), AWS_DEFAULT_REGION and what that server supports",
    StorageFullError: "the storage has no room left ({reason}); make room, then run again",
    StorageUnavailableError: "the storage does not answer as it should, after all retries ({reason}); check "
    "the network and AWS_ENDPOINT_URL, then try again",
    StorageError: "the storage refused the request ({reason}); correct what it names",
}
_WRONG_PROTOCOL = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
"""What OpenSSL calls a certificate that nobody vouches for, and a server that does not speak TLS."""


@contextmanager
def s3_errors(uri: str) -> Iterator[None]:
    """Turn every failure of boto3 inside the block into a StorageError about this URI."""
    from botocore.exceptions import BotoCoreError, ClientError

    failures: tuple[type[Exception], ...] = (BotoCoreError, ClientError, *broken_answers())
    try:
        yield
    except failures as error:
        kind = _s3_error_class(error)
        bucket = uri.removeprefix(S3_SCHEME).partition("/")[0]
        sentence = _S3_SENTENCES[kind].format(bucket=bucket, reason=_reason(error, kind))
        raise kind(f"{uri}: {sentence}") from error


def is_throttling(status: int, code: str) -> bool:
    """Whether this answer asks for fewer requests."""
    return status in (429, 503) or code in THROTTLING_CODES


def is_passing(status: int, code: str, error: BaseException | None) -> bool:
    """Whether a send of a request failed in a way that the next one may not.

    Args:
        status: The answer's HTTP status; 0 if there was none.
        code: The answer's error code, or the empty string.
        error: What was raised in place of an answer.
    """
    if error is not None:
        return _is_connection_error(error) and not _is_misdirected(error)
    return status >= 300 and _class_of_answer(status, code) is StorageUnavailableError


def broken_answers() -> tuple[type[Exception], ...]:
    """What botocore raises for an answer that breaks off or is damaged after its status has arrived.

    It does not offer these for a retry.
    """
    from botocore import exceptions as botocore
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    return (
        botocore.ResponseStreamingError,
        botocore.IncompleteReadError,
        botocore.FlexibleChecksumError,
        ResponseParserError,
        HTTPError,
    )


def is_about_credentials(error: Exception) -> bool:
    """Whether the credentials could not be found, before any request."""
    from botocore import exceptions as botocore

    return isinstance(
        error,
        botocore.NoCredentialsError
        | botocore.PartialCredentialsError
        | botocore.CredentialRetrievalError
        | botocore.ProfileNotFound
        | botocore.TokenRetrievalError
        | botocore.MetadataRetrievalError
        | botocore.SSOError,
    )


def _s3_error_class(error: Exception) -> type[StorageError]:
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        return _class_of_answer(status_of(error), code_of(error))
    if is_about_credentials(error):
        return CredentialsError
    if _is_misconfigured(error) or _is_misdirected(error):
        return ConfigurationError
    if _is_connection_error(error) or isinstance(error, broken_answers()):
        return StorageUnavailableError
    return StorageError


def _class_of_answer(status: int, code: str) -> type[StorageError]:
    other = StorageUnavailableError if status >= 500 else StorageError
    return _CLASS_OF_CODE.get(code, _CLASS_OF_STATUS.get(status, other))


def _is_connection_error(error: BaseException) -> bool:
    from botocore.exceptions import ConnectionError, HTTPClientError

    return isinstance(error, HTTPClientError | ConnectionError)


def _is_misdirected(error: BaseException) -> bool:
    from botocore.exceptions import SSLError

    return isinstance(error, SSLError) and any(name in str(error).upper() for name in _WRONG_PROTOCOL)


def _is_misconfigured(error: Exception) -> bool:
    from botocore import exceptions as botocore

    return isinstance(
        error,
        botocore.EndpointProviderError
        | botocore.NoRegionError
        | botocore.InvalidRegionError
        | botocore.InvalidProxiesConfigError,
    )


def _reason(error: Exception, kind: type[StorageError]) -> str:
    """What went wrong in the storage's words, where they cannot repeat a secret."""
    code = code_of(error) or type(error).__name__
    if kind is CredentialsError:
        return code
    return f"{code}: {one_line(_answer(error, 'Error').get('Message', error))}"


def code_of(error: BaseException) -> str:
    """The code of a server's answer; empty where there was none."""
    return str(_answer(error, "Error").get("Code", ""))


def status_of(error: BaseException) -> int:
    """The HTTP status of a server's answer; 0 where there was none."""
    return int(_answer(error, "ResponseMetadata").get("HTTPStatusCode", 0))


def was_sent_again(error: BaseException) -> bool:
    """Whether the request was sent more than once before this answer."""
    return int(_answer(error, "ResponseMetadata").get("RetryAttempts", 0)) > 0


def _answer(error: BaseException, part: str) -> dict[str, Any]:
    """A part of the server's answer; empty for an error that is none, such as a lost connection."""
    answer = getattr(error, "response", None) or {}
    return dict(answer.get(part, {}))


def one_line(text: object) -> str:
    """At most 300 characters of a message, without line breaks or the credentials of a URL."""
    without_credentials = re.sub(r"//[^/\s]*@", "//***@", str(text))
    return " ".join(without_credentials.split())[:300].rstrip(".")
