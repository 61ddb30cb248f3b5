"""Output files that no crash, full disk or second writer leaves wrong, and the lines in them."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pgflow.batch import joblog
from pgflow.batch.joblog import Job, job_end
from pgflow.batch.lines import error_line, output_line
from pgflow.batch.outputs import LineFile
from pgflow.errors import OutputNotWrittenError, OutputRefusedError, UsageError

# Appends lines for ever and says the size after each; the file's limit makes writes fail as a full disk does.
WRITER = """
import resource, sys
from pgflow.batch.outputs import LineFile
from pgflow.errors import OutputNotWrittenError
path, limit = sys.argv[1], int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
file = LineFile.create(path, overwrite=False)
number = 0
while True:
    lines = [b"%d " % (number + more) + b"x" * ((number + more) % 977) for more in range(7)]
    try:
        print(file.append(lines), flush=True)
    except OutputNotWrittenError as error:
        print(error, flush=True)
        break
    number += 7
"""


def writer(path: Path, limit: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(limit)], stdout=subprocess.PIPE, text=True)


def numbers(path: Path) -> list[int]:
    """The numbers of the lines, all of which are whole."""
    data = path.read_bytes()
    assert data.endswith(b"\n")
    found = []
    for line in data.splitlines():
        number, _, rest = line.partition(b" ")
        assert rest == b"x" * (int(number) % 977)
        found.append(int(number))
    return found


def test_lines_are_appended_and_their_size_is_told(tmp_path: Path) -> None:
    with LineFile.create(tmp_path / "out", overwrite=False) as file:
        assert file.size == 0
        assert file.append([b"one", b"two"]) == file.size == 8
        assert file.append([]) == 8
    assert (tmp_path / "out").read_bytes() == b"one\ntwo\n"


def test_a_file_that_exists_is_refused_with_the_remedies(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("precious")
    with pytest.raises(UsageError) as caught:
        LineFile.create(path, overwrite=False)
    assert str(caught.value) == (
        f"The output file {path} exists: go on with --resume, replace it with --overwrite, or name another"
    )
    assert path.read_text() == "precious"
    LineFile.create(path, overwrite=True).close()
    assert path.read_bytes() == b""


def test_a_folder_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputRefusedError, match="Is a directory"):
        LineFile.create(tmp_path, overwrite=True)
    with pytest.raises(OutputRefusedError, match="make the folder first"):
        LineFile.create(tmp_path / "none" / "out", overwrite=False)


def test_a_file_has_one_writer(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with LineFile.create(path, overwrite=False) as file:
        file.append([b"mine"])
        with pytest.raises(OutputRefusedError, match="is being written to by another batch"):
            LineFile.create(path, overwrite=True)
        with pytest.raises(OutputRefusedError, match="is being written to by another batch"):
            LineFile.resume(path, 0)
        assert path.read_bytes() == b"mine\n"
    LineFile.resume(path, 5).close()


def test_resuming_cuts_off_what_was_not_recorded(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"one\ntwo\nthr")
    with LineFile.resume(path, 4) as file:
        assert file.size == 4
        file.append([b"2"])
    assert path.read_bytes() == b"one\n2\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "is missing, with 4 bytes written"),
        (b"on", "has 2 bytes, fewer than the 4 that were written"),
        (b"other\n", "has no line that ends at byte 4"),
    ],
)
def test_resuming_another_file_is_refused(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "out"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OutputRefusedError, match=reason) as caught:
        LineFile.resume(path, 4)
    assert str(caught.value).endswith("or begin anew with --overwrite")
    assert content is None or path.read_bytes() == content


def test_a_file_of_which_nothing_was_written_may_be_missing(tmp_path: Path) -> None:
    with LineFile.resume(tmp_path / "out", 0) as file:
        assert file.append([b"one"]) == 4


def test_a_write_that_fails_leaves_no_part_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with writer(path, limit=100_000) as process:
        assert process.stdout is not None
        *sizes, error = process.stdout.read().splitlines()
    assert error.startswith(f"Cannot write to the output file {path}: File too large. All its lines are whole")
    assert path.stat().st_size == int(sizes[-1])
    assert numbers(path) == list(range(7 * len(sizes)))


def test_a_killed_writer_loses_nothing_that_it_told(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with writer(path) as process:
        assert process.stdout is not None
        for _ in range(random.randrange(20, 60)):
            size = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        process.stdout.read()
    LineFile.resume(path, size).close()
    found = numbers(path)
    assert found == list(range(len(found)))
    assert path.stat().st_size == size


def test_standard_output_gets_lines(capfd: pytest.CaptureFixture[str]) -> None:
    with LineFile.create("-", overwrite=False) as file:
        assert file.append([b"one"]) == 4
        file.append([b"two"])
    with LineFile.resume("-", 8) as file:
        file.append([b"three"])
    assert capfd.readouterr().out == "one\ntwo\nthree\n"


def test_whoever_stops_reading_is_noticed() -> None:
    code = "from pgflow.batch.outputs import LineFile\nfile = LineFile.create('-', overwrite=False)\n"
    code += "try:\n  while True: file.append([b'x' * 1000])\nexcept BrokenPipeError: raise SystemExit(7)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(10) == 7


def test_a_device_may_be_written_to_by_several_and_may_be_full(tmp_path: Path) -> None:
    with LineFile.create("/dev/null", overwrite=False) as file, LineFile.create("/dev/null", overwrite=True) as other:
        assert file.append([b"one"]) == other.append([b"two"]) == 4
    full = Path("/dev/full")
    if full.exists():
        with (
            LineFile.create(full, overwrite=False) as file,
            pytest.raises(OutputNotWrittenError, match="No space left"),
        ):
            file.append([b"one"])


# --- what is in them -------------------------------------------------------------------------------------------------


def test_lines_hold_the_texts_they_are_given() -> None:
    line = output_line(3, '{"a": 1.10}', '"é\\n"')
    assert line == '{"index":3,"item":{"a": 1.10},"output":"é\\n"}'.encode()
    assert json.loads(error_line(4, '"x"', '{"message":"no"}')) == {"index": 4, "item": "x", "error": {"message": "no"}}


def job(seq: int = 1, kind: str | None = None, exit_code: int | None = None, command: str = 'f "x"') -> bytes:
    """A row of the job log."""
    return joblog.row(
        Job(
            seq=seq,
            host="host",
            started=1795881506.7191,
            runtime=0.0984,
            sent=3,
            received=10,
            end=job_end(kind, exit_code),
            command=command,
            attempts=2,
            peak_rss=1024,
            cpu=0.5,
        )
    )


def test_a_row_is_written_as_parallel_does_with_three_columns_more() -> None:
    assert job() == b'1\thost\t1795881506.719\t     0.098\t3\t10\t0\t0\tf "x"\t2\t1024\t0.500'
    assert len(joblog.HEADER.split(b"\t")) == len(job().split(b"\t"))


def test_a_command_cannot_break_its_row() -> None:
    row = job(command="f a\tb\nc\r\x1b[2J" + "x" * 2_000)
    assert len(row.split(b"\t")) == len(joblog.COLUMNS)
    assert row.split(b"\t")[8].startswith(b"f a\\tb\\nc\\r\\x1b[2Jxxx")
    assert b"\n" not in row
    assert len(row) < 1_200


@pytest.mark.parametrize(
    ("kind", "exit_code", "columns"),
    [
        (None, None, ["0", "0"]),
        ("failed", None, ["1", "0"]),
        ("timed_out", None, ["-1", "9"]),
        ("crashed", -11, ["0", "11"]),
        ("crashed", 3, ["3", "0"]),
        ("crashed", 0, ["-1", "0"]),
        ("crashed", None, ["-1", "0"]),
        ("out_of_memory", None, ["0", "9"]),
        ("unheard_of", None, ["1", "0"]),
    ],
)
def test_the_end_is_told_as_an_exit_value_and_a_signal(
    kind: str | None, exit_code: int | None, columns: list[str]
) -> None:
    assert job(kind=kind, exit_code=exit_code).decode().split("\t")[6:8] == columns


@pytest.mark.skipif(shutil.which("parallel") is None, reason="there is no GNU parallel")
def test_parallel_resumes_what_failed_from_our_log(tmp_path: Path) -> None:
    log = tmp_path / "log.tsv"
    rows = [job(1), job(2, "failed"), job(3, "timed_out"), job(4)]
    log.write_bytes(b"".join(row + b"\n" for row in (joblog.HEADER, *rows)))
    command = ["parallel", "--resume-failed", "--joblog", str(log), "-k", "echo", ":::", "a", "b", "c", "d", "e"]
    environment = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, env=environment)
    assert done.stdout.split() == ["b", "c", "e"]
