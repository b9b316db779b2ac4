"""The commands: one test asserts the exact library call, others run a command for real."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from inmemory import picture_bytes
from PIL import Image

import stylebatch
from stylebatch.cli import main
from stylebatch.cluster import driver
from stylebatch.cluster.options import RunOptions
from stylebatch.cluster.progress import Observer, Progress
from stylebatch.cluster.scaling import WorkerLimits
from stylebatch.errors import (
    ClusterError,
    CredentialsError,
    JobError,
    JobStoppedError,
    ManifestError,
    StylebatchError,
)
from stylebatch.job import DEFAULT_UNIT_SIZE, Job, Tally
from stylebatch.pictures import DEFAULT_MAX_PIXELS, read_provenance
from stylebatch.recipe import Recipe
from stylebatch.storage import UriStore

QUICK = ["--set", "size=32", "--set", "iterations=2", "--set", "start=content"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: ``photos/a.png``, ``photos/more/b.jpg``, ``style.png``, ``pairs.parquet``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "more").mkdir(parents=True)
    (tmp_path / "photos" / "a.png").write_bytes(picture_bytes(40, 30, 1))
    (tmp_path / "photos" / "more" / "b.jpg").write_bytes(picture_bytes(30, 40, 2, "JPEG"))
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    (tmp_path / "style.png").write_bytes(picture_bytes(32, 32, 3))
    columns = {"content": ["photos/a.png", "photos/more/b.jpg"], "style": ["style.png"] * 2}
    pq.write_table(pa.table(columns), tmp_path / "pairs.parquet")
    return tmp_path


class Library:
    """Stands for :func:`run_job`: notes the call, and ends as it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Job, Any, RunOptions]] = []
        self.notices: tuple[str, ...] = ()
        self.tally = Tally(ok=2)
        self.error: BaseException | None = None

    def __call__(
        self, job: Job, store: Any, options: RunOptions, observe: Observer, watchers: Any = ()
    ) -> Tally:
        self.calls.append((job, store, options))
        self.watchers = watchers
        observe(Progress(2, 1, 0, 1, 1.0, ()))
        observe(Progress(2, 2, 0, 2, 1.0, (), self.notices))
        if self.error:
            raise self.error
        return self.tally


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    double = Library()
    monkeypatch.setattr(driver, "run_job", double)
    return double


def recipe_of(library: Library, *options: str) -> Recipe:
    assert main(["run", "pairs.parquet", "-o", "out", *options]) == 0
    return library.calls[-1][0].recipe


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command says as it refuses."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("stylebatch: ")
    return err


