"""An S3 server that fails for a while: what is sent again, how often, and what a lost answer leads to."""

import logging
import pickle
import socket
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError, ConnectTimeoutError
from botocore.httpsession import URLLib3Session
from places import DATA, OPERATIONS, race
from s3stub import S3Stub, Time, etag, running_stub
from urllib3.exceptions import ProtocolError

from stylebatch.errors import StorageError, StorageUnavailableError
from stylebatch.storage import Retries, S3Store, s3, s3_client
from stylebatch.storage.retries import FIRST_PAUSE, LONGEST_PAUSE, RETRY_SECONDS

KEY = "/bucket/key"
URI = "s3://bucket/key"
BUSY = ["503 SlowDown", "503", "500 InternalError", "502", "504", "429", "429 TooManyRequests", "408", "520"]


@pytest.fixture
def store(stub: S3Stub, time: Time) -> S3Store:
    return S3Store(retries=time.retries())


# What is sent again


@pytest.mark.parametrize("operation", ["get", "get_range", "size"])
def test_a_read_is_sent_again_after_every_passing_failure(
    stub: S3Stub, store: S3Store, operation: str
) -> None:
    stub.objects[KEY] = DATA
    faults = [*BUSY, "reset", "lost"] if operation == "size" else [*BUSY, "reset", "lost", "half", "half"]
    stub.faults += faults
    expected = {"get": DATA, "get_range": DATA[:1], "size": len(DATA)}
    assert OPERATIONS[operation](store, URI) == expected[operation]
    assert len(stub.requests) == len(faults) + 1


@pytest.mark.parametrize("operation", ["put", "put_if_absent"])
def test_a_put_is_sent_again_after_every_passing_failure(
    stub: S3Stub, store: S3Store, operation: str
) -> None:
    stub.faults += [*BUSY, "reset", "400 BadDigest", "400 IncompleteBody", "400 RequestTimeout"]
    assert OPERATIONS[operation](store, URI) in (None, True)
    assert stub.objects == {KEY: b"x"}
    assert stub.requests == [f"PUT {KEY}"] * 14


@pytest.mark.parametrize("operation", ["get", "put"])
def test_a_request_that_meets_silence_is_sent_again(
    monkeypatch: pytest.MonkeyPatch, stub: S3Stub, store: S3Store, operation: str
) -> None:
    monkeypatch.setattr(s3_client, "READ_TIMEOUT", 0.1)
    stub.objects[KEY] = b"x"
    stub.faults += ["silence"] * 3
    assert OPERATIONS[operation](store, URI) in (None, b"x")
    assert stub.requests == [f"{operation.upper()} {KEY}"] * 4


