"""Features of a collection of images on Ray: the loop that feeds the actors.

Images and features stay out of Ray: a worker reads the images of a part from the storage and puts a Parquet
file there.
"""

import dataclasses
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from stylebatch.cluster.connecting import connected, one_line, stopping_part_way
from stylebatch.cluster.departures import Step
from stylebatch.cluster.ending import Ending, noting_signals
from stylebatch.cluster.feature_events import part_dispatched, part_ended, worker_lost
from stylebatch.cluster.feature_layout import FeatureLayout
from stylebatch.cluster.feature_output import FeatureOutput, check_size, images_tally
from stylebatch.cluster.feature_worker import FeatureWorker, FeatureWorkerSettings, PartTask
from stylebatch.cluster.fleet import Fleet, has_died
from stylebatch.cluster.members import Member
from stylebatch.cluster.options import DEFAULT_OPTIONS, RunOptions
from stylebatch.cluster.plans import Resources, plan_run
from stylebatch.cluster.progress import Observer, Progress
from stylebatch.cluster.schedule import MOST_DEATHS, MOST_LOSSES
from stylebatch.cluster.watching import WatchedRun, Watcher, Watchers, watching
from stylebatch.errors import JobStoppedError, StylebatchError
from stylebatch.job import TakenOutput, Tally, take_output
from stylebatch.job.ledger import LEFTOVER_SECONDS
from stylebatch.objectstore import ObjectStore, resolve_uri
from stylebatch.pair.feature_request import FeatureRequest, FeatureSettings, default_images_per_part
from stylebatch.pair.weight_files import locate_weights
from stylebatch.pairs import resolve_locations
from stylebatch.recipe import WEIGHT_NAMES
from stylebatch.synthesis.families import file_sha256, known_family

TICK = 0.5
"""Seconds between two looks at the workers when nothing ends."""


@dataclass(frozen=True)
class WaitingPart:
    """A part that waits for a worker, or that one has."""

    task: PartTask
    """What to do."""
    deaths: int = 0
    """Workers that died over it, and attempts that ended in an exception."""
    losses: int = 0
    """Workers that were lost while they had it, whatever happened."""


def make_request(
    store: ObjectStore, images: Sequence[str], output: str, settings: FeatureSettings
) -> FeatureRequest:
    """Find the weights and freeze what is asked for.

    Args:
        store: Where the weights may lie.
        images: Canonical URIs; at least one.
        output: A file or folder, as the user wrote it.
        settings: Which features.

    Raises:
        WeightsError: The weights are missing, or of a family that is neither stated nor known.
        StorageError: A location is not allowed.
    """
    recipe = resolve_locations(settings.recipe)
    sha256 = file_sha256(locate_weights(recipe, store), recipe.weights)
    named = recipe.weights if recipe.weights in WEIGHT_NAMES else None
    family = recipe.weights_family or named or known_family(sha256, recipe.weights)
    return FeatureRequest(
        settings=dataclasses.replace(settings, weights=recipe.weights),
        images=tuple(images),
        output=resolve_uri(output),
        weights_sha256=sha256,
        weights_family=family,
        images_per_part=default_images_per_part(settings),
    )


def run_features(
    request: FeatureRequest,
    store: ObjectStore,
    options: RunOptions = DEFAULT_OPTIONS,
    observe: Observer = lambda progress: None,
    watchers: Sequence[Watcher] = (),
) -> Tally:
    """Measure a collection of images; parts that an earlier run has stored are not measured again.

    SIGTERM and Ctrl-C end it: the first time running parts may finish, the second time it ends at once.

    Args:
        request: Of which images, and what.
        store: Where images and output are.
        options: How.
        observe: Called about twice a second.
        watchers: Who is told besides, and of every event.

    Returns:
        How every image ended.

    Raises:
        JobError: The output belongs to another request, another driver works on it, or it would be too large
            for one file.
        ClusterError: Ray or its workers do not start.
        JobStoppedError: The run was asked to end, or met something that every further part would meet.
        KeyboardInterrupt: It was asked twice, or before it had begun.
    """
    check_size(request)
    taken = take_output(store, FeatureLayout(request.output), LEFTOVER_SECONDS)
    try:
        output = FeatureOutput(request, taken.store)
        tally, missing = output.open()
        with watching(_watched(request, taken, tally), options, observe, watchers) as told:
            if missing:
                _measure(request, missing, taken, tally, options, told)
            _publish(output, taken, tally)
        output.remove_parts()
        return tally
    finally:
        taken.lease.release()


