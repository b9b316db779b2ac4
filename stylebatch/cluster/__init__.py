"""Driver and workers: the only folder that knows Ray."""

import os
from pathlib import Path

_TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")

if any(os.environ.get(name) for name in _TOKEN_VARIABLES) or (Path.home() / ".ray" / "auth_token").is_file():
    # Ray's clusters ask for this token, but its clients show it only if told before Ray is imported.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
