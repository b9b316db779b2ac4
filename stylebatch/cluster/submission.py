"""What a cluster is asked to run when a job is submitted to it, and how its end is read. Pure: no Ray."""

import hashlib
import json
import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from stylebatch.cluster.options import DEFAULT_GRACE
from stylebatch.errors import ClusterError, JobError, JobStoppedError, ManifestError
from stylebatch.job import DEFAULT_UNIT_SIZE
from stylebatch.manifest import Manifest
from stylebatch.manifest.rows import Row, recipe_columns
from stylebatch.manifest.schema import readable_columns
from stylebatch.objectstore import is_s3, join_uri, resolve_uri
from stylebatch.pairs import LOCATION_FIELDS
from stylebatch.quoting import MAX_LOCATION, has_credentials, quoted
from stylebatch.recipe import Recipe

MAX_UPLOAD_BYTES = 100 << 20
"""Of a manifest that travels to the cluster: the head keeps it in memory, and every machine gets a copy."""
STOP_MARGIN = 30
"""Seconds that a run has beyond its grace to publish what it has, before Ray kills it."""
STARTING_ERRORS = frozenset(
    {
        "RUNTIME_ENV_SETUP_FAILURE",
        "JOB_SUPERVISOR_ACTOR_START_TIMEOUT",
        "JOB_SUPERVISOR_ACTOR_START_FAILURE",
        "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE",
        "JOB_ENTRYPOINT_COMMAND_START_ERROR",
    }
)
"""What Ray calls the failures of a job whose command was never started."""
NEVER_UNDER_WAY = ("--restart", "--retry-failed")
"""Options that change what a run begins with: one that is under way cannot take them up."""

_PROGRAM = ("python", "-m", "stylebatch")
_REFUSED = 2
_OWN_CODES = (0, 1, _REFUSED)
"""Exit codes of ``run`` that need no further word: what is to be said stands in the log."""


@dataclass(frozen=True)
class SharedFolders:
    """Local folders that every machine of the cluster has at the same place."""

    folders: tuple[str, ...] = ()
    """Absolute paths."""

    def sees(self, uri: str) -> bool:
        """Whether the cluster finds the same there as this machine: on S3, or in a shared folder."""
        return is_s3(uri) or any(f"{uri}/".startswith(f"{folder.rstrip('/')}/") for folder in self.folders)

    def visible_output(self, text: str) -> str:
        """The canonical URI of an output.

        Raises:
            JobError: It is on this machine alone.
            StorageError: It is no location.
        """
        uri = resolve_uri(text)
        if not self.sees(uri):
            raise JobError(
                f"--output {quoted(text, MAX_LOCATION)}: the cluster cannot write to a folder of this "
                "machine; give an s3:// location, or, if every machine of the cluster has that folder at the "
                "same place, name it with --shared"
            )
        return uri

    def check_recipe(self, recipe: Recipe) -> None:
        """Refuse a recipe that names files of this machine.

        Args:
            recipe: With canonical locations.

        Raises:
            JobError: It names one.
        """
        for field, uri in _recipe_locations(recipe):
            if not self.sees(uri):
                raise JobError(f"{field} is {quoted(uri, MAX_LOCATION)}, {_OUT_OF_SIGHT}")

    def _sees_from_anywhere(self, text: str) -> bool:
        """Whether a location that is not on S3 means the same in whatever folder the manifest lies."""
        return text.startswith(("/", "file:")) and self.sees(resolve_uri(text))

    def check_rows(self, manifest: Manifest) -> None:
        """Refuse a manifest that travels to the cluster, but names files that do not.

        What else may be wrong with its rows, the run says.

        Raises:
            ManifestError: A row names one.
            StorageError: What a row names is no location.
        """
        columns = recipe_columns(readable_columns(manifest.schema))
        for row in manifest.rows():
            for column, text in _row_locations(row, columns):
                if not is_s3(text) and not self._sees_from_anywhere(text):
                    raise ManifestError(
                        f"{manifest.uri}: row {row.number}: {column} is {quoted(text, MAX_LOCATION)}, "
                        f"{_OUT_OF_SIGHT}"
                    )


