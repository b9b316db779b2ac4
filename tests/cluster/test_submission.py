"""What a cluster is asked to run: ids, commands, files that travel, and how an end is read."""

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stylebatch.cluster import submission
from stylebatch.cluster.submission import (
    JobEnd,
    SharedFolders,
    Submission,
    SubmittedJob,
    TravellingManifest,
    check_joining,
    cluster_address,
    exit_code,
    job_under_way,
    make_submission,
    next_submission_id,
    recipe_settings,
    travelling,
)
from stylebatch.errors import ClusterError, JobError, JobStoppedError, ManifestError, StorageError
from stylebatch.manifest import Manifest, open_manifest, write_manifest
from stylebatch.recipe import Recipe
from stylebatch.storage import LocalStore

THERE = TravellingManifest("s3://bucket/pairs.parquet", "s3://bucket/pairs.parquet", {})
NONE = SharedFolders()
SHARED = SharedFolders(("/mnt/efs", "/data/"))


def submitted(*options: str, **changes: Any) -> Submission:
    given = {"manifest": THERE, "output": "s3://bucket/out", "recipe": Recipe(), "options": options} | changes
    return make_submission(**given)


def job(submission_id: str, has_ended: bool = False, entrypoint: str = "") -> SubmittedJob:
    return SubmittedJob(submission_id, has_ended, entrypoint)


