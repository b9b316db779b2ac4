"""Everything that stylebatch raises on purpose.

Two facts about an error decide what the program does with it: whether trying the same thing again can
help, and whether it concerns one pair or the whole job. Each class states both.
"""

from typing import ClassVar


class StylebatchError(Exception):
    """The root of the tree. Its message says what is wrong, where, and what to do."""

    can_retry: ClassVar[bool] = False
    """Whether the same call may succeed later, with nothing changed by the user."""

    stops_job: ClassVar[bool] = False
    """Whether every other pair would meet the same error, so that the job must stop."""


class RecipeError(StylebatchError):
    """A recipe has an unknown field, or a value that is not allowed."""

    stops_job = True


class ManifestError(StylebatchError):
    """A manifest cannot be read, or its rows do not describe pairs."""

    stops_job = True


class DesignError(StylebatchError):
    """A design file cannot be read, or what it asks for cannot be made."""

    stops_job = True


class JobError(StylebatchError):
    """A job cannot start: its output belongs to another job, or cannot be used."""

    stops_job = True


class JobStoppedError(JobError):
    """A job stopped part-way; the same command goes on where it stopped."""


class LeaseError(JobError):
    """Another driver works on this output, or has taken it over."""


class QueryError(StylebatchError):
    """What is asked of a table of results cannot be answered, or not be written as it is asked."""

    stops_job = True


class WeightsError(StylebatchError):
    """A weights file is missing, is not a VGG-19, or its family is unknown."""

    stops_job = True


class ClusterError(StylebatchError):
    """Ray cannot give the workers that the job needs."""

    stops_job = True


class MetadataError(StylebatchError):
    """A machine's metadata service does not answer, or not as it should."""

    can_retry = True


class PictureError(StylebatchError):
    """Bytes that are not a usable picture; the pair that needs them fails."""


class SynthesisError(StylebatchError):
    """The optimiser could not make a picture of this pair."""


class MemoryExceededError(StylebatchError):
    """One picture needs more memory than its worker has."""


class OutputConflictError(StylebatchError):
    """Something else put a file where a pair's picture belongs; the pair fails, the file stays."""


class StorageError(StylebatchError):
    """A storage location could not be used."""


class ConfigurationError(StorageError):
    """The storage cannot be used as it is set up."""

    stops_job = True


class NotFoundError(StorageError):
    """There is no object or file at this URI."""


class AccessDeniedError(StorageError):
    """The storage refuses this request to these credentials."""


class BucketNotFoundError(StorageError):
    """The bucket of this URI does not exist."""

    stops_job = True


class CredentialsError(StorageError):
    """There are no credentials, or the storage does not know them."""

    stops_job = True


class StorageFullError(StorageError):
    """The disk or the account has no room left."""

    stops_job = True


class StorageUnavailableError(StorageError):
    """The storage throttles, times out or drops connections, after all retries."""

    can_retry = True
