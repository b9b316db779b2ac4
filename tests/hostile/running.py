"""Starts the process for what could end one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("apart.py")


def run_apart(command: str, *paths: Path) -> Any:
    """What a command of ``apart.py`` says; it must come to its end."""
    arguments = [sys.executable, str(PROGRAM), command, *map(str, paths)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)
