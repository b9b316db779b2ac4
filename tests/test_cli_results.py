"""``stylebatch results``: what it prints, and what it writes."""

import csv
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_generations import no_extras

from stylebatch.cli import main
from stylebatch.cli.results import cell
from stylebatch.errors import LeaseError
from stylebatch.job.identity import encode_identity
from stylebatch.job.lease import Lease
from stylebatch.layout import Layout
from stylebatch.pairs import Pair
from stylebatch.recipe import Recipe
from stylebatch.results import encode_part, read_results
from stylebatch.storage import LocalStore
from stylebatch.work import failed_row, source_facts

ROWS = 30


def a_row(number: int) -> dict[str, object]:
    one = Pair(f"p{number:02}", number, "/c.png", ("/s.png",), Recipe())
    if number % 10 == 3:
        return failed_row(one, "PictureError", f"/c.png is empty\x1b[31m ({number} bytes)", 2)
    facts = {**source_facts(one), **one.recipe.to_dict(), "status": "ok"}
    return {**facts, "loss": 1e8 * number, "evaluations": 7, "layer_losses": {"conv1_1": 0.5}}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The output of a job of 30 rows in 15 units, three of which have failed; finished."""
    store, layout = LocalStore(), Layout(str(tmp_path / "out"))
    store.put(layout.job, encode_identity({"format_version": 2, "recipe": {}, "rows": ROWS, "unit_size": 2}))
    for unit in range(ROWS // 2):
        rows = [a_row(2 * unit), a_row(2 * unit + 1)]
        store.put(layout.part(unit), encode_part(rows, no_extras(2)))
    store.put(layout.success, b"{}")
    return tmp_path / "out"


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["results", *arguments]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


class TestPrinting:
    def test_the_first_rows_and_how_many_there_are(
        self, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lines = told(capsys, str(out))
        assert lines[0].split() == ["row", "pair_id", "status", "loss", "evaluations", "seconds", "error"]
        assert lines[2].split() == ["1", "p01", "ok", "1e+08", "7"]
        assert "/c.png is empty?[31m (3 bytes)" in lines[4]
        assert len(lines) == 1 + 20 + 2
        assert lines[-2:] == [
            "30 of 30 rows (3 failed, 27 ok), the first 20 are shown",
            "  3 x PictureError",
        ]

    def test_chosen_rows_and_columns(self, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        options = ["--where", "loss>=2.5e9", "--where", "row!=28", "--columns", "pair_id,layer_losses"]
        assert [line.split() for line in told(capsys, str(out), *options)][:-1] == [
            ["pair_id", "layer_losses"],
            ["p25", '{"conv1_1":', "0.5}"],
            ["p26", '{"conv1_1":', "0.5}"],
            ["p27", '{"conv1_1":', "0.5}"],
            ["p29", '{"conv1_1":', "0.5}"],
        ]

    def test_a_limit(self, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        lines = told(capsys, str(out), "--limit", "1", "--columns", "row", "--columns", "status")
        assert [line.split() for line in lines[:2]] == [["row", "status"], ["0", "ok"]]
        assert lines[2].endswith("the first 1 are shown")

    def test_a_count_alone(self, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert told(capsys, str(out), "--count", "--where", "status=failed") == [
            "3 of 30 rows (3 failed)",
            "  3 x PictureError",
        ]
        assert told(capsys, str(out), "--where", "loss<0") == ["0 of 30 rows"]

    def test_a_running_job(self, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (out / "results" / "part-000004.parquet").unlink()
        assert told(capsys, str(out), "--count")[-1] == "The job is not finished: 28 of 30 rows have ended."


class TestExporting:
    def test_everything_as_parquet(
        self, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        table = tmp_path / "all.parquet"
        expected = read_results(LocalStore(), str(out))
        assert told(capsys, str(out), "-o", str(table)) == [
            f"{table}: 30 rows, {expected.num_columns} columns"
        ]
        assert pq.read_table(table).equals(expected)

    def test_some_as_csv(self, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / "some.csv"
        options = ["--where", "status=ok", "--limit", "4", "--columns", "row,style,layer_losses"]
        assert told(capsys, str(out), "-o", str(file), *options) == [f"{file}: 4 rows, 3 columns"]
        rows = [*csv.DictReader(io.StringIO(file.read_text()))]
        assert [row["row"] for row in rows] == ["0", "1", "2", "4"]
        assert json.loads(rows[0]["style"]) == ["/s.png"]
        assert json.loads(rows[3]["layer_losses"]) == {"conv1_1": 0.5}

    def test_no_rows_are_a_file_too(
        self, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for options in (["--limit", "0"], ["--where", "loss<0"]):
            file = tmp_path / "none.parquet"
            assert told(capsys, str(out), "-o", str(file), *options)[0].startswith(f"{file}: 0 rows")
            assert pq.read_table(file).num_rows == 0


class TestMerging:
    def test_parts_become_one_file(self, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        before = read_results(LocalStore(), str(out))
        assert told(capsys, str(out), "--merge") == ["15 parts merged; the results are in 1 file."]
        assert sorted(path.name for path in (out / "results").glob("*.parquet")) == [
            "part-000000-000014.000001.parquet"
        ]
        assert pq.read_table(out / "results").equals(before)
        assert read_results(LocalStore(), str(out)).equals(before)
        assert json.loads((out / "_SUCCESS").read_text()) == {"rows": 30, "ok": 27, "failed": 3}
        assert told(capsys, str(out), "--merge") == ["Nothing to merge: the results are in 1 file already."]
        assert told(capsys, str(out), "--count")[0] == "30 of 30 rows (3 failed, 27 ok)"

    def test_it_goes_alone(self, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for option in (["--count"], ["--limit", "3"], ["--where", "a=b"], ["-o", "x.csv"]):
            assert main(["results", str(out), "--merge", *option]) == 2
            assert "--merge goes alone" in capsys.readouterr().err
        assert len([*(out / "results").iterdir()]) == 15

    def test_not_while_a_driver_works_there(self, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
        lease = Lease.take(LocalStore(), Layout(str(out)))
        assert main(["results", str(out), "--merge"]) == 2
        assert "is in use by another driver" in capsys.readouterr().err
        lease.release()
        assert issubclass(LeaseError, Exception)


class TestRefusing:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--where", "los=1"], "there is no column 'los'; did you mean loss?"),
            (["--where", "loss"], "'loss' is not a condition"),
            (["--columns", "row,nothing"], "there is no column 'nothing'"),
            (["-o", "x.xlsx"], "x.xlsx: rows are written as .parquet or .csv"),
        ],
    )
    def test_what_cannot_be_answered(
        self, options: list[str], message: str, out: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["results", str(out), *options]) == 2
        told, complaint = capsys.readouterr()
        assert told == ""
        assert message in complaint

    @pytest.mark.parametrize("options", [[], ["--merge"], ["-o", "x.csv"]])
    def test_a_folder_that_is_no_output(
        self, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["results", str(tmp_path), *options]) == 2
        assert "is " in capsys.readouterr().err

    @pytest.mark.parametrize("wrong", ["-1", "two", ""])
    def test_a_limit_is_a_whole_number(self, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["results", "out", f"--limit={wrong}"])
        assert "is not a whole number of 0 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        (0.123456789, "0.123457"),
        (1e300, "1e+300"),
        (12, "12"),
        (True, "True"),
        ("a\nb\x1b[0m", "a?b?[0m"),
        (pa.scalar(3).as_py(), "3"),
    ],
)
def test_a_cell_is_on_one_line(value: object, expected: str) -> None:
    assert cell(value) == expected
