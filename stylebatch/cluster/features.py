"""Features of a collection of images on Ray: the loop that feeds the actors.

Images and features stay out of Ray: a worker reads the images of a part from the storage and puts a Parquet
file there.
"""

import dataclasses
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from stylebatch.cluster.connecting import connected, one_line
from stylebatch.cluster.departures import Step
from stylebatch.cluster.ending import Ending, noting_signals
from stylebatch.cluster.feature_output import Failures, FeatureOutput
from stylebatch.cluster.feature_worker import FeatureWorker, FeatureWorkerSettings, PartTask
from stylebatch.cluster.fleet import Fleet, has_died
from stylebatch.cluster.members import Member
from stylebatch.cluster.options import DEFAULT_OPTIONS, RunOptions
from stylebatch.cluster.plans import Resources, plan_run
from stylebatch.cluster.progress import Observer, Progress
from stylebatch.cluster.schedule import MOST_DEATHS, MOST_LOSSES
from stylebatch.errors import JobStoppedError, StylebatchError
from stylebatch.objectstore import ObjectStore, resolve_uri
from stylebatch.pair.feature_request import FeatureRequest, FeatureSettings, default_images_per_part
from stylebatch.pair.weight_files import locate_weights
from stylebatch.pairs import resolve_locations
from stylebatch.recipe import WEIGHT_NAMES
from stylebatch.synthesis.families import file_sha256, known_family

TICK = 0.5
"""Seconds between two looks at the workers when nothing ends."""
MOST_EXAMPLES = 5
"""Failures that are told in full."""


@dataclass(frozen=True)
class WaitingPart:
    """A part that waits for a worker, or that one has."""

    task: PartTask
    """What to do."""
    deaths: int = 0
    """Workers that died over it, and attempts that ended in an exception."""
    losses: int = 0
    """Workers that were lost while they had it, whatever happened."""


@dataclass
class FeatureTally:
    """How the images of a request ended."""

    total: int
    """Images."""
    measured: int = 0
    """Images with features, of this run or an earlier one."""
    new: int = 0
    """Images that this run measured or failed to."""
    failed: int = 0
    """Images without."""
    examples: Failures = field(default_factory=list)
    """Some of them, each with the reason."""

    def count(self, images: int, failures: Sequence[tuple[str, str]]) -> None:
        """So many more images have ended."""
        self.measured += images - len(failures)
        self.failed += len(failures)
        self.examples += failures[: MOST_EXAMPLES - len(self.examples)]


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
) -> FeatureTally:
    """Measure a collection of images; parts that an earlier run has stored are not measured again.

    SIGTERM and Ctrl-C end it: the first time running parts may finish, the second time it ends at once.

    Args:
        request: Of which images, and what.
        store: Where images and output are.
        options: How.
        observe: Called about twice a second.

    Returns:
        How every image ended.

    Raises:
        JobError: The output belongs to another request, or would be too large for one file.
        ClusterError: Ray or its workers do not start.
        JobStoppedError: The run was asked to end, or met something that every further part would meet.
        KeyboardInterrupt: It was asked twice, or before it had begun.
    """
    output, tally = FeatureOutput(request, store), FeatureTally(len(request.images))
    if output.is_published():
        tally.count(tally.total, output.published_failures())
        output.remove_parts()  # of a run that ended before it had
        return tally
    output.claim()
    there = output.there()
    tally.count(sum(len(request.part_images(part)) for part in there), output.failures(there))
    if missing := sorted(set(request.parts) - set(there)):
        tasks = [PartTask(part, output.part(part), request.part_images(part)) for part in missing]
        _measure(request, store, tasks, tally, options, observe)
    try:
        output.publish()
    except StylebatchError as error:
        raise JobStoppedError(str(error)) from error
    return tally


def _measure(
    request: FeatureRequest,
    store: ObjectStore,
    tasks: Sequence[PartTask],
    tally: FeatureTally,
    options: RunOptions,
    observe: Observer,
) -> None:
    ending = Ending()
    # In this order, because ray.init replaces the handler of SIGTERM.
    with connected(options.address) as resources, noting_signals(ending):
        fleet = _make_fleet(request, store, options, resources)
        _Run(fleet, tasks, tally, options, observe, ending).to_the_end()


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


class _Run:
    """One run over the parts that are missing, on a fleet of workers."""

    def __init__(
        self,
        fleet: Fleet[WaitingPart],
        tasks: Sequence[PartTask],
        tally: FeatureTally,
        options: RunOptions,
        observe: Observer,
        ending: Ending,
    ) -> None:
        self._fleet = fleet
        self._waiting = deque(WaitingPart(task) for task in tasks)
        self._tally = tally
        self._options = options
        self._observe = observe
        self._ending = ending
        self._notices: list[str] = []
        self._started: float | None = None

    def to_the_end(self) -> None:
        """Work until every part is stored."""
        try:
            while left := len(self._waiting) + len(self._fleet.owners):
                if self._ending.reason:
                    self._wind_down()
                self._fleet.poll()
                self._fleet.scale(left)
                self._dispatch()
                self._attend()
        except RayError as error:
            raise JobStoppedError(f"Ray failed: {one_line(error)}") from error
        except StylebatchError as error:
            if self._started is None or isinstance(error, JobStoppedError):
                raise
            raise JobStoppedError(str(error)) from error

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
            self._attend()
        ended = self._tally.measured + self._tally.failed
        raise JobStoppedError(
            f"stopped by {self._ending.reason}: {ended} of {self._tally.total} images have ended; "
            "the others are measured by the same command"
        )

    def _dispatch(self) -> None:
        for member in self._fleet.members:
            if member.takes_work and not member.batches and self._waiting:
                self._started = self._started or time.monotonic()
                member.give([self._waiting.popleft()], time.monotonic())

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
            member.take_back(reference, time.monotonic())
            self._tally.count(outcome.images, outcome.failures)
            self._tally.new += outcome.images

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
        for part in lost:
            self._again(part, has_died, reason)

    def _let_go(self, member: Member[WaitingPart]) -> None:
        """End a worker whose machine leaves; its part waits for another, and is charged with nothing."""
        taken = member.candidates
        self._fleet.release(member)
        self._waiting.extend(taken)
        if taken:
            self._notices.append("a machine leaves the cluster: the part of a worker there waits for another")

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
                total=tally.total,
                ok=tally.measured,
                failed=tally.failed,
                new=tally.new,
                seconds=0.0 if self._started is None else time.monotonic() - self._started,
                workers=tuple(member.progress for member in self._fleet.shown),
                notices=notices,
            )
        )
