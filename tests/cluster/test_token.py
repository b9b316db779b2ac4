"""A cluster's token is shown to it without being asked for, unless the user says otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("has_token", "given", "mode"),
    [(True, None, "token"), (False, None, "None"), (True, "disabled", "disabled")],
)
def test_the_token_in_the_home_is_shown(
    tmp_path: Path, has_token: bool, given: str | None, mode: str
) -> None:
    if has_token:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray" / "auth_token").write_text("0" * 64)
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}
    environment |= {"HOME": str(tmp_path)} | ({"RAY_AUTH_MODE": given} if given else {})
    program = "import os, stylebatch.cluster; print(os.environ.get('RAY_AUTH_MODE'))"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == mode