class TestSubmission:
    def test_the_arguments(self) -> None:
        assert submitted("--set=size=64", "--restart").arguments == (
            "run",
            "s3://bucket/pairs.parquet",
            "--output=s3://bucket/out",
            "--set=size=64",
            "--restart",
            "--address=auto",
        )

    def test_the_shell_gives_every_argument_as_it_was(self, tmp_path: Path) -> None:
        strange = ['--set=start=s3://bucket/it\'s $HOME `x` "y";.png', "--recipe=s3://bucket/a & b.yaml"]
        program = tmp_path / "python"
        program.write_text('#!/bin/sh\nfor text in "$@"; do echo "$text"; done\n')
        program.chmod(0o755)
        asked = submitted(*strange)
        done = subprocess.run(
            asked.entrypoint,
            shell=True,
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        version, run = ["-m", "stylebatch", "--version"], ["-m", "stylebatch", *asked.arguments]
        assert done.stdout.splitlines() == [*version, *run]

    @pytest.mark.parametrize(("version_code", "code"), [(1, 2), (0, 7)])
    def test_a_cluster_without_stylebatch_refuses(self, tmp_path: Path, version_code: int, code: int) -> None:
        program = tmp_path / "python"
        program.write_text(f'#!/bin/sh\n[ "$3" = --version ] && exit {version_code}\nexit 7\n')
        program.chmod(0o755)
        path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        assert subprocess.run(submitted().entrypoint, shell=True, env=path, check=False).returncode == code

    def test_the_same_job_has_the_same_stem(self) -> None:
        one = submitted("--workers=3", "--restart", grace=2.0)
        assert one.stem == submitted().stem
        assert re.fullmatch(r"stylebatch-[0-9a-f]{16}", one.stem)

    @pytest.mark.parametrize(
        "changes",
        [
            {"output": "s3://bucket/other"},
            {"manifest": TravellingManifest("s3://bucket/others.parquet", "s3://bucket/others.parquet", {})},
            {"recipe": Recipe(seed=1)},
            {"unit_size": 7},
        ],
    )
    def test_another_job_has_another_stem(self, changes: dict[str, Any]) -> None:
        assert submitted(**changes).stem != submitted().stem

    def test_a_manifest_that_travels_is_known_by_what_it_holds(self) -> None:
        here, there = (TravellingManifest("manifest.parquet", f"sha256:{n}", {}) for n in "12")
        assert submitted(manifest=here).stem != submitted(manifest=there).stem

    @pytest.mark.parametrize(("grace", "seconds"), [(30.0, 60), (0.0, 30), (2.5, 33)])
    def test_ray_waits_longer_than_the_grace(self, grace: float, seconds: int) -> None:
        assert submitted(grace=grace).stop_seconds == seconds

    def test_what_travels(self) -> None:
        manifest = TravellingManifest(
            "manifest.parquet", "sha256:0", {"manifest.parquet": "/p/pairs.parquet"}
        )
        asked = submitted(manifest=manifest, recipe_file={"recipe.yaml": "/p/r.yaml"})
        assert asked.uploads == {"manifest.parquet": "/p/pairs.parquet", "recipe.yaml": "/p/r.yaml"}
        assert asked.metadata == {"manifest": "manifest.parquet", "output": "s3://bucket/out"}


class TestSubmissionIds:
    def test_the_first(self) -> None:
        others = [job("raysubmit_x"), job("s-other-9"), job("s"), job("s-"), job("s-x"), job("s-²")]
        assert next_submission_id("s", others) == "s-1"
        assert job_under_way("s", others) is None

    def test_an_id_is_never_used_again(self) -> None:
        ended = [job("s-2", True), job("s-10", True), job("s-1", True)]
        assert next_submission_id("s", ended) == "s-11"
        assert job_under_way("s", ended) is None

    def test_the_one_that_has_not_ended(self) -> None:
        assert job_under_way("s", [job("s-1", True), job("s-2"), job("t-3")]) == job("s-2")
        assert job_under_way("s", [job("s-10"), job("s-9")]) == job("s-10")


class TestJoining:
    @pytest.mark.parametrize("option", ["--restart", "--retry-failed"])
    def test_a_job_that_does_less_is_not_followed(self, option: str) -> None:
        asked = submitted(option)
        check_joining(asked, job("s-1", entrypoint=asked.entrypoint))
        with pytest.raises(JobError, match=f"s-1 works on this output already, and cannot take up {option}"):
            check_joining(asked, job("s-1", entrypoint=submitted().entrypoint))

    def test_another_number_of_workers_does_no_less(self) -> None:
        check_joining(submitted("--workers=3"), job("s-1", entrypoint=submitted().entrypoint))


class TestSharedFolders:
    @pytest.mark.parametrize(
        ("uri", "is_seen"),
        [
            ("s3://bucket/x", True),
            ("/mnt/efs", True),
            ("/mnt/efs/a/b.png", True),
            ("/mnt/efs2/b.png", False),
            ("/mnt", False),
            ("/data/x", True),
            ("/home/me/x", False),
        ],
    )
    def test_what_the_cluster_sees(self, uri: str, is_seen: bool) -> None:
        assert SHARED.sees(uri) == is_seen
        assert NONE.sees(uri) == uri.startswith("s3://")

    def test_the_root_may_be_shared(self) -> None:
        assert SharedFolders(("/",)).sees("/home/me")

    def test_an_output(self) -> None:
        assert NONE.visible_output("s3://bucket/out/") == "s3://bucket/out"
        assert SHARED.visible_output("/mnt/efs/../efs/out") == "/mnt/efs/out"
        with pytest.raises(JobError, match=r"--output 'out': the cluster cannot write .* give an s3://"):
            SHARED.visible_output("out")
        with pytest.raises(JobError, match="the cluster cannot write"):
            SHARED.visible_output("/mnt/efs/../out")
        with pytest.raises(StorageError, match="must not carry credentials"):
            NONE.visible_output("s3://key:secret@bucket/out")

    def test_a_recipe(self) -> None:
        NONE.check_recipe(Recipe(start="content", weights="s3://bucket/w.bin", histogram="style"))
        SHARED.check_recipe(Recipe(weights="/data/w.bin"))
        with pytest.raises(JobError, match=r"weights is '/data/w\.bin', a file of this machine"):
            NONE.check_recipe(Recipe(weights="/data/w.bin"))

    def test_the_settings_of_a_recipe_mean_the_same_everywhere(self) -> None:
        recipe = Recipe(weights="/data/w.bin", start="s3://bucket/s.png", spectrum="content")
        assert recipe_settings(recipe) == ["--set=start=s3://bucket/s.png", "--set=weights=/data/w.bin"]
        assert recipe_settings(Recipe()) == []


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Manifest]:
    """``written(content=[...], ...)``: a manifest of these columns in a folder of this machine."""

    def write(name: str = "pairs.parquet", **columns: list[Any]) -> Manifest:
        write_manifest(LocalStore(), f"{tmp_path}/{name}", pa.table(columns))
        return open_manifest(LocalStore(), f"{tmp_path}/{name.partition('/')[0]}")

    return write