class TestRun:
    def test_the_library_gets_what_the_user_asked_for(
        self, folder: Path, library: Library, capsys: pytest.CaptureFixture[str]
    ) -> None:
        arguments = ["--workers", "3", "--address", "auto", "--device", "gpu", "--batch", "4"]
        arguments += ["--gpus-per-worker", "0.5"]
        arguments += ["--unit-size", "7", "--max-pixels", "1000", "--stall-timeout", "90"]
        arguments += ["--checkpoint-seconds", "0", "--grace", "2.5", "--retry-failed", "--no-merge"]
        assert main(["run", "pairs.parquet", "--output", "out", *arguments]) == 0
        ((job, store, options),) = library.calls
        assert options == RunOptions(
            workers=3,
            gpus_per_worker=0.5,
            address="auto",
            device="gpu",
            largest_batch=4,
            max_pixels=1000,
            stall_timeout=90,
            checkpoint_seconds=0,
            grace=2.5,
            retry_failed=True,
            merge=False,
        )
        assert isinstance(store, UriStore)
        assert job.manifest.uri == f"{folder}/pairs.parquet"
        assert (job.output, job.unit_size, job.recipe) == (f"{folder}/out", 7, Recipe())
        lines = capsys.readouterr().out.splitlines()
        assert lines == [
            f"2 pairs from {folder}/pairs.parquet",
            "1/2 done, 0 failed, 3600 pairs/h, 1 s left | ",  # the next line is due in five seconds
            "2 of 2 pairs ok, 0 failed.",
            f"Pictures: {folder}/out/images",
            f"Table:    {folder}/out/results (Parquet; status, losses, hashes and errors of every row)",
        ]

    def test_the_defaults(self, folder: Path, library: Library) -> None:
        assert main(["run", "pairs.parquet", "-o", "s3://bucket/out"]) == 0
        ((job, _, options),) = library.calls
        assert options == RunOptions() == RunOptions(max_pixels=DEFAULT_MAX_PIXELS)
        assert (job.output, job.unit_size) == ("s3://bucket/out", 256)

    @pytest.mark.parametrize(
        ("text", "workers"),
        [("auto", None), ("1", 1), ("2:8", WorkerLimits(2, 8)), ("4:4", WorkerLimits(4, 4))],
    )
    def test_workers_are_a_number_or_a_range(
        self, folder: Path, library: Library, text: str, workers: int | WorkerLimits | None
    ) -> None:
        assert main(["run", "pairs.parquet", "-o", "out", "--workers", text]) == 0
        assert library.calls[-1][2].workers == workers

    @pytest.mark.parametrize("text", ["0", "0:3", "3:2", "2:", ":2", "1:2:3", "two", "1.5", "-1", ""])
    def test_what_is_neither_is_said(self, text: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["run", "pairs.parquet", "-o", "out", f"--workers={text}"])
        assert f"{text!r} is not auto, a whole number of 1 or more, or MIN:MAX" in capsys.readouterr().err

    @pytest.mark.parametrize("text", ["0", "-0.5", "1.5", "2", "nan", "half", "0.001"])
    def test_a_worker_has_a_gpu_or_a_part_of_one(self, text: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["run", "pairs.parquet", "-o", "out", f"--gpus-per-worker={text}"])
        assert f"{text!r} is not a number from 0.01 to 1" in capsys.readouterr().err

    def test_the_help_tells_the_defaults(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="0"):
            main(["run", "--help"])
        told = " ".join(capsys.readouterr().out.split())
        defaults = RunOptions()
        assert f"checkpoints of a pair ({defaults.checkpoint_seconds:g})" in told
        assert f"worker is replaced ({defaults.stall_timeout:g})" in told
        assert f"after SIGTERM or Ctrl-C ({defaults.grace:g})" in told
        assert f"finished and published together ({DEFAULT_UNIT_SIZE})" in told
        assert f"more pixels ({defaults.max_pixels // 10**6} million)" in told

    @pytest.mark.parametrize("seconds", ["-1", "nan", "inf", "soon", ""])
    def test_seconds_are_a_number(
        self, folder: Path, library: Library, capsys: pytest.CaptureFixture[str], seconds: str
    ) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["run", "pairs.parquet", "-o", "out", f"--grace={seconds}"])
        assert f"{seconds!r} is not a number of seconds, 0 or more" in capsys.readouterr().err
        assert not library.calls

    def test_starting_over_and_trying_again_exclude_each_other(
        self, folder: Path, library: Library, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["run", "pairs.parquet", "-o", "out", "--restart", "--retry-failed"])
        assert "not allowed with argument" in capsys.readouterr().err

    def test_what_happens_on_the_way_is_told(
        self, folder: Path, library: Library, capsys: pytest.CaptureFixture[str]
    ) -> None:
        library.notices = ("a worker on [host] is replaced",)
        assert main(["run", "pairs.parquet", "-o", "out"]) == 0
        assert capsys.readouterr().err == "stylebatch: a worker on [host] is replaced\n"

    @pytest.mark.parametrize("option", ["--restart", "--retry-failed"])
    def test_the_command_that_resumes_neither_throws_away_nor_opens_again(
        self,
        folder: Path,
        library: Library,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        option: str,
    ) -> None:
        monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
        library.error = JobStoppedError("stopped by SIGTERM")
        (folder / "my pairs.parquet").write_bytes((folder / "pairs.parquet").read_bytes())
        assert main(["run", "my pairs.parquet", "-o", "out", option, "--set", "size=32"]) == 3
        assert capsys.readouterr().err.splitlines() == [
            "stylebatch: stopped by SIGTERM",
            "To go on where it stopped:",
            "  stylebatch run 'my pairs.parquet' -o out --set size=32",
        ]

    def test_failed_pairs_are_no_success(
        self, folder: Path, library: Library, capsys: pytest.CaptureFixture[str]
    ) -> None:
        row = {"pair_id": "p", "status": "failed", "error_type": "PictureError", "error": "b.jpg is empty"}
        library.tally = Tally(ok=1)
        library.tally.count(row, is_new=True)
        assert main(["run", "pairs.parquet", "-o", "out"]) == 1
        out = capsys.readouterr().out
        assert "1 of 2 pairs ok, 1 failed." in out
        assert "    p: b.jpg is empty" in out

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (JobStoppedError("the disk is full"), 3),
            (JobError("another job's output"), 2),
            (ClusterError("no cluster"), 2),
            (CredentialsError("no credentials"), 2),
            (ManifestError("row 3 is bad"), 2),
            (StylebatchError("something"), 2),
            (KeyboardInterrupt(), 3),
        ],
    )
    def test_exit_codes(
        self,
        folder: Path,
        library: Library,
        capsys: pytest.CaptureFixture[str],
        error: BaseException,
        code: int,
    ) -> None:
        library.error = error
        assert main(["run", "pairs.parquet", "-o", "out"]) == code
        err = capsys.readouterr().err
        assert str(error) in err
        assert ("To go on where it stopped:" in err) == (code == 3)
        assert "Traceback" not in err

    def test_an_error_nobody_expected_is_not_hidden(self, folder: Path, library: Library) -> None:
        library.error = ZeroDivisionError("a bug")
        with pytest.raises(ZeroDivisionError):
            main(["run", "pairs.parquet", "-o", "out"])

    def test_a_bad_manifest_is_refused_before_any_work(
        self, folder: Path, library: Library, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert "gone.parquet: there is no such file" in refused(capsys, "run", "gone.parquet", "-o", "out")
        pq.write_table(pa.table({"content": ["a.png"], "loss": [1.0]}), folder / "bad.parquet")
        assert "column 'loss' has the name of a result column" in refused(
            capsys, "run", "bad.parquet", "-o", "out"
        )
        assert library.calls == []
        assert not (folder / "out").exists()


class TestRecipeOptions:
    def test_a_preset(self, folder: Path, library: Library) -> None:
        assert recipe_of(library, "--preset", "photo") == Recipe.preset("photo")

    def test_later_words_win(self, folder: Path, library: Library) -> None:
        (folder / "r.yaml").write_text("iterations: 20\ntolerance: 0.5\nstyle_weight: 1e4\n")
        options = ["--set", "tolerance=0.25", "--recipe", "r.yaml", "--preset", "photo", "--set", "seed=1"]
        recipe = recipe_of(library, *options, "--set", "seed=2")
        assert recipe.start == "recoloured"  # the preset
        assert (recipe.iterations, recipe.style_weight) == (20, 1e4)  # the file
        assert (recipe.tolerance, recipe.seed) == (0.25, 2)  # --set, the last of two

    def test_fields_from_text(self, folder: Path, library: Library) -> None:
        recipe = recipe_of(
            library,
            *("--set", "style_layers=conv1_1, conv2_1", "--set", "shorter_side=64", "--set", "seed=1e3"),
        )
        assert (recipe.style_layers, recipe.shorter_side, recipe.size) == (("conv1_1", "conv2_1"), 64, None)
        assert recipe.seed == 1000

    def test_locations_are_those_of_the_working_directory(self, folder: Path, library: Library) -> None:
        assert recipe_of(library, "--set", "start=./style.png").start == f"{folder}/style.png"

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                ["--set", "style_weight"],
                "--set style_weight: write FIELD=VALUE, as in --set style_weight=1e4",
            ),
            (["--set", "style_wieght=1"], "did you mean style_weight?"),
            (["--set", "style_weight=lots"], "style_weight is 'lots'; it must be a finite number"),
            (["--set", "style_weight=-1"], "style_weight is -1.0; it must be a finite number"),
            (["--set", "=3"], "there is no field ''"),
            (["--preset", "foto"], "there is no preset 'foto' (did you mean photo?)"),
            (["--recipe", "gone.yaml"], "gone.yaml"),
            (["--set", "size=64", "--set", "pixels=4096"], "size and pixels are both given"),
        ],
    )
    def test_what_is_wrong_is_said(
        self, folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
    ) -> None:
        assert message in refused(capsys, "run", "pairs.parquet", "-o", "out", *options)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a: [", "r.yaml: the file is not YAML: line 1"),
            ("seed: !!python/object/apply:os.system ['touch hacked']", "r.yaml: line 1: there is a tag"),
            ("seed: !!python/name:os.system", "r.yaml: line 1: there is a tag"),
            ("\x00", "r.yaml: the file is not YAML"),
            ("seed: !!int few", "r.yaml"),
            ("seed: 2024-13-45", "r.yaml"),
            pytest.param("[" * 5000, "r.yaml", id="nested"),
            ("", "r.yaml: the file holds no fields; a recipe file is YAML text with lines of the form"),
            ("- seed", "r.yaml: the file holds no fields"),
            ("photo", "r.yaml: the file holds no fields"),
            ("seeds: 3", "there is no field 'seeds' (did you mean seed?)"),
            ("seed: [3]", "seed is [3]; it must be a whole number"),
            ("seed: 2024-01-01", "seed is datetime.date(2024, 1, 1); it must be a whole number"),
            ("3: 4", "line 1: a field's name is not text"),
        ],
    )
    def test_a_recipe_file_is_data_and_its_faults_are_said(
        self, folder: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
    ) -> None:
        (folder / "r.yaml").write_text(text)
        assert message in refused(capsys, "run", "pairs.parquet", "-o", "out", "--recipe", "r.yaml")
        assert not (folder / "hacked").exists()


