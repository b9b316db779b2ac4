"""How a collection of features stands, told by its output alone."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from bulletins import BULLETIN
from inmemory import MemoryStore

from stylebatch.cluster.feature_layout import FeatureLayout
from stylebatch.cluster.feature_output import FeatureOutput, images_tally
from stylebatch.cluster.feature_status import find_features
from stylebatch.errors import JobError
from stylebatch.job import Lease
from stylebatch.job.bulletin import Telling
from stylebatch.job.lease import Machine
from stylebatch.job.status import State, Status, find_job, read_status
from stylebatch.pair.feature_request import FeatureRequest, FeatureSettings
from stylebatch.pair.feature_table import encode_rows

SETTINGS = FeatureSettings(layers=("conv1_1",), content_layers=("conv1_1",), size=32, project=8)
IMAGES = tuple(f"/in/{name}.png" for name in "abcde")
FILE = FeatureRequest(SETTINGS, IMAGES, "/out/f.parquet", "ab" * 32, "caffe", images_per_part=2)
FOLDER = replace(FILE, output="/out/features")


@dataclass
class Desk:
    """An output in parts of two of five images, and a driver."""

    request: FeatureRequest
    store: MemoryStore = dataclasses.field(default_factory=MemoryStore)

    @property
    def layout(self) -> FeatureLayout:
        return FeatureLayout(self.request.output)

    @property
    def output(self) -> FeatureOutput:
        return FeatureOutput(self.request, self.store)

    def take(self) -> Lease:
        """A driver begins."""
        lease = Lease.take(self.store, self.layout, replace(Machine.here(), beat_seconds=None))
        self.output.claim()
        return lease

    def measure(self, *parts: int) -> None:
        """Parts whose images are all broken."""
        for part in parts:
            rows = [{"image": image, "error": "it is empty"} for image in self.request.part_images(part)]
            self.store.put(self.layout.part(part), encode_rows(rows, self.output.schema))

    def tell(self, lease: Lease, telling: Telling = Telling.RUNNING, reason: str = "") -> None:
        """The driver writes how far it is."""
        holder = lease.holder.holder
        told = replace(BULLETIN, holder=holder, rows=5, ok=2, failed=1, telling=telling, reason=reason)
        self.store.put(self.layout.progress, told.encode())

    def status(self) -> Status:
        before = dict(self.store.objects)
        found = read_status(self.store, self.request.output, finders=(find_job, find_features))
        assert self.store.objects == before
        return found


@pytest.fixture(params=[FILE, FOLDER], ids=["file", "folder"])
def desk(request: pytest.FixtureRequest) -> Desk:
    return Desk(request.param)


def test_of_a_run_that_goes_on(desk: Desk) -> None:
    lease = desk.take()
    desk.tell(lease)
    found = desk.status()
    assert (found.output, found.state, found.counted) == (desk.request.output, State.RUNNING, "image")
    assert (found.rows, found.ended, found.ok, found.failed) == (5, 3, 2, 1)
    assert found.workers == 3


def test_parts_are_counted_where_nothing_is_told(desk: Desk) -> None:
    desk.take()
    desk.measure(0, 2)
    found = desk.status()
    assert (found.state, found.rows, found.ended, found.ok) == (State.RUNNING, 5, 3, None)


def test_of_a_run_that_was_stopped(desk: Desk) -> None:
    lease = desk.take()
    desk.tell(lease, Telling.STOPPED, "stopped by SIGTERM")
    lease.release()
    found = desk.status()
    assert (found.state, found.reason, found.ended) == (State.STOPPED, "stopped by SIGTERM", 3)


def finish(desk: Desk) -> None:
    lease = desk.take()
    desk.measure(0, 1, 2)
    tally, missing = desk.output.open()
    assert (tally.failed, missing) == (5, [])
    desk.output.publish(tally)
    desk.output.remove_parts()
    lease.release()


def test_of_a_run_that_is_finished(desk: Desk) -> None:
    finish(desk)
    found = desk.status()
    assert (found.state, found.rows, found.ok, found.failed) == (State.FINISHED, 5, 0, 5)
    assert (found.remarks, found.driver) == ((), None)


def test_a_file_is_finished_though_its_parts_are_still_there() -> None:
    desk = Desk(FILE)
    desk.take()
    desk.measure(0, 1, 2)
    desk.output.publish(images_tally(5, [], is_new=True))
    assert desk.status().state == State.FINISHED


def test_a_file_that_appears_between_two_looks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(FILE)
    look: Callable[[str], bytes] = desk.store.get

    def finish_then_look(uri: str) -> bytes:
        if uri == desk.layout.request:
            monkeypatch.undo()
            finish(desk)
        return look(uri)

    monkeypatch.setattr(desk.store, "get", finish_then_look)
    assert read_status(desk.store, FILE.output, finders=(find_features,)).state == State.FINISHED


@pytest.mark.parametrize("output", [FILE.output, FOLDER.output])
@pytest.mark.parametrize("content", [{}, {"/out/f.parquet": b"a shopping list", "/out/features/a": b""}])
def test_what_is_no_output_is_refused(output: str, content: dict[str, bytes]) -> None:
    with pytest.raises(JobError, match=r"is not the output of a run: it holds no job\.json, and no features"):
        read_status(MemoryStore(content), output, finders=(find_job, find_features))


def test_a_damaged_request_says_nothing_of_rows() -> None:
    found = read_status(
        MemoryStore({"/out/features/_request.json": b"a list"}), FOLDER.output, finders=(find_features,)
    )
    assert (found.state, found.rows, found.ended) == (State.STOPPED, None, 0)