def _watched(request: FeatureRequest, taken: TakenOutput, tally: Tally) -> WatchedRun:
    layout = FeatureLayout(request.output)
    return WatchedRun(
        output=layout.output,
        manifest=None,
        rows=len(request.images),
        progress=layout.progress,
        store=taken.store,
        lease=taken.lease,
        tally=tally,
    )


def _measure(
    request: FeatureRequest,
    parts: Sequence[int],
    taken: TakenOutput,
    tally: Tally,
    options: RunOptions,
    watchers: Watchers,
) -> None:
    ending = Ending()
    # In this order, because ray.init replaces the handler of SIGTERM.
    with connected(options.address) as resources, noting_signals(ending):
        fleet = _make_fleet(request, taken.store, options, resources)
        _Run(request, parts, fleet, taken, tally, options, watchers, ending).to_the_end()


def _publish(output: FeatureOutput, taken: TakenOutput, tally: Tally) -> None:
    try:
        taken.lease.check()
        output.publish(tally)
    except StylebatchError as error:
        raise JobStoppedError(str(error)) from error


def _make_fleet(
    request: FeatureRequest, store: ObjectStore, options: RunOptions, resources: Resources
) -> Fleet[WaitingPart]:
    plan = plan_run(resources, options)
    settings = FeatureWorkerSettings(
        store=store,
        features=request.settings,
        identity=request.identity(),
        threads=plan.threads,
        is_gpu=plan.is_gpu,
        max_pixels=options.max_pixels,
        largest_batch=options.largest_batch,
    )
    return Fleet(plan, settings, options.stall_timeout, FeatureWorker)


def _task(request: FeatureRequest, part: int) -> PartTask:
    layout = FeatureLayout(request.output)
    return PartTask(part, layout.part(part), part * request.images_per_part, request.part_images(part))