def test_a_server_is_waited_for_until_it_listens(stub: S3Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as started, socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{reserved.getsockname()[1]}")
        stubs: list[S3Stub] = []
        time = Time()

        def start_at_the_eighth_pause(seconds: float) -> None:
            time.sleep(seconds)
            if len(time.pauses) == 8:
                reserved.close()
                port = int(S3Store().client.meta.endpoint_url.rpartition(":")[2])
                stubs.append(started.enter_context(running_stub(port))[0])

        store = S3Store(retries=Retries(clock=time.clock, sleep=start_at_the_eighth_pause))
        store.put(URI, DATA)
        assert len(time.pauses) == 8
        assert stubs[0].objects == {KEY: DATA}


def test_a_connection_that_is_not_made_in_time_is_tried_again(stub: S3Stub, store: S3Store) -> None:
    fault = ScriptedSends(store, "PutObject", ConnectTimeoutError(endpoint_url="http://there"), count=4)
    store.put(URI, DATA)
    assert fault.sends == 5


class ScriptedSends:
    """Raises an error in place of an operation's first answers, having sent the request if told so."""

    def __init__(
        self, store: S3Store, operation: str, error: Exception, count: int = 1, arrive: bool = False
    ) -> None:
        self.sends = 0
        self._count = count
        self._error = error
        self._arrive = arrive
        store.client.meta.events.register(f"before-send.s3.{operation}", self._send)

    def _send(self, request: Any, **_event: Any) -> None:
        self.sends += 1
        if self.sends <= self._count:
            if self._arrive:
                assert URLLib3Session().send(request).status_code == 200
            raise self._error


LASTING = [
    "400",
    "403 AccessDenied",
    "403 SignatureDoesNotMatch",
    "404 NoSuchBucket",
    "409 ExistingObjectIsDirectory",
    "411",
    "501 NotImplemented",
    "507 XMinioStorageFull",
    "503 XMinioStorageFull",
]


def test_what_will_not_pass_is_sent_once(stub: S3Stub, store: S3Store) -> None:
    for fault in LASTING:
        stub.faults[:] = [fault] * 2
        stub.requests.clear()
        with pytest.raises(StorageError) as raised:
            store.put(URI, DATA)
        assert not raised.value.can_retry, fault
        assert stub.requests == [f"PUT {KEY}"], fault


# For how long


def test_a_server_that_is_away_for_a_minute_fails_nothing(stub: S3Stub, store: S3Store, time: Time) -> None:
    stub.fault_for = lambda request: "503 SlowDown" if time.now < 60 else None
    for number in range(50):
        time.now = 0.0
        store.put(f"{URI}-{number}", DATA)
    assert len(stub.objects) == 50


def test_a_server_that_stays_away_fails_the_call_within_its_budget(
    stub: S3Stub, store: S3Store, time: Time
) -> None:
    stub.fault_for = lambda request: "500"
    sends = []
    for _ in range(30):
        time.pauses.clear()
        stub.requests.clear()
        with pytest.raises(StorageUnavailableError, match="after all retries"):
            store.put(URI, DATA)
        sends.append(len(stub.requests))
        assert len(time.pauses) == sends[-1] - 1
        assert RETRY_SECONDS <= sum(time.pauses) < RETRY_SECONDS + LONGEST_PAUSE
    assert 18 < sum(sends) / 30 < 28


def test_pauses_are_random_below_a_limit_that_doubles(time: Time) -> None:
    limits = [FIRST_PAUSE * 2**number for number in range(5)] + [LONGEST_PAUSE] * 3
    pauses = []
    for _ in range(300):
        call = time.retries().pauses_of_one_call()
        pauses.append([call.after_failure() or 0.0 for _ in limits])
    for limit, drawn in zip(limits, zip(*pauses, strict=True), strict=True):
        assert 0 <= min(drawn) < 0.1 * limit
        assert 0.9 * limit < max(drawn) <= limit
    assert all(later >= earlier for earlier, later in pairwise(limits))


def test_the_retries_of_thirty_two_threads_are_not_cut_short(stub: S3Stub) -> None:
    """botocore's own quota of 500 tokens would end them after 35 retries in all."""
    failures = dict.fromkeys((f"PUT {KEY}-{thread}" for thread in range(32)), 10)

    def fail_ten_times(request: str) -> str | None:
        failures[request] -= 1
        return "500" if failures[request] >= 0 else None

    stub.fault_for = fail_ten_times
    store = S3Store(retries=Retries(clock=lambda: 0.0, sleep=lambda seconds: None))
    race(32, lambda thread: store.put(f"{URI}-{thread}", DATA))
    assert len(stub.objects) == 32
    assert len(stub.requests) == 32 * 11


def test_no_pause_but_ours_is_made(monkeypatch: pytest.MonkeyPatch, stub: S3Stub, store: S3Store) -> None:
    slept: list[float] = []
    monkeypatch.setattr("botocore.endpoint.time.sleep", slept.append)
    stub.faults += BUSY
    stub.objects[KEY] = DATA
    store.get(URI)
    assert slept == [0.0] * len(BUSY)


def test_no_retries_send_once(stub: S3Stub) -> None:
    stub.faults += ["503"] * 2
    with pytest.raises(StorageUnavailableError):
        S3Store(retries=Retries(seconds=0)).get(URI)
    assert len(stub.requests) == 1


@pytest.mark.parametrize("fault", ["503", "429"])
def test_a_busy_server_is_not_asked_for_its_reason(stub: S3Stub, fault: str) -> None:
    """A HEAD has no body to carry one, and a GET would be retried for as long again."""
    stub.faults += [fault]
    with pytest.raises(StorageUnavailableError):
        S3Store(retries=Retries(seconds=0)).size(URI)
    assert stub.requests == [f"HEAD {KEY}"]


def test_retries_survive_pickling(stub: S3Stub) -> None:
    stub.faults += ["503"] * 2
    store = pickle.loads(pickle.dumps(S3Store(retries=Retries(seconds=0))))
    with pytest.raises(StorageUnavailableError):
        store.get(URI)
    assert len(stub.requests) == 1


def test_a_long_wait_is_said_once_in_a_while(
    stub: S3Stub, store: S3Store, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    stub.fault_for = lambda request: "503 SlowDown"
    with caplog.at_level(logging.WARNING), pytest.raises(StorageUnavailableError):
        store.get(URI)
    notices = [record.getMessage() for record in caplog.records]
    assert notices[0] == "S3 does not answer as it should (SlowDown); trying again for up to 90 s"
    assert len(notices) == 2
    stub.fault_for = lambda request: None
    stub.objects[KEY] = DATA
    stub.faults += ["503"] * 2
    store.get(URI)
    assert len(caplog.records) == 2


# Answers that break off or are damaged


def test_a_body_that_always_breaks_off_is_unavailable(stub: S3Stub, store: S3Store, time: Time) -> None:
    stub.objects[KEY] = DATA
    stub.fault_for = lambda request: "half"
    with pytest.raises(StorageUnavailableError, match="1024 more expected"):
        store.get(URI)
    assert RETRY_SECONDS <= sum(time.pauses) < RETRY_SECONDS + LONGEST_PAUSE
    assert len(stub.requests) == len(time.pauses) + 1


def test_silence_in_the_middle_of_a_body_is_met_by_asking_again(
    monkeypatch: pytest.MonkeyPatch, stub: S3Stub, store: S3Store
) -> None:
    monkeypatch.setattr(s3_client, "READ_TIMEOUT", 0.1)
    stub.objects[KEY] = DATA
    stub.faults += ["half and silence"] * 2
    assert store.get(URI) == DATA
    assert len(stub.requests) == 3


def test_an_answer_that_breaks_off_in_its_error_is_asked_for_again(stub: S3Stub, store: S3Store) -> None:
    stub.objects[KEY] = DATA
    errors: list[Exception] = [ProtocolError("reset while the error's text was read")]

    def break_off(**_event: Any) -> None:
        if errors:
            raise errors.pop()

    store.client.meta.events.register("before-parse.s3.GetObject", break_off)
    assert store.get(URI) == DATA
    assert len(stub.requests) == 2


def test_a_body_that_was_damaged_on_its_way_is_read_again(s3_bucket: str, time: Time) -> None:
    store = S3Store(retries=time.retries())
    store.put(f"{s3_bucket}/key", DATA)
    wrong = ["AAAAAA=="] * 2

    def damage(response_dict: dict[str, Any], **_event: Any) -> None:
        if wrong:
            response_dict["body"]._expected = wrong.pop()

    store.client.meta.events.register("before-parse.s3.GetObject", damage)
    assert store.get(f"{s3_bucket}/key") == DATA
    assert len(time.pauses) == 2


def test_a_listing_that_breaks_off_is_asked_for_again(s3_bucket: str, time: Time) -> None:
    store = S3Store(retries=time.retries())
    for name in ("a", "b"):
        store.put(f"{s3_bucket}/folder/{name}", DATA)
    cuts = [100, 300]

    def cut(response_dict: dict[str, Any], **_event: Any) -> None:
        if cuts:
            response_dict["body"] = response_dict["body"][: cuts.pop()]

    store.client.meta.events.register("before-parse.s3.ListObjectsV2", cut)
    found = [stored.uri for stored in store.list(f"{s3_bucket}/folder")]
    assert found == [f"{s3_bucket}/folder/a", f"{s3_bucket}/folder/b"]
    assert len(time.pauses) == 2


# Answers that are lost


def test_a_conditional_put_whose_answer_was_lost_was_stored(stub: S3Stub, store: S3Store) -> None:
    stub.faults += ["lost"]
    assert store.put_if_absent(URI, DATA) is True
    assert stub.requests == [f"PUT {KEY}", f"PUT {KEY}", f"GET {KEY}"]


def test_a_replacement_whose_answer_was_lost_was_stored(stub: S3Stub, store: S3Store) -> None:
    stub.objects[KEY] = b"before"
    stub.faults += ["lost"]
    assert store.put_if_version(URI, DATA, etag(b"before")) == etag(DATA)
    assert stub.requests == [f"PUT {KEY}", f"PUT {KEY}", f"GET {KEY}"]


def test_a_lost_answer_and_a_conflict_end_the_same(stub: S3Stub, store: S3Store) -> None:
    stub.faults += ["lost", "409 ConditionalRequestConflict", "503 SlowDown", "409 OperationAborted"]
    assert store.put_if_absent(URI, DATA) is True
    assert store.put_if_absent(URI, b"another") is False


def test_a_refusal_of_the_first_send_costs_no_second_request(stub: S3Stub, store: S3Store) -> None:
    stub.objects[KEY] = DATA
    assert store.put_if_absent(URI, DATA) is False
    assert store.put_if_version(URI, DATA, etag(b"before")) is None
    assert stub.requests == [f"PUT {KEY}"] * 2


@pytest.mark.parametrize("there", [b"another writer's", None], ids=["another", "gone"])
def test_what_another_writer_stored_meanwhile_is_not_taken_for_ones_own(
    stub: S3Stub, store: S3Store, there: bytes | None
) -> None:
    stub.objects[KEY] = b"another writer's"
    stub.faults += ["503"]
    stub.fault_for = _remove_before_get(stub) if there is None else stub.fault_for
    assert store.put_if_absent(URI, DATA) is False
    stub.objects[KEY] = b"another writer's"
    stub.faults += ["503"]
    assert store.put_if_version(URI, DATA, etag(b"before")) is None


def _remove_before_get(stub: S3Stub) -> Callable[[str], None]:
    def remove(request: str) -> None:
        if request.startswith("GET"):
            stub.objects.clear()

    return remove


def test_a_conditional_put_waits_for_another_one_to_end(stub: S3Stub, store: S3Store) -> None:
    stub.faults += ["409 ConditionalRequestConflict"] * 2
    assert store.put_if_absent(URI, DATA) is True
    assert stub.requests == [f"PUT {KEY}"] * 3


def test_a_conflict_that_lasts_is_another_writer_at_work(stub: S3Stub, store: S3Store) -> None:
    stub.fault_for = lambda request: "409 ConditionalRequestConflict"
    with pytest.raises(StorageUnavailableError, match="ConditionalRequestConflict"):
        store.put_if_absent(URI, DATA)


def test_lost_answers_of_a_real_server_are_found_out(s3_bucket: str, time: Time) -> None:
    store = S3Store(retries=time.retries())
    lost = ScriptedSends(store, "PutObject", ConnectionClosedError(endpoint_url="http://there"), arrive=True)
    assert store.put_if_absent(f"{s3_bucket}/key", b"first") is True
    version = store.version(f"{s3_bucket}/key")
    lost.sends = 0
    assert store.put_if_version(f"{s3_bucket}/key", b"second", version) == store.version(f"{s3_bucket}/key")
    assert store.get(f"{s3_bucket}/key") == b"second"


def test_an_upload_in_parts_whose_last_answer_was_lost_was_stored(
    monkeypatch: pytest.MonkeyPatch, s3_bucket: str, time: Time
) -> None:
    monkeypatch.setattr(s3, "PART_SIZE", 5 * 2**20)
    store = S3Store(retries=time.retries(), multipart_threshold=6 * 2**20)
    data = bytes(6 * 2**20)
    closed = ConnectionClosedError(endpoint_url="http://there")
    complete = ScriptedSends(store, "CompleteMultipartUpload", closed, arrive=True)
    store.put(f"{s3_bucket}/large", data)
    assert complete.sends == 2
    assert store.get(f"{s3_bucket}/large") == data
