"""A cluster's token is shown to it without being asked for, unless the user says otherwise."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

NONE: Mapping[str, str] = {}


@pytest.mark.parametrize(
    ("has_token", "given", "mode"),
    [
        (True, NONE, "token"),
        (False, NONE, "None"),
        (False, {"RAY_AUTH_TOKEN_PATH": "/somewhere/token"}, "token"),
        (False, {"RAY_AUTH_TOKEN": "0" * 64}, "token"),
        (False, {"RAY_AUTH_TOKEN": ""}, "None"),
        (True, {"RAY_AUTH_MODE": "disabled"}, "disabled"),
    ],
)
def test_the_token_of_this_user_is_shown(
    tmp_path: Path, has_token: bool, given: Mapping[str, str], mode: str
) -> None:
    if has_token:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("0" * 64)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
    program = "import os, stylebatch.cluster; print(os.environ.get('RAY_AUTH_MODE'))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=kept | {"HOME": str(tmp_path)} | given,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == mode