class _Run:
    """One run over the parts that are missing, on a fleet of workers."""

    def __init__(
        self,
        request: FeatureRequest,
        parts: Sequence[int],
        fleet: Fleet[WaitingPart],
        taken: TakenOutput,
        tally: Tally,
        options: RunOptions,
        watchers: Watchers,
        ending: Ending,
    ) -> None:
        self._total = len(request.images)
        self._fleet = fleet
        self._waiting = deque(WaitingPart(_task(request, part)) for part in parts)
        self._lease = taken.lease
        self._tally = tally
        self._options = options
        self._observe = watchers.observe
        self._tell = watchers.tell
        self._ending = ending
        self._notices = taken.notices
        self._started: float | None = None

    def to_the_end(self) -> None:
        """Work until every part is stored."""
        with stopping_part_way(lambda: self._started is not None):
            while left := len(self._waiting) + len(self._fleet.owners):
                if self._ending.reason:
                    self._wind_down()
                self._lease.check()
                self._fleet.poll()
                self._fleet.scale(left)
                self._dispatch()
                self._attend()

    def _attend(self) -> None:
        """Look after what is under way."""
        self._collect()
        for member in self._fleet.stalled():
            self._replace(member, True, f"no progress for {self._options.stall_timeout:g} s")
        for member, step in self._fleet.departing():
            if step is Step.LET_GO:
                self._let_go(member)
        self._report()

    def _wind_down(self) -> None:
        """Let running parts finish, if that does not take too long.

        Raises:
            JobStoppedError: Always.
        """
        deadline = time.monotonic() + self._options.grace
        while self._fleet.owners and time.monotonic() < deadline:
            self._lease.check()
            self._attend()
        raise JobStoppedError(
            f"stopped by {self._ending.reason}: {self._tally.ended} of {self._total} images have ended; "
            "the others are measured by the same command"
        )

    def _dispatch(self) -> None:
        for member in self._fleet.members:
            if member.takes_work and not member.batches and self._waiting:
                self._started = self._started or time.monotonic()
                part = self._waiting.popleft()
                member.give([part], time.monotonic())
                self._tell(part_dispatched(member.progress, part.task))

    def _collect(self) -> None:
        owners = self._fleet.owners
        if not owners:
            time.sleep(TICK / 10)  # workers are starting
            return
        done, _ = ray.wait(list(owners), timeout=TICK)
        for reference in done:
            self._collect_part(owners[reference], reference)

    def _collect_part(self, member: Member[WaitingPart], reference: Any) -> None:
        try:
            (outcome,) = ray.get(reference)
        except RayTaskError as error:
            (part,), _ = member.take_back(reference, time.monotonic())
            self._crash(part, error.cause or error)
        except RayError as error:
            self._replace(member, has_died(member, error), one_line(error))
        else:
            (part,), _ = member.take_back(reference, time.monotonic())
            self._tally.add(images_tally(outcome.images, outcome.failures, is_new=True))
            for event in part_ended(part.task, outcome, part.losses + 1):
                self._tell(event)

    def _crash(self, part: WaitingPart, cause: BaseException) -> None:
        """An attempt ended in an exception that is no single image's."""
        if isinstance(cause, StylebatchError) and cause.stops_job:
            raise JobStoppedError(str(cause)) from cause
        self._again(part, True, f"{type(cause).__name__}: {one_line(cause)}")

    def _replace(self, member: Member[WaitingPart], has_died: bool, reason: str) -> None:
        """Put another worker in the place of one that is lost, and let its part wait again."""
        assert member.info is not None, "only a worker that is ready has parts"
        if member.leaves is not None:
            self._let_go(member)
            return
        lost = member.candidates
        self._fleet.replace(member)
        self._notices.append(
            f"a worker on {member.info.host} (process {member.info.process}) is replaced: {reason}"
        )
        self._tell_lost(member, lost, reason)
        for part in lost:
            self._again(part, has_died, reason)

    def _let_go(self, member: Member[WaitingPart]) -> None:
        """End a worker whose machine leaves; its part waits for another, and is charged with nothing."""
        taken = member.candidates
        self._fleet.release(member)
        self._waiting.extend(taken)
        if taken:
            self._notices.append("a machine leaves the cluster: the part of a worker there waits for another")
        self._tell_lost(member, taken, "its machine leaves the cluster")

    def _tell_lost(self, member: Member[WaitingPart], lost: Sequence[WaitingPart], reason: str) -> None:
        self._tell(worker_lost(member.progress, [part.task for part in lost], reason))

    def _again(self, part: WaitingPart, is_charged: bool, reason: str) -> None:
        """Let a part wait for another attempt, unless it has had its share of them.

        Raises:
            JobStoppedError: It has.
        """
        part = WaitingPart(part.task, part.deaths + is_charged, part.losses + 1)
        if part.deaths >= MOST_DEATHS or part.losses >= MOST_LOSSES:
            images = part.task.images
            raise JobStoppedError(
                f"part {part.task.number} ({len(images)} images, {images[0]} to {images[-1]}) could not be "
                f"measured in {part.losses} attempts; the last: {reason}"
            )
        self._waiting.append(part)

    def _report(self) -> None:
        tally, notices = self._tally, (*self._notices, *self._fleet.notices)
        self._notices.clear()
        self._fleet.notices.clear()
        self._observe(
            Progress(
                total=self._total,
                ok=tally.ok,
                failed=tally.failed,
                new=tally.ended - tally.skipped,
                seconds=0.0 if self._started is None else time.monotonic() - self._started,
                workers=tuple(member.progress for member in self._fleet.shown),
                notices=notices,
            )
        )
