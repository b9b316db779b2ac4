"""Whether an output tells the truth: every published picture against the table, from the files alone."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stylebatch.audit.accounting import part_problems, read_plan, read_success, success_problems
from stylebatch.audit.checking import RowChecker
from stylebatch.audit.conditions import Conditions, has_own_columns
from stylebatch.audit.remaking import runner
from stylebatch.audit.verdict import Problem, Verdict, VerifyOptions
from stylebatch.errors import JobError
from stylebatch.job.generations import file_sha256
from stylebatch.layout import Layout
from stylebatch.objectstore import ObjectStore
from stylebatch.output import unit_rows
from stylebatch.recipe import FILE_SUFFIXES
from stylebatch.results import open_results

OnProblem = Callable[[Problem], None]
"""Told of each problem as it is found."""
OnRow = Callable[[int, int], None]
"""Told after each row how many of how many are done."""

Row = Mapping[str, Any]


def verify(
    store: ObjectStore,
    output: str,
    options: VerifyOptions,
    on_problem: OnProblem,
    on_row: OnRow = lambda done, rows: None,
) -> Verdict:
    """Check every published picture of an output, finished or not, against the table, and make a few again.

    Nothing is written. The table is read unit by unit.

    Args:
        store: Where everything is.
        output: Canonical URI of the output folder.
        options: How.
        on_problem: Told of each problem as it is found.
        on_row: Told after each row how many of how many are done.

    Raises:
        JobError: The output is not one, or has no results.
        StorageError: The storage cannot be asked.
    """
    verifier = _Verifier(store, output, on_problem, on_row)
    with runner(store, output, options.device, options.threads) as own:
        verifier.check_parts(RowChecker(store, options, own, verifier.verdict), options)
    verifier.check_files()
    verifier.check_success()
    return verifier.verdict


class _Verifier:
    """One pass over an output; the arguments are those of :func:`verify`."""

    def __init__(self, store: ObjectStore, output: str, on_problem: OnProblem, on_row: OnRow) -> None:
        self._store = store
        self._layout = Layout(output)
        self._on_problem = on_problem
        self._on_row = on_row
        self._plan = read_plan(store, self._layout)
        self._results = open_results(store, output)
        self._conditions = Conditions(store, self._plan)
        self._damaged: set[str] = set()
        is_complete = read_success(store, self._layout) is not None
        self.verdict = Verdict(self._plan.rows, len(self._plan.units), len(self._results.units), is_complete)

    def check_parts(self, checker: RowChecker, options: VerifyOptions) -> None:
        """Check every finished unit that there is, row by row."""
        chosen = self._chosen(options)
        for unit in self._results.units:
            rows = self._rows(unit)
            if rows is None:
                continue
            for what in part_problems(self._plan, unit, rows):
                self._report(self._results.where(unit), what)
            self._check_conditions(unit, rows)
            for row in rows:
                self._check_row(checker, unit, row, chosen)
            self._check_folder(unit, rows)

    def _check_conditions(self, unit: int, rows: Sequence[Row]) -> None:
        """Compare the experiment's own columns with the manifest, or note that this cannot be done."""
        for where, what in self._conditions.problems(self._plan.unit_rows(unit), rows):
            self._report(where, what)
        if any(map(has_own_columns, rows)):
            self.verdict.not_compared = self._conditions.why_unknown

    def _rows(self, unit: int) -> list[dict[str, Any]] | None:
        """The rows of a unit; None if they cannot be read, which is reported once for each file."""
        uri = self._results.where(unit)
        try:
            return unit_rows(self._results, unit)
        except JobError as error:
            if uri not in self._damaged:
                self._report(uri, str(error))
            self._damaged.add(uri)
            return None

    def check_files(self) -> None:
        """Check that merged files are what they were when they were written."""
        generation = self._results.generation
        for file in generation.files if generation else ():
            uri = self._results.where(file.units[0].start)
            if file_sha256(self._store, uri, file.size) != file.sha256:
                self._report(uri, "it was changed: its SHA-256 is not the one in _generation.json")

    def _check_row(self, checker: RowChecker, unit: int, row: Row, chosen: frozenset[int]) -> None:
        verdict = self.verdict
        if row["status"] == "ok":
            for what in checker.problems(row, unit, self._image(unit, row), verdict.ok in chosen):
                self._report(row["pair_id"], what)
            verdict.ok += 1
        else:
            verdict.failed += 1
        self._on_row(verdict.ok + verdict.failed, verdict.rows)

    def _check_folder(self, unit: int, rows: Sequence[Row]) -> None:
        """No picture of a finished unit is without a row."""
        known = {self._image(unit, row) for row in rows if row["status"] == "ok"}
        for stored in self._store.list(self._layout.images(unit)):
            if stored.uri not in known:
                self._report(stored.uri, "no row of the table has this picture")

    def check_success(self) -> None:
        """Check the counts of a finished job."""
        ok, failed = self.verdict.ok, self.verdict.failed
        counted = {"rows": ok + failed, "ok": ok, "failed": failed}
        for what in success_problems(self._store, self._layout, self._plan, counted, [*self._results.units]):
            self._report(self._layout.success, what)

    def _chosen(self, options: VerifyOptions) -> frozenset[int]:
        """Which pairs are made again, by their place among those that are ok."""
        ok = sum(row["status"] == "ok" for unit in self._results.units for row in self._statuses(unit))
        wanted = min(options.resynthesize, ok)
        return frozenset(random.Random(options.seed).sample(range(ok), wanted))

    def _statuses(self, unit: int) -> list[dict[str, Any]]:
        try:
            return unit_rows(self._results, unit, ["status"])
        except JobError:
            return []  # said when the part has its turn

    def _image(self, unit: int, row: Row) -> str:
        """Where a row's picture stands, wherever the output has been moved to."""
        return self._layout.image(unit, str(row["pair_id"]), FILE_SUFFIXES.get(row["format"], ""))

    def _report(self, where: str, what: str) -> None:
        self.verdict.problems += 1
        self._on_problem(Problem(where.removeprefix(f"{self._layout.output}/"), what))
