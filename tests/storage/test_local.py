"""What a store of local files adds: durability, temporary files, locks, and what the system refuses."""

import errno
import fcntl
import io
import os
import shutil
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest
from places import DATA, OPERATIONS

from stylebatch.errors import (
    AccessDeniedError,
    ConfigurationError,
    NotFoundError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from stylebatch.storage import LocalStore
from stylebatch.storage.hidden import lock_name


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "images" / "picture.png"


@pytest.mark.parametrize(
    ("operation", "step"),
    [("put", "fsync"), ("put", "replace"), ("put_if_absent", "fsync"), ("put_if_absent", "link")],
)
def test_a_full_disk_leaves_nothing_and_stops_the_job(
    monkeypatch: pytest.MonkeyPatch, file: Path, operation: str, step: str
) -> None:
    file.parent.mkdir()
    monkeypatch.setattr(os, step, _raise(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    with pytest.raises(StorageFullError, match=r"picture\.png: no space left on device"):
        OPERATIONS[operation](LocalStore(), str(file))
    assert [*file.parent.iterdir()] == []


def _raise(error: Exception) -> Callable[..., NoReturn]:
    def raising(*_arguments: object, **_options: object) -> NoReturn:
        raise error

    return raising


def test_a_failed_put_keeps_what_was_there(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    LocalStore().put(str(file), b"before")
    monkeypatch.setattr(os, "replace", _raise(OSError(errno.EIO, os.strerror(errno.EIO))))
    with pytest.raises(StorageError):
        LocalStore().put(str(file), b"after")
    assert file.read_bytes() == b"before"


@pytest.mark.parametrize("operation", ["put", "put_if_absent"])
def test_a_put_leaves_only_its_file_with_the_usual_permissions(file: Path, operation: str) -> None:
    mask = os.umask(0o022)
    try:
        OPERATIONS[operation](LocalStore(), str(file))
    finally:
        os.umask(mask)
    assert [*file.parent.iterdir()] == [file]
    assert stat.filemode(file.stat().st_mode) == "-rw-r--r--"


def test_the_bytes_are_on_the_disk_before_the_name(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    file.parent.mkdir()
    steps: list[str] = []

    def recorded(step: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            is_folder = step == "fsync" and stat.S_ISDIR(os.fstat(arguments[0]).st_mode)
            steps.append(f"{step} folder" if is_folder else step)
            return real(*arguments)

        return call

    for step in ("fsync", "replace"):
        monkeypatch.setattr(os, step, recorded(step, getattr(os, step)))
    LocalStore().put(str(file), DATA)
    assert steps == ["fsync", "replace", "fsync folder"]


def test_list_leaves_out_files_that_are_being_written(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    seen: list[list[str]] = []
    replace = os.replace

    def look_then_replace(*arguments: Any) -> None:
        assert len([*file.parent.iterdir()]) == 1
        seen.append([found.uri for found in LocalStore().list(str(file.parent))])
        replace(*arguments)

    monkeypatch.setattr(os, "replace", look_then_replace)
    LocalStore().put(str(file), DATA)
    assert seen == [[]]


@pytest.mark.parametrize("operation", ["put", "put_if_absent"])
@pytest.mark.parametrize("below", ["name", "folder/name"])
def test_a_put_below_a_file_is_refused(tmp_path: Path, operation: str, below: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotFoundError, match="not a directory"):
        OPERATIONS[operation](LocalStore(), f"{tmp_path}/file/{below}")
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]


@pytest.mark.parametrize("operation", ["put", "put_if_absent", "delete"])
def test_a_folder_is_neither_replaced_nor_deleted(tmp_path: Path, operation: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotFoundError, match="is a directory"):
        OPERATIONS[operation](LocalStore(), f"{tmp_path}/folder")
    assert [*tmp_path.iterdir()] == [tmp_path / "folder"]


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotFoundError, match="not a regular file"):
        LocalStore().get(f"{tmp_path}/pipe")
    assert [*LocalStore().list(str(tmp_path))] == []


@pytest.mark.parametrize(
    ("call", "without"), [("link", "hard links"), ("flock", "file locks")], ids=["links", "locks"]
)
def test_a_file_system_without_links_or_locks_is_said_and_can_still_be_used(
    monkeypatch: pytest.MonkeyPatch, file: Path, call: str, without: str
) -> None:
    LocalStore().put(f"{file}.before", DATA)
    version = LocalStore().version(f"{file}.before")
    module = os if call == "link" else fcntl
    monkeypatch.setattr(module, call, _raise(OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))))

    with pytest.raises(ConfigurationError, match=f"no {without}") as raised:  # noqa: PT012
        LocalStore().put_if_absent(str(file), DATA)
        LocalStore().put_if_version(f"{file}.before", b"x", version)
    assert raised.value.stops_job
    assert LocalStore().has_conditional_puts(str(file.parent)) is False
    store = LocalStore().unconditional()
    assert store.put_if_absent(f"{file}.new", DATA) is True
    assert store.put_if_absent(f"{file}.new", b"x") is False
    assert store.put_if_version(f"{file}.before", b"x", version) is not None
    assert all(not path.name.startswith(".") for path in file.parent.iterdir())


def test_a_refused_file_is_access_denied(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    LocalStore().put(str(file), DATA)  # the tests may run as root, whom no file refuses
    monkeypatch.setattr(io, "open", _raise(PermissionError(errno.EACCES, os.strerror(errno.EACCES))))
    with pytest.raises(AccessDeniedError, match="permission denied"):
        LocalStore().get(str(file))


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EROFS, ConfigurationError),
        (errno.EDQUOT, StorageFullError),
        (errno.ESTALE, StorageUnavailableError),
        (errno.EIO, StorageError),
    ],
)
def test_what_the_system_refuses_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, file: Path, number: int, expected: type[StorageError]
) -> None:
    LocalStore().put(str(file), DATA)
    monkeypatch.setattr(os, "replace", _raise(OSError(number, os.strerror(number))))
    with pytest.raises(StorageError) as raised:
        LocalStore().put(str(file), DATA)
    assert type(raised.value) is expected
    assert str(raised.value).startswith(f"{file}: {os.strerror(number).lower()}; ")


