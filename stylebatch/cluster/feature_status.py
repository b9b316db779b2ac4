"""What an output of ``features`` says of its run, for ``status``. Needs no Ray."""

import json
from collections.abc import Mapping
from typing import Any

from stylebatch.cluster.feature_layout import FeatureLayout
from stylebatch.errors import JobError, NotFoundError
from stylebatch.job.status import Found, look
from stylebatch.objectstore import ObjectStore
from stylebatch.pair.feature_table import read_description, read_failures

COUNTED = "image"
"""What a row of a table of features is."""


def find_features(store: ObjectStore, output: str) -> Found | None:
    """What an output of features says of its run; None if it is none.

    Raises:
        JobError: A file of features is damaged.
        StorageError: The storage cannot be read.
    """
    layout = FeatureLayout(output)
    if not layout.is_one_file:
        return _parts(store, layout)
    # Once more at last: its parts go when the file is there, which may be between two looks.
    return _file(store, layout) or _parts(store, layout) or _file(store, layout)


def _parts(store: ObjectStore, layout: FeatureLayout) -> Found | None:
    try:
        request = json.loads(store.get(layout.request))
    except NotFoundError:
        request = None
    except (ValueError, RecursionError):
        request = {}
    return look(store, layout, None if request is None else _identity(request), COUNTED)


def _file(store: ObjectStore, layout: FeatureLayout) -> Found | None:
    """Of a table that is one file and there: all its images have ended."""
    try:
        rows = read_description(store, layout.output).get("images")
    except (NotFoundError, JobError):  # not there yet, or a table of something else
        return None
    failed = len(read_failures(store, layout.output))
    success = {"rows": rows, "ok": rows - failed, "failed": failed} if isinstance(rows, int) else {}
    return Found(layout.output, {"rows": rows}, None, None, None, 0, success, COUNTED)


def _identity(request: Any) -> Mapping[str, Any]:
    """The rows of a request as a job has them."""
    known = request if isinstance(request, Mapping) else {}
    return {"rows": known.get("images"), "unit_size": known.get("images_per_part")}
