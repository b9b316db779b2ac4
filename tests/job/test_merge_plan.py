"""Which parts become which merged files, from sizes alone."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stylebatch.job.merge_plan import (
    DEFAULT_LIMITS,
    Group,
    MergeLimits,
    ends_here,
    is_worthwhile,
    may_be_worthwhile,
    plan_merge,
    plan_without,
)
from stylebatch.results.generations import MergedFile, spans

MB = 2**20
LIMITS = MergeLimits(target=1000, smallest=500, many_parts=4, worthwhile=2, group_rows=6, group_bytes=100)
"""Three units of two rows in a row group."""


def merged_file(*units: int, size: int = 1000) -> MergedFile:
    ranges = spans(units)
    return MergedFile("a name", ranges, 2 * len(units), size, "0" * 64, 2 * len(units))


def units_of(runs: Sequence[Sequence[Group]]) -> list[list[tuple[int, ...]]]:
    return [[group.units for group in run] for run in runs]


class TestWhetherItIsWorthIt:
    @pytest.mark.parametrize(
        ("parts", "size", "expected"),
        [
            (1, 10, False),
            (255, 100_000, False),  # 25 MB in few files stay as they are
            (256, 1, True),
            (256, 100_000, True),
            (3907, 100_000, True),  # a million rows
            (7, 20 * MB, False),
            (8, 20 * MB, True),  # 160 MB become one file
            (8, 15 * MB, False),  # less than a merged file should have
            (300, 40 * MB, False),  # 12 GB would be 47 files: hardly fewer
            (300, 30 * MB, True),
        ],
    )
    def test_many_parts_or_much_that_become_far_fewer(self, parts: int, size: int, expected: bool) -> None:
        assert is_worthwhile((), dict.fromkeys(range(parts), size), DEFAULT_LIMITS) is expected

    def test_where_there_are_merged_files_every_part_is_merged(self) -> None:
        assert is_worthwhile([merged_file(0, 1)], {2: 1}, DEFAULT_LIMITS)

    def test_nothing_is_not_worth_it(self) -> None:
        assert not is_worthwhile((), {}, DEFAULT_LIMITS)
        assert not is_worthwhile([merged_file(0, 1)], {}, DEFAULT_LIMITS)

    def test_a_small_job_is_not_looked_at(self) -> None:
        """Whatever its parts are: fewer than eight never become eight times fewer."""
        assert not may_be_worthwhile(7, DEFAULT_LIMITS)
        assert may_be_worthwhile(8, DEFAULT_LIMITS)
        assert not is_worthwhile((), dict.fromkeys(range(7), 10**12), DEFAULT_LIMITS)


class TestPlanning:
    def test_parts_of_one_run_are_grouped_in_order(self) -> None:
        plan = plan_merge((), {3: 10, 0: 10, 1: 10, 2: 10}, 2, LIMITS)
        assert plan.kept == ()
        assert plan.runs == ((Group((0, 1, 2), 30), Group((3,), 10)),)

    def test_a_group_holds_no_more_bytes_than_allowed(self) -> None:
        plan = plan_merge((), {0: 60, 1: 60, 2: 40, 3: 500, 4: 1}, 2, LIMITS)
        assert plan.runs == ((Group((0,), 60), Group((1, 2), 100), Group((3,), 500), Group((4,), 1)),)

    def test_a_unit_of_many_rows_is_a_group(self) -> None:
        plan = plan_merge((), {0: 1, 1: 1}, 1000, LIMITS)
        assert units_of(plan.runs) == [[(0,), (1,)]]

    def test_whole_files_stay(self) -> None:
        files = (merged_file(0, 1, 2), merged_file(6, 7, 8))
        plan = plan_merge(files, {3: 300, 4: 300, 5: 300}, 2, LIMITS)
        assert plan.kept == files
        assert units_of(plan.runs) == [[(3,), (4,), (5,)]]

    def test_a_file_that_lacks_units_is_written_anew_with_them(self) -> None:
        whole, holed = merged_file(0, 1, 2, 3), merged_file(4, 6, 7, size=900)
        plan = plan_merge((whole, holed), {5: 80}, 2, replace(LIMITS, group_bytes=1000))
        assert plan.kept == (whole,)
        assert plan.runs == ((Group((4, 5, 6), 680), Group((7,), 300)),)

    def test_few_parts_join_the_file_beside_them(self) -> None:
        """A file whose first or last unit was opened again has no hole; a tiny one would stand beside it."""
        first, last = merged_file(0, 1, 2), merged_file(4, 5, 6)
        plan = plan_merge((first, last), {3: 80}, 2, replace(LIMITS, group_bytes=10_000))
        assert plan.kept == (last,)
        assert units_of(plan.runs) == [[(0, 1, 2), (3,)]]
        plan = plan_merge((merged_file(1, 2, 3),), {0: 80}, 2, replace(LIMITS, group_bytes=10_000))
        assert plan.kept == ()
        assert units_of(plan.runs) == [[(0, 1, 2), (3,)]]

    def test_small_files_and_few_parts_become_one(self) -> None:
        files = (merged_file(0, 1, size=100), merged_file(3, 4, size=100))
        plan = plan_merge(files, {2: 10, 5: 10}, 2, LIMITS)
        assert plan.kept == ()
        assert sorted(unit for (run,) in [plan.runs] for group in run for unit in group.units) == [*range(6)]

    def test_nothing_to_merge(self) -> None:
        files = (merged_file(0, 1),)
        assert plan_merge(files, {}, 2, LIMITS).kept == files
        assert plan_merge(files, {}, 2, LIMITS).runs == ()


class TestTakingUnitsOut:
    def test_the_others_stay_together(self) -> None:
        runs = plan_without(merged_file(0, 1, 2, 3, 4, size=50), frozenset({1, 9}), 2, LIMITS)
        assert runs == ((Group((0, 2, 3), 30), Group((4,), 10)),)

    def test_without_any_other_nothing_is_left(self) -> None:
        assert plan_without(merged_file(0, 1), frozenset({0, 1}), 2, LIMITS) == ()


def written_files(groups: Sequence[Group], ratio: float, limits: MergeLimits) -> list[float]:
    """The sizes of the files that a run becomes, if each byte of a part becomes ``ratio`` bytes."""
    files, read, left = [0.0], 0, sum(group.size for group in groups)
    for group in groups:
        if files[-1] and ends_here(int(files[-1]), read, left, limits):
            files.append(0.0)
            read = 0
        files[-1] += ratio * group.size
        read += group.size
        left -= group.size
    return files


@given(
    sizes=st.lists(st.integers(20_000, 9 * MB), min_size=1, max_size=300),
    repeats=st.integers(1, 20),
    ratio=st.floats(0.1, 1.1),
)
def test_files_have_128_to_512_mb_where_there_is_so_much(
    sizes: list[int], repeats: int, ratio: float
) -> None:
    parts: Mapping[int, int] = dict(enumerate(itertools.chain.from_iterable([sizes] * repeats)))
    (run,) = plan_merge((), parts, 256, DEFAULT_LIMITS).runs
    assert [unit for group in run for unit in group.units] == [*parts]
    assert all(len(group.units) == 1 or group.size <= DEFAULT_LIMITS.group_bytes for group in run)
    files = written_files(run, ratio, DEFAULT_LIMITS)
    if len(files) == 1:
        assert files[0] < 512 * MB
    else:
        assert all(127 * MB <= size <= 512 * MB for size in files)
    assert sum(files) == pytest.approx(ratio * sum(parts.values()))
