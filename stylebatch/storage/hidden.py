"""Names of what storing makes for itself for a moment, and no listing shows."""

import hashlib
import uuid

HIDDEN_PREFIX = ".stylebatch-"
"""What every such name begins with."""
_TEMPORARY_SUFFIX = ".tmp"
_LOCK_SUFFIX = ".lock"


def temporary_name() -> str:
    """A new name for something that is about to get its own, or to go."""
    return f"{HIDDEN_PREFIX}{uuid.uuid4().hex}{_TEMPORARY_SUFFIX}"


def lock_name(name: str) -> str:
    """The name of the file whose lock guards the file ``name`` beside it."""
    return f"{HIDDEN_PREFIX}{hashlib.sha256(name.encode()).hexdigest()[:32]}{_LOCK_SUFFIX}"


def is_hidden(name: str) -> bool:
    """Whether this is such a name."""
    return name.startswith(HIDDEN_PREFIX) and name.endswith((_TEMPORARY_SUFFIX, _LOCK_SUFFIX))


def is_lock(name: str) -> bool:
    """Whether this is a name by :func:`lock_name`."""
    return is_hidden(name) and name.endswith(_LOCK_SUFFIX)