# A disk that is really full


FILL_THE_DISK = """
    import sys
    from stylebatch.errors import StorageFullError
    from stylebatch.storage import LocalStore
    folder = sys.argv[1]
    LocalStore().put(f"{folder}/small", b"x")
    for put in (LocalStore().put, LocalStore().put_if_absent):
        try:
            put(f"{folder}/large", bytes(2**20))
        except StorageFullError as error:
            assert "no space left on device; make room" in str(error), error
        else:
            raise AssertionError("a megabyte was stored in 64 KB")
    assert [found.uri for found in LocalStore().list(folder)] == [f"{folder}/small"]
    LocalStore().put(f"{folder}/other", bytes(1000))
"""


def test_a_disk_that_is_really_full_stops_the_job_and_keeps_nothing(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=64k tmpfs {tmp_path}"
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rm", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")
    program = textwrap.dedent(FILL_THE_DISK)
    run = subprocess.run(
        [unshare, "-rm", "sh", "-c", f'{mount} && "$@"', "sh", sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


# Locks


HOLD_THE_LOCK = """
    import fcntl, sys
    lock = open(sys.argv[1], "ab")
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_lock_dies_with_its_process(file: Path) -> None:
    LocalStore().put(str(file), b"before")
    version = LocalStore().version(str(file))
    side_file = file.parent / lock_name(file.name)
    holder = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD_THE_LOCK), str(side_file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder, ThreadPoolExecutor(1) as thread:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        replacing = thread.submit(LocalStore().put_if_version, str(file), b"after", version)
        while len([*file.parent.glob(".stylebatch-*.tmp")]) == 0:  # until its bytes are written
            assert not replacing.done()
        assert file.read_bytes() == b"before"
        holder.kill()
        assert replacing.result(timeout=60) is not None
    assert file.read_bytes() == b"after"
    assert [*file.parent.iterdir()] == [file]


def test_a_lock_that_was_removed_meanwhile_is_taken_anew(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    LocalStore().put(str(file), b"before")
    side_file = file.parent / lock_name(file.name)
    flock = fcntl.flock
    locks: list[int] = []

    def flock_after_its_holder_left(lock: Any, operation: int) -> None:
        if not locks:
            side_file.unlink()
        locks.append(os.fstat(lock.fileno()).st_nlink)
        flock(lock, operation)

    monkeypatch.setattr(fcntl, "flock", flock_after_its_holder_left)
    assert LocalStore().put_if_version(str(file), b"after", LocalStore().version(str(file))) is not None
    assert locks == [0, 1]


# Versions and ages


def test_a_version_changes_though_size_inode_and_time_are_the_same(file: Path) -> None:
    """A file system may give an inode again, and its clock stands still for milliseconds."""
    LocalStore().put(str(file), b"first")
    moment = file.stat().st_mtime_ns + 10**8
    os.utime(file, ns=(moment, moment))
    version = LocalStore().version(str(file))
    LocalStore().put(str(file), b"again")
    assert file.stat().st_mtime_ns > moment
    assert LocalStore().version(str(file)) != version


def test_a_time_from_the_far_future_is_not_handed_on(file: Path) -> None:
    LocalStore().put(str(file), b"first")
    future = file.stat().st_mtime_ns + 10**13
    os.utime(file, ns=(future, future))
    LocalStore().put(str(file), b"again")
    assert file.stat().st_mtime_ns < future


def test_an_age_is_told_by_the_clock_of_the_file_system(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    LocalStore().put(str(file), DATA)
    hour_ago = file.stat().st_mtime - 3600
    os.utime(file, (hour_ago, hour_ago))
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert 3600 <= LocalStore().age(str(file)) < 3700
    assert [*file.parent.iterdir()] == [file]


def test_where_nothing_can_be_written_an_age_is_told_by_this_machine(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    LocalStore().put(str(file), DATA)
    stored = file.stat().st_mtime
    monkeypatch.setattr(os, "open", _raise(OSError(errno.EROFS, os.strerror(errno.EROFS))))
    monkeypatch.setattr("time.time", lambda: stored + 5)
    assert LocalStore().age(str(file)) == pytest.approx(5)


# Sweeping


def test_a_sweep_removes_old_temporary_files_and_locks_of_this_very_folder(tmp_path: Path) -> None:
    old = [".stylebatch-1.tmp", ".stylebatch-2.lock"]
    kept = [".stylebatch-new.tmp", ".stylebatch-notes", "picture.tmp", "below/.stylebatch-3.tmp"]
    (tmp_path / "below").mkdir()
    for name in [*old, *kept]:
        (tmp_path / name).touch()
        if "new" not in name:
            os.utime(tmp_path / name, (1, 1))
    LocalStore().sweep(str(tmp_path), 3600)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")) == sorted(
        [*kept, "below"]
    )


def test_a_sweep_leaves_a_lock_that_is_held(tmp_path: Path) -> None:
    side_file = tmp_path / ".stylebatch-1.lock"
    with side_file.open("ab") as lock:
        os.utime(side_file, (1, 1))
        fcntl.flock(lock, fcntl.LOCK_EX)
        LocalStore().sweep(str(tmp_path), 3600)
        assert side_file.exists()
    LocalStore().sweep(str(tmp_path), 3600)
    assert not side_file.exists()


def test_a_sweep_of_a_file_is_no_error(file: Path) -> None:
    LocalStore().put(str(file), DATA)
    LocalStore().sweep(str(file), 0)
    assert file.exists()