_OUT_OF_SIGHT = (
    "a file of this machine, which the cluster cannot see; put it on s3://, or, if every machine of the "
    "cluster has its folder at the same place, name that folder with --shared"
)


def _recipe_locations(recipe: Recipe) -> Iterator[tuple[str, str]]:
    for field, names in LOCATION_FIELDS.items():
        value = getattr(recipe, field)
        if value is not None and value not in names:
            yield field, value


def _row_locations(row: Row, columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    if row.content is not None:
        yield "content", row.content
    yield from (("style", style) for style in row.styles if style is not None)
    for field, value in zip(columns, row.overrides, strict=True):
        if value is not None and value not in LOCATION_FIELDS.get(field, (value,)):
            yield field, value


def recipe_settings(recipe: Recipe) -> list[str]:
    """The files that a recipe names, as ``--set`` options that mean the same in every working directory."""
    return [f"--set={field}={uri}" for field, uri in _recipe_locations(recipe)]


@dataclass(frozen=True)
class TravellingManifest:
    """Where a cluster finds a manifest, and what has to be taken there."""

    location: str
    """As ``run`` is given it on the cluster."""
    identity: str
    """The same for the same manifest."""
    uploads: Mapping[str, str]
    """Local files by their names in the working directory of the job."""


def travelling(manifest: Manifest) -> TravellingManifest:
    """A manifest of this machine, to be uploaded: its Parquet files, and nothing that lies beside them.

    Raises:
        JobError: It is too large for that.
    """
    size = sum(file.size for file in manifest.files)
    if size > MAX_UPLOAD_BYTES:
        raise JobError(
            f"{manifest.uri} has {size / 1e6:.0f} MB; at most {MAX_UPLOAD_BYTES / 1e6:.0f} MB are taken to a "
            "cluster; copy it to s3:// and submit it from there"
        )
    folder = "manifest" if manifest.files[0].name else "manifest.parquet"
    uploads = {join_uri(folder, file.name) if file.name else folder: file.uri for file in manifest.files}
    return TravellingManifest(folder, f"sha256:{manifest.fingerprint()}", uploads)


@dataclass(frozen=True)
class Submission:
    """A run as a cluster is asked for it."""

    stem: str
    """The submission id without its number: the same for the same job on the same output."""
    arguments: tuple[str, ...]
    """What ``stylebatch`` is given on the cluster."""
    uploads: Mapping[str, str]
    """Local files by their names in the working directory of the job; without any, there is none."""
    stop_seconds: int
    """How long Ray waits between SIGTERM and SIGKILL when the job is stopped."""
    metadata: Mapping[str, str]
    """For those who look at the dashboard."""

    @property
    def entrypoint(self) -> str:
        """The shell command. A cluster without stylebatch is told from one where pairs fail."""
        version, run = (shlex.join([*_PROGRAM, *rest]) for rest in (["--version"], self.arguments))
        return f"{version} || exit {_REFUSED}; exec {run}"


def make_submission(
    manifest: TravellingManifest,
    output: str,
    recipe: Recipe,
    options: Sequence[str],
    *,
    unit_size: int = DEFAULT_UNIT_SIZE,
    grace: float = DEFAULT_GRACE,
    recipe_file: Mapping[str, str] | None = None,
) -> Submission:
    """What to ask a cluster for.

    Args:
        manifest: Where the manifest is.
        output: Canonical URI.
        recipe: The recipe of rows that say nothing else, with canonical locations.
        options: The options of ``run`` but for the output and the address, as they are to be typed there.
        unit_size: As in the options.
        grace: As in the options, in seconds.
        recipe_file: A local recipe file by its name on the cluster, if the options name one.
    """
    uploads = dict(manifest.uploads) | dict(recipe_file or {})
    return Submission(
        stem=_stem(output, manifest.identity, recipe, unit_size),
        arguments=("run", manifest.location, f"--output={output}", *options, "--address=auto"),
        uploads=uploads,
        stop_seconds=math.ceil(grace) + STOP_MARGIN,
        metadata={"manifest": manifest.location, "output": output},
    )


def _stem(output: str, manifest: str, recipe: Recipe, unit_size: int) -> str:
    identity = json.dumps([output, manifest, recipe.fingerprint, unit_size])
    return f"stylebatch-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class SubmittedJob:
    """A job that a cluster knows."""

    submission_id: str
    """Unique on the cluster, also among jobs that have ended."""
    has_ended: bool
    """Whether it succeeded, failed or was stopped."""
    entrypoint: str
    """Its command."""


def job_under_way(stem: str, jobs: Iterable[SubmittedJob]) -> SubmittedJob | None:
    """The latest of these jobs that does the same work and has not ended."""
    mine = [job for job in jobs if _number(stem, job) and not job.has_ended]
    return max(mine, key=lambda job: _number(stem, job), default=None)


def next_submission_id(stem: str, jobs: Iterable[SubmittedJob]) -> str:
    """An id that no job has had: Ray refuses those of jobs that have ended, too."""
    return f"{stem}-{max((_number(stem, job) for job in jobs), default=0) + 1}"


def _number(stem: str, job: SubmittedJob) -> int:
    """Which of the submissions with this stem a job is; 0: none of them."""
    head, _, number = job.submission_id.rpartition("-")
    return int(number) if head == stem and number.isdecimal() else 0


def check_joining(submission: Submission, job: SubmittedJob) -> None:
    """Refuse to follow a job that does less than what was asked for.

    Raises:
        JobError: It was started without ``--restart`` or ``--retry-failed``, which was given now.
    """
    for option in NEVER_UNDER_WAY:
        if option in submission.arguments and job.entrypoint != submission.entrypoint:
            raise JobError(
                f"{job.submission_id} works on this output already, and cannot take up {option}; "
                "stop it first, or wait until it has ended"
            )


def cluster_address(text: str) -> str:
    """The address of a dashboard, as it is used.

    Raises:
        ClusterError: It is none, or carries credentials.
    """
    if has_credentials(text):
        raise ClusterError(
            f"--address {quoted(text, MAX_LOCATION)}: an address must not carry credentials; the cluster's "
            "token is found in ~/.ray/auth_token, or where RAY_AUTH_TOKEN_PATH says"
        )
    address = urlsplit(text)
    if address.scheme not in ("http", "https") or not address.hostname or address.query or address.fragment:
        raise ClusterError(
            f"--address {quoted(text, MAX_LOCATION)} is not a dashboard's address; write http://HEAD:8265 "
            "(stylebatch run takes the addresses auto and HOST:PORT)"
        )
    return text.rstrip("/")


@dataclass(frozen=True)
class JobEnd:
    """How a submitted job ended, in Ray's words."""

    status: str
    """``SUCCEEDED``, ``FAILED`` or ``STOPPED``."""
    exit_code: int | None
    """Of its command; None where it did not end by itself."""
    error_type: str | None
    """What failed, where the command was not what failed."""
    message: str
    """Ray's sentence."""


def exit_code(submission_id: str, end: JobEnd) -> int:
    """The exit code of the run, as if it had run here.

    Raises:
        ClusterError: It never began.
        JobStoppedError: It stopped part-way.
    """
    if end.exit_code is not None and end.exit_code in _OWN_CODES:
        return end.exit_code
    if end.error_type in STARTING_ERRORS:
        raise ClusterError(f"{submission_id} could not start: {_first_line(end.message)}")
    if end.status == "STOPPED":
        reason = "it was stopped"
    elif end.exit_code is None:
        reason = _first_line(end.message)
    else:
        reason = f"exit code {end.exit_code}; its log says why"
    raise JobStoppedError(f"{submission_id} has ended part-way: {reason}")


def _first_line(message: str) -> str:
    return next((line.strip() for line in message.splitlines() if line.strip()), "Ray does not say why")
