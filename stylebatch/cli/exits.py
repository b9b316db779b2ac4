"""What a command is, and the exit codes."""

import argparse
from collections.abc import Callable

ALL_OK, SOME_FAILED, REFUSED, STOPPED = 0, 1, 2, 3
"""Exit codes: every pair ok; some pairs failed; refused before any work; stopped part-way, resumable."""

Command = Callable[[argparse.Namespace], int]
"""From the parsed options to an exit code."""
