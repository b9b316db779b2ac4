"""The commands: parse, call the library, print. The only room that prints or exits."""

import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from stylebatch.cli.exits import REFUSED, STOPPED, Command
from stylebatch.cli.parser import make_parser
from stylebatch.cli.settings import program
from stylebatch.errors import JobStoppedError, StylebatchError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    texts = sys.argv[1:] if arguments is None else list(arguments)
    options = make_parser().parse_args(texts)
    command: Command = options.command
    try:
        with _terminated_like_interrupted():
            return command(options)
    except JobStoppedError as error:
        _complain(error)
        _say_how_to_go_on(texts)
        return STOPPED
    except StylebatchError as error:
        _complain(error)
        return REFUSED
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        if options.is_resumable:
            _say_how_to_go_on(texts)
        return STOPPED


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does; a run that is under way takes both for itself."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say_how_to_go_on(texts: Sequence[str]) -> None:
    """Print the command that resumes: the same one, but for what would throw away or open again."""
    again = [text for text in texts if text not in ("--restart", "--retry-failed")]
    print(f"To go on where it stopped:\n  {shlex.join([program(), *again])}", file=sys.stderr)


def _complain(error: StylebatchError) -> None:
    print(f"stylebatch: {error}", file=sys.stderr)
