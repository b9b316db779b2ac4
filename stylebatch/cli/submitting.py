"""The command ``submit``: ``run`` on a Ray cluster, by way of its dashboard."""

import argparse
import functools
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from stylebatch.cli.exits import ALL_OK, STOPPED
from stylebatch.cli.settings import program, recipe_of

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
"""Where ``ray dashboard`` and ``kubectl port-forward`` lead from."""
OWN = ("address", "shared", "follow")
"""What concerns the submission alone; everything else is passed on to ``run``."""
REPLACED = ("manifest", "output", "recipe")
"""What is passed on by the place where the cluster finds it."""
ONCE = ("restart", "retry_failed", "follow")
"""What the command that looks again leaves out."""
RECIPE_NAME = "recipe.yaml"
"""A local recipe file's name in the working directory of the job."""


def add_submit(commands: Any, add_run_options: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add the command ``submit`` to the others.

    Args:
        commands: What :meth:`argparse.ArgumentParser.add_subparsers` returned.
        add_run_options: Adds the arguments and options of ``run``.
    """
    parser = commands.add_parser(
        "submit",
        help="run the pairs of a manifest on a Ray cluster",
        description=submit.__doc__,
        conflict_handler="resolve",  # --address is another one here
    )
    add_run_options(parser)
    parser.add_argument(
        "--address",
        default=DEFAULT_ADDRESS,
        metavar="URL",
        help=f"of the cluster's dashboard ({DEFAULT_ADDRESS}, where `ray dashboard` leads)",
    )
    parser.add_argument(
        "--shared",
        action="append",
        default=[],
        metavar="FOLDER",
        help="a folder that every machine of the cluster has at the same place; repeatable",
    )
    parser.add_argument(
        "--no-follow", dest="follow", action="store_false", help="do not wait for the job and show its log"
    )
    actions = tuple(action for action in parser._actions if action.dest != "help")
    for action in actions:
        action.type = action.type and _as_written(action.type)
    parser.set_defaults(command=submit, actions=actions)


def _as_written(convert: Any) -> Callable[[str], str]:
    """A type of :mod:`argparse` that checks a text and keeps it: it is read again on the cluster."""

    @functools.wraps(convert)
    def check(text: str) -> str:
        convert(text)
        return text

    return check


def typed_options(options: argparse.Namespace, without: Sequence[str]) -> Iterator[str]:
    """The options that were given, as they can be typed again, but for those without a place there."""
    for action in options.actions:
        value = getattr(options, action.dest)
        if action.option_strings and action.dest not in without and value != action.default:
            name = _long_name(action, value)
            values = value if isinstance(value, list) else [value]
            yield from [name] if action.nargs == 0 else (f"{name}={text}" for text in values)


def _long_name(action: argparse.Action, value: Any) -> str:
    """``--name``, or ``--no-name`` where an option that has both was given so."""
    names = [text for text in action.option_strings if text.startswith("--")]
    return names[-1] if isinstance(action, argparse.BooleanOptionalAction) and not value else names[0]


def submit(options: argparse.Namespace) -> int:
    """Run a manifest on a Ray cluster: its dashboard starts the run on the head, and the log is shown here.

    Submitted again while it runs, it is followed and not started twice. Ctrl-C leaves it running.
    """
    from stylebatch.cluster.submission import check_joining, cluster_address
    from stylebatch.cluster.submitter import ClusterJobs, connect

    address = cluster_address(options.address)
    submission = _submission(options)
    jobs = ClusterJobs(address, connect(address))
    job, is_new = jobs.submit(submission)
    if not is_new:
        check_joining(submission, job)
    print(
        *_opening_lines(options, job.submission_id, is_new, job.entrypoint == submission.entrypoint), sep="\n"
    )
    return _followed(jobs, job.submission_id, options) if options.follow else ALL_OK


def _submission(options: argparse.Namespace) -> Any:
    """What is asked of the cluster.

    Raises:
        StylebatchError: Something is not as ``run`` wants it, or is out of the cluster's sight.
    """
    from stylebatch.cluster.options import DEFAULT_GRACE
    from stylebatch.cluster.submission import SharedFolders, make_submission, recipe_settings
    from stylebatch.job import DEFAULT_UNIT_SIZE
    from stylebatch.objectstore import resolve_uri
    from stylebatch.pairs import resolve_locations

    shared = SharedFolders(tuple(resolve_uri(folder) for folder in options.shared))
    output = shared.visible_output(options.output)
    recipe = resolve_locations(recipe_of(options))
    shared.check_recipe(recipe)
    recipe_option, recipe_file = _recipe_file(options, shared)
    return make_submission(
        _manifest(options, shared),
        output,
        recipe,
        [*recipe_option, *typed_options(options, (*OWN, *REPLACED)), *recipe_settings(recipe)],
        unit_size=int(options.unit_size or DEFAULT_UNIT_SIZE),
        grace=float(options.grace or DEFAULT_GRACE),
        recipe_file=recipe_file,
    )


def _recipe_file(options: argparse.Namespace, shared: Any) -> tuple[list[str], Mapping[str, str]]:
    """The option that names the recipe file on the cluster, and the file to be taken there."""
    from stylebatch.objectstore import resolve_uri

    if not options.recipe:
        return [], {}
    uri = resolve_uri(options.recipe)
    if shared.sees(uri):
        return [f"--recipe={uri}"], {}
    return [f"--recipe={RECIPE_NAME}"], {RECIPE_NAME: uri}


def _manifest(options: argparse.Namespace, shared: Any) -> Any:
    """Where the cluster finds the manifest; one of this machine is checked, to be taken there."""
    from stylebatch.cluster.submission import TravellingManifest, travelling
    from stylebatch.manifest import open_manifest
    from stylebatch.objectstore import resolve_uri
    from stylebatch.storage import UriStore

    uri = resolve_uri(options.manifest)
    if shared.sees(uri):
        return TravellingManifest(uri, uri, {})
    manifest = open_manifest(UriStore(), uri)
    shared.check_rows(manifest)
    return travelling(manifest)


def _followed(jobs: Any, submission_id: str, options: argparse.Namespace) -> int:
    from stylebatch.cluster.submission import exit_code

    try:
        end = jobs.follow(submission_id, _write)
    except KeyboardInterrupt:
        print(
            f"\nDetached; {submission_id} goes on.",
            *_hints(options, submission_id),
            sep="\n",
            file=sys.stderr,
        )
        return STOPPED
    return exit_code(submission_id, end)


def _write(text: str) -> None:
    print(text, end="", flush=True)


def _opening_lines(
    options: argparse.Namespace, submission_id: str, is_new: bool, is_same: bool
) -> Iterator[str]:
    if is_new:
        yield f"Submitted to {options.address} as {submission_id}."
    else:
        other = "" if is_same else ", started with other options"
        yield f"{submission_id} does this work already{other}; nothing was submitted."
    if not options.follow:
        yield from _hints(options, submission_id)


def _hints(options: argparse.Namespace, submission_id: str) -> Iterator[str]:
    """How to look again, and how to end the job."""
    again = [program(), "submit", options.manifest, *typed_options(options, ONCE)]
    yield f"To look again:\n  {shlex.join(again)}"
    yield f"To stop it, with checkpoints:\n  {shlex.join(_stop_command(submission_id, options.address))}"


def _stop_command(submission_id: str, address: str) -> list[str]:
    mode = os.environ.get("RAY_AUTH_MODE")
    shown = [f"RAY_AUTH_MODE={mode}"] if mode else []
    return [*shown, "ray", "job", "stop", submission_id, "--address", address]