class TestManifestsThatTravel:
    def test_rows_on_s3_and_in_shared_folders(self, written: Callable[..., Manifest]) -> None:
        manifest = written(
            content=["s3://bucket/a.png", "/mnt/efs/a.png", None],
            style=[["s3://bucket/s"], ["file:///data/s"], ["/data/s"]],
            seed=[1, None, 3],
            start=["s3://bucket/t.png", "content", None],
            note=["/home/me", "./b.png", None],
        )
        SHARED.check_rows(manifest)

    @pytest.mark.parametrize(
        ("columns", "sentence"),
        [
            (
                {"content": ["s3://bucket/a.png", "a.png"]},
                r"row 1: content is .a\.png., a file of",
            ),
            ({"content": ["../../../../../mnt/efs/a.png"]}, "row 0: content is '../"),  # from here alone
            ({"content": ["/mnt/efs/../a.png"]}, "row 0: content is '/mnt"),
            ({"content": ["file:///home/a.png"]}, "row 0: content is 'file"),
            ({"style": ["s3://bucket/s", "/home/s"]}, "row 1: style is '/home/s'"),
            ({"style": [["s3://bucket/s", "/home/s"]]}, "row 0: style is '/home/s'"),
            (
                {"content": ["s3://bucket/a"], "start": ["./s.png"], "seed": [1]},
                r"row 0: start is '\./s\.png'",
            ),
        ],
    )
    def test_rows_that_name_files_of_this_machine(
        self, written: Callable[..., Manifest], columns: dict[str, list[Any]], sentence: str
    ) -> None:
        with pytest.raises(ManifestError, match=sentence):
            SHARED.check_rows(written(**columns))

    def test_one_file(self, written: Callable[..., Manifest], tmp_path: Path) -> None:
        manifest = written("some pairs.parquet", content=["s3://bucket/a.png"])
        assert travelling(manifest) == TravellingManifest(
            "manifest.parquet",
            f"sha256:{manifest.fingerprint()}",
            {"manifest.parquet": f"{tmp_path}/some pairs.parquet"},
        )

    def test_a_folder_without_what_lies_beside(
        self, written: Callable[..., Manifest], tmp_path: Path
    ) -> None:
        written("pairs/a/1.parquet", content=["s3://bucket/a.png"])
        (tmp_path / "pairs" / "notes.txt").write_text("private")
        (tmp_path / "pairs" / "_temporary.parquet").write_text("half")
        manifest = written("pairs/b.parquet", content=["s3://bucket/b.png"])
        assert travelling(manifest).location == "manifest"
        assert travelling(manifest).uploads == {
            "manifest/a/1.parquet": f"{tmp_path}/pairs/a/1.parquet",
            "manifest/b.parquet": f"{tmp_path}/pairs/b.parquet",
        }

    def test_a_large_one_stays(
        self, written: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        manifest = written(content=["s3://bucket/a.png"])
        monkeypatch.setattr(submission, "MAX_UPLOAD_BYTES", 100)
        with pytest.raises(JobError, match=r"pairs\.parquet has 0 MB; .* copy it to s3://"):
            travelling(manifest)


@pytest.mark.parametrize(
    ("text", "address"),
    [("http://head:8265/", "http://head:8265"), ("https://ray.example/team", "https://ray.example/team")],
)
def test_addresses(text: str, address: str) -> None:
    assert cluster_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "auto", "head:8265", "head", "ray://head:10001", "http://", "http://h?x=1"]
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ClusterError, match="is not a dashboard's address; write http://HEAD:8265"):
        cluster_address(text)


def test_an_address_without_credentials() -> None:
    with pytest.raises(ClusterError, match="must not carry credentials") as raised:
        cluster_address("http://me:secret@head:8265")
    assert "secret" not in str(raised.value)


class TestEnds:
    @pytest.mark.parametrize(("status", "code"), [("SUCCEEDED", 0), ("FAILED", 1), ("FAILED", 2)])
    def test_the_runs_own_code(self, status: str, code: int) -> None:
        assert exit_code("s-1", JobEnd(status, code, None, "")) == code

    @pytest.mark.parametrize(
        ("end", "sentence"),
        [
            (JobEnd("FAILED", 3, "JOB_ENTRYPOINT_COMMAND_ERROR", "x"), "exit code 3; its log says why"),
            (JobEnd("FAILED", -9, "JOB_ENTRYPOINT_COMMAND_ERROR", "x"), "exit code -9; its log says why"),
            (JobEnd("STOPPED", None, None, "Job was stopped."), "it was stopped"),
            (JobEnd("FAILED", None, "JOB_SUPERVISOR_ACTOR_DIED", "\nactor died:\nmore"), "actor died:"),
            (JobEnd("FAILED", None, None, ""), "Ray does not say why"),
        ],
    )
    def test_part_way(self, end: JobEnd, sentence: str) -> None:
        with pytest.raises(JobStoppedError) as raised:
            exit_code("s-1", end)
        assert str(raised.value) == f"s-1 has ended part-way: {sentence}"

    @pytest.mark.parametrize("error_type", sorted(submission.STARTING_ERRORS))
    def test_it_never_began(self, error_type: str) -> None:
        from ray.job_submission import JobErrorType

        assert error_type in {kind.value for kind in JobErrorType}
        with pytest.raises(ClusterError, match=r"s-1 could not start: runtime_env setup failed"):
            exit_code("s-1", JobEnd("FAILED", None, error_type, "runtime_env setup failed\n..."))


def test_the_entrypoint_is_one_line() -> None:
    assert shlex.split(submitted().entrypoint)[:4] == ["python", "-m", "stylebatch", "--version"]
    assert "\n" not in submitted().entrypoint
