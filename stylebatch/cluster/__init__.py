"""Driver and workers: the only folder that knows Ray."""

import os
from pathlib import Path

if (Path.home() / ".ray" / "auth_token").is_file():
    # Ray's clusters ask for this token, but its clients show it only if told before Ray is imported.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