class TestParsing:
    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["fly"],
            ["run"],
            ["run", "pairs.parquet"],
            ["run", "pairs.parquet", "-o", "out", "--workers", "0"],
            ["run", "pairs.parquet", "-o", "out", "--batch", "-1"],
            ["run", "pairs.parquet", "-o", "out", "--device", "tpu"],
            ["stylize", "a.png", "-o", "out.png"],
            ["manifest", "photos", "-o", "m.parquet"],
        ],
    )
    def test_what_cannot_be_parsed_shows_the_usage(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as raised:
            main(arguments)
        assert raised.value.code == 2
        assert "usage: stylebatch" in capsys.readouterr().err

    def test_a_number_that_is_none_is_said_plainly(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["run", "pairs.parquet", "-o", "out", "--workers", "two"])
        err = capsys.readouterr().err
        assert "two" in err
        assert "_positive" not in err

    def test_the_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as raised:
            main(["--version"])
        assert raised.value.code == 0
        assert capsys.readouterr().out == f"stylebatch {stylebatch.__version__}\n"

    def test_help_names_commands_and_exit_codes(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["--help"])
        out = capsys.readouterr().out
        for word in ("run", "stylize", "manifest", "validate", "show", "demo", "Exit codes: 0 all ok"):
            assert word in out

    def test_as_a_module_it_returns_its_exit_code(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "stylebatch", "show", f"{tmp_path}/gone.png"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.startswith("stylebatch: ")
        assert "Traceback" not in done.stderr


class TestManifest:
    @pytest.mark.parametrize(
        ("on_path", "program"), [("/usr/bin/stylebatch", "stylebatch"), (None, ".venv/bin/stylebatch")]
    )
    def test_every_content_with_every_style(
        self,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        on_path: str | None,
        program: str,
    ) -> None:
        monkeypatch.setattr(shutil, "which", lambda name: on_path)
        monkeypatch.setattr(sys, "argv", [".venv/bin/stylebatch", "manifest"])
        (folder / "other.png").write_bytes(picture_bytes(20, 20, 4))
        styles = ["--style", "style.png", "other.png"]
        assert main(["manifest", "photos", "photos/a.png", *styles, "-o", "new/m.parquet"]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "new/m.parquet: 4 pairs (2 contents, 2 styles)",
            f"Next: {program} run new/m.parquet --output OUT --preset photo",
        ]
        table = pq.read_table(folder / "new" / "m.parquet")
        contents, styles = table["content"].to_pylist(), table["style"].to_pylist()
        a, b = f"{folder}/photos/a.png", f"{folder}/photos/more/b.jpg"
        s, o = f"{folder}/style.png", f"{folder}/other.png"
        assert list(zip(contents, styles, strict=True)) == [(a, s), (a, o), (b, s), (b, o)]

    def test_what_it_makes_is_valid(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["manifest", "photos/*.png", "--style", "style.png", "-o", "m.parquet"]) == 0
        assert main(["validate", "m.parquet"]) == 0
        assert "1 pair: every row is valid." in capsys.readouterr().out

    def test_nothing_found_is_said(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert "there are no pictures here" in refused(
            capsys, "manifest", "photos/*.tif", "--style", "style.png", "-o", "m.parquet"
        )
        assert not (folder / "m.parquet").exists()


class TestValidate:
    def test_a_good_manifest(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["validate", "pairs.parquet", "--set", "size=64"]) == 0
        out = capsys.readouterr().out.splitlines()
        assert out[0] == "2 pairs: every row is valid."
        assert sorted(out[1:3]) == ["  1 picture of 48 x 64", "  1 picture of 64 x 48"]
        assert out[3] == "  2 batches, the largest of 1 picture"
        assert out[4].endswith("GB of memory in each CPU worker")

    def test_images_that_would_fail_are_no_success(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (folder / "photos" / "a.png").unlink()
        assert main(["validate", "pairs.parquet"]) == 1
        out = capsys.readouterr().out
        assert "1 pair would fail:" in out
        assert f"{folder}/photos/a.png" in out

    def test_ten_faults_make_one_report_that_names_them_all(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        columns = {
            "content": ["a.jpg", None, "c.jpg", "ftp://h/d.jpg", "e.jpg", "f.jpg", "f.jpg", None],
            "style": [["s.jpg"], [], ["s.jpg"], ["s.jpg"], ["s.jpg", None], ["s.jpg"], ["s.jpg"], ["s.jpg"]],
            "pair_id": ["one", "two", "One", "../up", "five", "six", "six", "eight"],
            "style_weight": [1.0, 1.0, -3.0, 1.0, 1.0, 1.0, 1.0, 1.0],
            "start": pa.array([None] * 7 + ["content"]),
            "seed": [0.5] * 8,
            "iteratoins": [1.0] * 8,
            "loss": [1.0] * 8,
        }
        pq.write_table(pa.table(columns), folder / "bad.parquet")
        report = refused(capsys, "validate", "bad.parquet")
        for line in (
            "column 'seed' is double; it must be an integer type",
            "column 'loss' has the name of a result column; rename it",
            "column 'iteratoins' is not a recipe field (did you mean iterations?)",
            "row 1: content and style are both null; give one of them",
            "row 2: style_weight is -3.0; it must be a finite number",
            "row 3: pair_id is '../up'; it must be 1 to 128 characters",
            "row 3: content: ftp:// locations are not supported",
            "row 4: style is a list with a null in it; leave it out",
            "row 7: start is content, but content is null",
            "rows 0 and 2 have the pair_ids 'one' and 'One'",
            "rows 5 and 6 have the same pair_id 'six'",
        ):
            assert report.count(line) == 1, line

    def test_the_recipe_of_the_options_counts(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        pq.write_table(pa.table({"style": ["style.png"]}), folder / "textures.parquet")
        assert main(["validate", "textures.parquet"]) == 0
        capsys.readouterr()
        assert "start is recoloured, but content is null" in refused(
            capsys, "validate", "textures.parquet", "--preset", "photo"
        )


class TestStylizeAndShow:
    @pytest.fixture
    def result(self, folder: Path) -> Path:
        assert main(["stylize", "photos/a.png", "style.png", "-o", "out/result.png", *QUICK]) == 0
        return folder / "out" / "result.png"

    def test_one_picture(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["stylize", "photos/a.png", "style.png", "-o", "out/result.png", *QUICK]) == 0
        out = capsys.readouterr().out
        assert out.startswith("out/result.png: 32 x 24, loss ")
        assert "2 evaluations (iterations)" in out
        with Image.open(folder / "out" / "result.png") as image:
            assert (image.size, image.mode, image.format) == ((32, 24), "RGB", "PNG")

    def test_show_prints_how_it_was_made(self, result: Path, capsys: pytest.CaptureFixture[str]) -> None:
        capsys.readouterr()
        assert main(["show", "out/result.png"]) == 0
        shown = yaml.safe_load(capsys.readouterr().out)
        assert shown == read_provenance(result.read_bytes(), "result.png")
        assert (shown["pair_id"], shown["content_name"], shown["style_names"]) == (
            "result",
            "a.png",
            ["style.png"],
        )
        assert (shown["size"], shown["iterations"], shown["start"]) == (32, 2, "content")
        assert shown["loss"] > 0

    @pytest.mark.parametrize(
        ("content", "style", "loss"),
        [("none", "style.png", "content 0,"), ("photos/a.png", "none", "style 0)")],
    )
    def test_none_stands_for_nothing(
        self, folder: Path, capsys: pytest.CaptureFixture[str], content: str, style: str, loss: str
    ) -> None:
        options = [*QUICK, "--set", "start=noise"]
        assert main(["stylize", content, style, "-o", "t.png", *options]) == 0
        assert loss in capsys.readouterr().out

    @pytest.mark.parametrize(("name", "format"), [("r.jpg", "JPEG"), ("r.JPEG", "JPEG"), ("r.PNG", "PNG")])
    def test_the_name_says_the_format(self, folder: Path, name: str, format: str) -> None:
        assert main(["stylize", "photos/a.png", "style.png", "-o", name, *QUICK]) == 0
        with Image.open(folder / name) as image:
            assert image.format == format

    @pytest.mark.parametrize(
        ("output", "options", "advice"),
        [
            ("r.gif", [], "use .png for png"),
            ("r", [], "use .png for png"),
            ("r.png", ["--set", "format=jpeg"], "use .jpg for jpeg"),
        ],
    )
    def test_a_name_that_says_another_format_is_refused(
        self,
        folder: Path,
        capsys: pytest.CaptureFixture[str],
        output: str,
        options: list[str],
        advice: str,
    ) -> None:
        message = refused(capsys, "stylize", "photos/a.png", "style.png", "-o", output, *options)
        assert f"{output} does not end as a file of its format does; {advice}" in message
        assert not (folder / output).exists()

    def test_bad_images_are_said(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        message = refused(capsys, "stylize", "photos/notes.txt", "style.png", "-o", "r.png", *QUICK)
        expected = f"{folder}/photos/notes.txt is not a picture in a format that is read here: PNG, JPEG, "
        assert message.startswith(f"stylebatch: {expected}")
        assert "gone.png" in refused(capsys, "stylize", "gone.png", "style.png", "-o", "r.png", *QUICK)

    def test_images_over_the_limit_are_refused(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        command = ["stylize", "photos/a.png", "style.png", "-o", "r.png", *QUICK]
        assert "a.png is 40 x 30 pixels; at most 1199 pixels are decoded" in refused(
            capsys, *command, "--max-pixels", "1199"
        )
        assert main([*command, "--max-pixels", "1200"]) == 0

    def test_show_says_what_it_cannot_show(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert "carries no provenance" in refused(capsys, "show", "style.png")
        assert "is not a picture" in refused(capsys, "show", "photos/notes.txt")
        assert "gone.png" in refused(capsys, "show", "gone.png")
