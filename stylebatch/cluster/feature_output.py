"""What the output of ``features`` holds, and when: the request, parts, and the one table they become."""

import json
from collections.abc import Sequence
from typing import Any

from stylebatch.errors import JobError, NotFoundError
from stylebatch.job.parallel import for_each, in_threads
from stylebatch.objectstore import ObjectStore, join_uri
from stylebatch.pair.feature_request import FeatureRequest, differences
from stylebatch.pair.feature_table import feature_schema, join_parts, read_description, read_failures

PARTS_SUFFIX = ".parts"
"""Of the folder that holds the parts of a table that is one file."""
REQUEST_NAME = "_request.json"
"""Whose parts these are; readers of a folder of Parquet files pass over names that begin with _."""
LARGEST_FILE_BYTES = 2 * 2**30
"""Of the features in one file: it is put together in memory."""

Failures = list[tuple[str, str]]
"""Images without features, each with the reason."""


class FeatureOutput:
    """One output: a Parquet file whose parts stand beside it until it is there, or a folder of parts.

    Everything is put whole and says the same whoever puts it, so what is there can be gone on from, whatever
    ended the run before.

    Raises:
        JobError: The table would be too large for one file.
    """

    def __init__(self, request: FeatureRequest, store: ObjectStore) -> None:
        self.schema = feature_schema(request.settings, request.identity())
        self._request = request
        self._store = store
        self._folder = request.output + PARTS_SUFFIX if request.is_one_file else request.output
        _check_size(request)

    def part(self, number: int) -> str:
        """Where a part stands."""
        return join_uri(self._folder, f"part-{number:06d}.parquet")

    @property
    def _request_uri(self) -> str:
        return join_uri(self._folder, REQUEST_NAME)

    def is_published(self) -> bool:
        """Whether the one file is there; a folder has none.

        Raises:
            JobError: It is no table of features, or another request's.
        """
        if not self._request.is_one_file:
            return False
        try:
            theirs = read_description(self._store, self._request.output)
        except NotFoundError:
            return False
        self._refuse_others(theirs)
        return True

    def claim(self) -> None:
        """Say whose parts these are, or check that they are this request's.

        Raises:
            JobError: They are another's, of which the message lists every difference.
        """
        try:
            theirs = json.loads(self._store.get(self._request_uri))
        except NotFoundError:
            self._refuse_leftovers()
            identity = json.dumps(self._request.identity(), indent=2)
            self._store.put(self._request_uri, identity.encode())
            return
        except (ValueError, RecursionError) as error:
            raise JobError(
                f"{self._request_uri} is damaged: it is not JSON; give another --output"
            ) from error
        self._refuse_others(theirs)

    def _refuse_leftovers(self) -> None:
        """Parts without a request are of nobody knows what."""
        if found := self.there():
            raise JobError(
                f"{self._folder} holds {self.part(found[0])} but no {REQUEST_NAME}, so what it was made from "
                "is not known; give another --output"
            )

    def _refuse_others(self, theirs: Any) -> None:
        found = differences(theirs if isinstance(theirs, dict) else {}, self._request.identity())
        if found:
            raise JobError(
                f"{self._request.output} holds other features than these; give another --output, repeat that "
                f"request, or delete what is there ({self._all_places}):\n"
                + "\n".join(f"  {difference}" for difference in found)
            )

    @property
    def _all_places(self) -> str:
        file = [self._request.output] if self._request.is_one_file else []
        return " and ".join([*file, self._folder])

    def there(self) -> list[int]:
        """The parts that are there, in order."""
        uris = {stored.uri for stored in self._store.list(self._folder)}
        return [number for number in self._request.parts if self.part(number) in uris]

    def failures(self, parts: Sequence[int]) -> Failures:
        """The images of some parts that have no features."""
        uris = [self.part(number) for number in parts]
        each = in_threads(lambda uri: read_failures(self._store, uri), uris)
        return [failure for failures in each for failure in failures]

    def published_failures(self) -> Failures:
        """The same of the one file."""
        return read_failures(self._store, self._request.output)

    def publish(self) -> None:
        """Make the one file of all parts, if there is to be one.

        Raises:
            JobError: A part is damaged.
            StorageError: A part is not there, or the file cannot be put.
        """
        if self._request.is_one_file:
            parts = (self.part(number) for number in self._request.parts)
            self._store.put(self._request.output, join_parts(self._store, parts, self.schema))
            self.remove_parts()

    def remove_parts(self) -> None:
        """Delete the parts of a file that is there, and at last whose they were."""
        for_each(self._store.delete, [self.part(number) for number in self.there()])
        self._store.delete(self._request_uri)


def _check_size(request: FeatureRequest) -> None:
    projected = len(request.images) * request.settings.row_bytes
    if request.is_one_file and projected > LARGEST_FILE_BYTES:
        raise JobError(
            f"these features of {len(request.images)} images take {projected / 1e9:.3g} GB (projected), and "
            f"one file is put together in memory: at most {LARGEST_FILE_BYTES / 1e9:.3g} GB. Give a folder "
            "as --output (a name that does not end in .parquet), or --project"
        )
