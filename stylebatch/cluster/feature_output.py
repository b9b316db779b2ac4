"""What the output of ``features`` holds, and when: the request, parts, and the one table they become."""

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

from stylebatch.cluster.feature_layout import REQUEST_NAME, FeatureLayout
from stylebatch.errors import JobError, NotFoundError
from stylebatch.job import Tally
from stylebatch.job.parallel import for_each, in_threads
from stylebatch.job.publishing import encode_counts
from stylebatch.objectstore import ObjectStore
from stylebatch.pair.feature_request import FeatureRequest, differences
from stylebatch.pair.feature_table import feature_schema, join_parts, read_description, read_failures

LARGEST_FILE_BYTES = 2 * 2**30
"""Of the features in one file: it is put together in memory."""

NOT_MEASURED = "NotMeasured"
"""The type of error of an image without features; the table has the sentence alone."""

Failure = tuple[str, str]
"""An image without features, and the reason."""


class FeatureOutput:
    """One output: a Parquet file whose parts stand beside it until it is there, or a folder of parts.

    Everything is put whole and says the same whoever puts it, so what is there can be gone on from, whatever
    ended the run before.
    """

    def __init__(self, request: FeatureRequest, store: ObjectStore) -> None:
        self.schema = feature_schema(request.settings, request.identity())
        self._request = request
        self._store = store
        self._layout = FeatureLayout(request.output)

    def open(self) -> tuple[Tally, list[int]]:
        """Claim the output, and find out what has been done.

        Returns:
            How the images of what is there have ended, and the parts that are missing.

        Raises:
            JobError: It is another request's, or somebody else's.
        """
        if self.is_published():
            failures = read_failures(self._store, self._request.output)
            return images_tally(len(self._request.images), failures, is_new=False), []
        self.claim()
        there = self.there()
        missing = sorted({*self._request.parts}.difference(there))
        if missing:
            self._store.delete(self._layout.success)  # of a folder from which somebody has removed a part
        return self._tally(there), missing

    def is_published(self) -> bool:
        """Whether the one file is there; a folder has none.

        Raises:
            JobError: It is no table of features, or another request's.
        """
        if not self._layout.is_one_file:
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
            theirs = json.loads(self._store.get(self._layout.request))
        except NotFoundError:
            self._refuse_leftovers()
            identity = json.dumps(self._request.identity(), indent=2)
            self._store.put(self._layout.request, identity.encode())
            return
        except (ValueError, RecursionError) as error:
            raise JobError(
                f"{self._layout.request} is damaged: it is not JSON; give another --output"
            ) from error
        self._refuse_others(theirs)

    def _refuse_leftovers(self) -> None:
        """Parts without a request are of nobody knows what."""
        if found := self.there():
            raise JobError(
                f"{self._layout.results} holds {self._layout.part(found[0])} but no {REQUEST_NAME}, so what "
                "it was made from is not known; give another --output"
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
        file = [self._request.output] if self._layout.is_one_file else []
        return " and ".join([*file, self._layout.results])

    def there(self) -> list[int]:
        """The parts that are there, in order."""
        uris = {stored.uri for stored in self._store.list(self._layout.results)}
        return [number for number in self._request.parts if self._layout.part(number) in uris]

    def _tally(self, parts: Sequence[int]) -> Tally:
        """How the images of some parts that are there have ended."""
        images = sum(len(self._request.part_images(part)) for part in parts)
        each = in_threads(lambda uri: read_failures(self._store, uri), map(self._layout.part, parts))
        return images_tally(images, [*chain.from_iterable(each)], is_new=False)

    def publish(self, tally: Tally) -> None:
        """Make the one file of all parts, unless it is there, or say that the folder has all of them.

        Args:
            tally: How all images have ended.

        Raises:
            JobError: A part is damaged.
            StorageError: A part is not there, or the file cannot be put.
        """
        if not self._layout.is_one_file:
            self._store.put(self._layout.success, encode_counts(tally))
        elif not self.is_published():
            parts = map(self._layout.part, self._request.parts)
            self._store.put(self._request.output, join_parts(self._store, parts, self.schema))

    def remove_parts(self) -> None:
        """Delete the parts of a file that is there, and at last whose they were; a folder keeps them."""
        if self._layout.is_one_file:
            for_each(self._store.delete, [self._layout.part(number) for number in self.there()])
            self._store.delete(self._layout.progress)
            self._store.delete(self._layout.request)


def images_tally(images: int, failures: Sequence[Failure], is_new: bool) -> Tally:
    """What images come to that have ended.

    Args:
        images: How many.
        failures: Those of them that have no features.
        is_new: Whether they have ended in this run.
    """
    measured = images - len(failures)
    tally = Tally(ok=measured, skipped=0 if is_new else measured)
    for image, error in failures:
        row = {"status": "failed", "error_type": NOT_MEASURED, "pair_id": image, "error": error}
        tally.count(row, is_new)
    return tally


def check_size(request: FeatureRequest) -> None:
    """Refuse a table that is too large for one file.

    Raises:
        JobError: It is.
    """
    projected = len(request.images) * request.settings.row_bytes
    if request.is_one_file and projected > LARGEST_FILE_BYTES:
        raise JobError(
            f"these features of {len(request.images)} images take {projected / 1e9:.3g} GB (projected), and "
            f"one file is put together in memory: at most {LARGEST_FILE_BYTES / 1e9:.3g} GB. Give a folder "
            "as --output (a name that does not end in .parquet), or --project"
        )
