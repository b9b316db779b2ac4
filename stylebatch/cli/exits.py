"""What a command is, and the exit codes."""

import argparse
from collections.abc import Callable

ALL_OK, SOME_FAILED, REFUSED, STOPPED, RUNNING = 0, 1, 2, 3, 4
"""Exit codes: every pair ok; some pairs failed; refused before any work; stopped part-way, resumable; and of
``status`` alone, a driver is at work."""

Command = Callable[[argparse.Namespace], int]
"""From the parsed options to an exit code."""
