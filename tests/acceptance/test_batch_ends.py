"""How ``pgflow batch`` ends before its time: interrupts, kills, a database or a disk that is away. Nothing is lost."""

from __future__ import annotations

import json
import os
import random
import resource
import shlex
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.batch import Job, indexes, ok, read
from tests.support.cli import PGFLOW, TIMEOUT_SECONDS, begun, call, hear, slow_import
from tests.support.servers import Server
from tests.support.waiting import wait_until
from tests.support.worker import runs_in


@pytest.fixture
def job(tmp_path: Path, database_url: str) -> Job:
    return Job(tmp_path, database_url, "obey")


def notes(job: Job) -> list[str]:
    """The names of the items that have begun, as often as they have."""
    path = job.folder / "notes"
    return path.read_text().split() if path.exists() else []


def note(job: Job, name: int, **more: object) -> dict[str, object]:
    return {"name": name, "note": str(job.folder / "notes"), **more}


def resume_line(stderr: str) -> list[str]:
    """The arguments of the command that was printed last."""
    words = shlex.split(stderr.strip().splitlines()[-1])
    assert tuple(words[:3]) == PGFLOW
    return words[3:]


def interrupted(job: Job, *arguments: str, number: signal.Signals = signal.SIGINT) -> str:
    """What the command says that is interrupted while two items run, which wait for ``go`` and then finish."""
    with begun(*arguments, url=job.url) as process:
        wait_until(lambda: len(notes(job)) == 2, "two items run")
        process.send_signal(number)
        hear(process, "Interrupted: finishing what runs")
        (job.folder / "go").touch()
        _, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 130, stderr
    return stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_lets_finish_what_runs_and_tells_how_to_go_on(job: Job, number: signal.Signals) -> None:
    go = job.folder / "go"
    job.write([note(job, n, wait=str(go)) for n in range(20)])
    stderr = interrupted(job, *job.arguments(), number=number)
    done = len(job.results())
    assert 2 <= done < 20
    ok(call(*resume_line(stderr), url=job.url))
    assert job.outputs() == list(range(20))
    assert Counter(notes(job)).most_common(1)[0][1] == 1


def test_a_second_interrupt_kills_what_runs_which_runs_again(job: Job) -> None:
    go = job.folder / "go"
    job.write([note(job, n, wait=str(go)) for n in range(4)])
    with begun(*job.arguments(), url=job.url) as process:
        wait_until(lambda: len(notes(job)) == 2, "two items run")
        process.send_signal(signal.SIGINT)
        hear(process, "Interrupted: finishing what runs")
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=20)
        assert process.returncode == 130, stderr
    assert job.results() == []
    go.touch()
    ok(call(*resume_line(stderr), url=job.url))
    assert job.outputs() == list(range(4))


def test_an_interrupt_while_it_starts_leaves_nothing(job: Job) -> None:
    job.write([1])
    arguments = ["batch", slow_import(job.folder), "--input", str(job.input), "--output", str(job.output)]
    with begun(*arguments, url=job.url) as process:
        wait_until((job.folder / "began").exists, "the import runs")
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 130, stderr
        _, alive = psutil.wait_procs(children, timeout=TIMEOUT_SECONDS)
        assert alive == []
    assert not job.output.exists()
    with runs_in(job.url) as runs:
        assert runs.query("SELECT * FROM pgflow.batches") == []


def test_other_workers_help(job: Job) -> None:
    go = job.folder / "go"
    job.write([note(job, n, wait=str(go)) for n in range(6)])
    with begun(*job.arguments("--name", "shared", slots=1), url=job.url) as process:
        wait_until(lambda: notes(job), "an item runs")
        with begun("worker", "--batch", "shared", "--slots", "2", url=job.url) as helper:
            wait_until(lambda: len(notes(job)) == 3, "the helper's slots run items")
            go.touch()
            _, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
            assert process.returncode == 0, stderr
            helper.terminate()
            helper.communicate(timeout=TIMEOUT_SECONDS)
            assert helper.returncode == 0
    assert job.outputs() == list(range(6))


def test_a_batch_that_somebody_works_for_is_left_to_him(job: Job) -> None:
    go = job.folder / "go"
    job.write([note(job, n, wait=str(go)) for n in range(3)])
    with begun(*job.arguments(), url=job.url) as process:
        wait_until(lambda: notes(job), "an item runs")
        ok(job.run("--resume"), expected=2)
        ok(job.run("--overwrite"), expected=2)
        ok(job.run("--overwrite", "--name", "another"), expected=2)
        go.touch()
        process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 0
    assert job.outputs() == list(range(3))


@pytest.mark.parametrize("option", ["--resume", "--overwrite"])
def test_of_two_that_open_a_batch_at_once_one_goes_on(job: Job, option: str) -> None:
    go = job.folder / "go"
    go.touch()
    job.write([note(job, -1)])
    ok(job.run())
    go.unlink()
    job.write([note(job, n, wait=str(go)) for n in range(3)])
    with begun(*job.arguments(option), url=job.url) as one, begun(*job.arguments(option), url=job.url) as other:
        wait_until(lambda: one.poll() is not None or other.poll() is not None, "one of them is refused")
        refused, left = (one, other) if one.poll() is not None else (other, one)
        _, stderr = refused.communicate()
        assert refused.returncode == 2, stderr
        assert "is being written to by another batch" in stderr or "exists (0 of 3 items" in stderr
        go.touch()
        _, stderr = left.communicate(timeout=TIMEOUT_SECONDS)
        assert left.returncode == 0, stderr
    assert sorted(line["output"] for line in job.results()) == ([-1] if option == "--resume" else []) + [0, 1, 2]


def test_what_an_overwritten_batch_had_left_does_not_run(job: Job) -> None:
    go = job.folder / "go"
    job.write([note(job, n, wait=str(go)) for n in range(40)])
    interrupted(job, *job.arguments())
    done = notes(job)
    assert len(done) < 40
    job.write([note(job, 100)])
    ok(job.run("--overwrite"))
    assert notes(job) == [*done, "100"]
    assert job.outputs() == [100]


def test_what_goes_to_a_device_goes_on_too(job: Job) -> None:
    go = job.folder / "go"
    job.write([note(job, n, wait=str(go)) for n in range(20)])
    files = ["--input", str(job.input), "--output", "/dev/null"]
    stderr = interrupted(job, *job.arguments()[:2], *files, "--slots", "2")
    ok(call(*resume_line(stderr), url=job.url))
    assert Counter(notes(job)) == Counter(map(str, range(20)))


def test_a_pipe_that_somebody_reads_goes_on_too(job: Job) -> None:
    job = Job(job.folder, job.url, "double")
    pipe = job.folder / "pipe"
    os.mkfifo(pipe)
    command = [*job.arguments()[:4], "--output", str(pipe), "--slots", "1"]
    for option, items in (("--name", [1, 2]), ("--resume", [1, 2, 3]), ("--overwrite", [4])):
        job.write(items)
        with begun(*command, *([] if option == "--name" else [option]), "--name", "piped", url=job.url) as process:
            with pipe.open() as reader:  # waits for a writer
                lines = [json.loads(line) for line in reader]
            assert process.wait(TIMEOUT_SECONDS) == 0
        assert [line["output"] for line in lines] == [2 * item for item in items if option != "--resume" or item == 3]


def test_a_batch_is_not_deleted_where_the_new_one_has_no_folder(job: Job) -> None:
    job.write([note(job, 1)])
    ok(job.run("--name", "kept"))
    elsewhere = [*job.arguments("--name", "kept")[:4], "--output", str(job.folder / "no" / "out"), "--name", "kept"]
    assert "make the folder first" in ok(call(*elsewhere, "--overwrite", url=job.url), expected=2).stderr
    ok(job.run("--name", "kept", "--resume"))
    assert notes(job) == ["1"]


def test_an_interrupted_dry_run_leaves_no_process(job: Job) -> None:
    with begun("batch", slow_import(job.folder), "--input", str(job.input), "--dry-run", url=job.url) as process:
        wait_until((job.folder / "began").exists, "the import runs")
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 130
    assert children
    assert psutil.wait_procs(children, timeout=TIMEOUT_SECONDS)[1] == []


def test_a_worker_of_a_batch_that_is_not_there_says_so(database_url: str) -> None:
    result = call("worker", "--batch", "nowhere", url=database_url)
    assert (result.returncode, "There is no batch nowhere" in result.stderr) == (2, True)
    assert call("worker", url=database_url).returncode == 2


def test_a_full_disk_ends_it_and_what_is_done_is_not_lost(job: Job) -> None:
    job = Job(job.folder, job.url, "double")
    job.write([f"{n:05}" * 1000 for n in range(300)])
    limit = 1 << 20

    def bound() -> None:  # as a full disk does: no file of this process grows beyond
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    result = subprocess.run(
        [*PGFLOW, *job.arguments("--slots", "1", "--database", job.url)],
        preexec_fn=bound,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert (result.returncode, "Traceback" in result.stderr) == (1, False), result.stderr
    assert str(job.output) in result.stderr
    assert len(job.output.read_bytes()) <= limit
    ok(call(*resume_line(result.stderr), url=job.url))
    assert sorted(indexes(job.results())) == list(range(300))


def test_a_database_that_restarts_is_waited_for(own_server: Server, tmp_path: Path) -> None:
    job = Job(tmp_path, own_server.url("postgres"), "obey")
    job.write([note(job, n, sleep=0.02) for n in range(150)])
    with own_server.admin() as admin:
        admin.execute(
            "ALTER DATABASE postgres SET synchronous_commit = on"
        )  # it stops at once, and must forget nothing
    with begun(*job.arguments(), url=job.url) as process:
        wait_until(lambda: len(notes(job)) > 20, "it is under way")
        own_server.stop()
        time.sleep(1)  # so long it is away
        own_server.start()
        _, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
        assert process.returncode == 0, stderr
    assert job.outputs() == list(range(150))


def canonical(item: object) -> str:
    """The same text for the same item."""
    return json.dumps(item, sort_keys=True)


def killed(job: Job, is_due: Callable[[], bool], *options: str, with_family: bool) -> int:
    """The exit code of the command, killed with -9 once it is due, unless it has ended; with its worker, or alone."""
    with begun(*job.arguments(*options), url=job.url) as process:
        wait_until(lambda: process.poll() is not None or is_due(), "it ends, or is due", TIMEOUT_SECONDS)
        if process.poll() is None:
            victims = psutil.Process(process.pid).children(recursive=True) if with_family else []
            process.kill()
            for victim in victims:
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
        process.communicate()
    return process.returncode


def moment(job: Job, chance: random.Random) -> Callable[[], bool]:
    """At some time after the start, or after some progress."""
    if chance.random() < 0.5:
        due = time.monotonic() + chance.uniform(0.2, 2.5)
        return lambda: time.monotonic() >= due
    size = job.output.stat().st_size if job.output.exists() else 0
    more = chance.randint(1, 15_000)
    return lambda: job.output.exists() and job.output.stat().st_size >= size + more


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment_it_goes_on_with_every_item_exactly_once(job: Job, seed: int) -> None:
    chance = random.Random(seed)
    items: list[dict[str, object]] = [{"name": n, "sleep": 0.004} for n in range(500)]
    items[::10] = [{"name": 7}] * 50
    items[::100] = [{"name": n, "exit": 3} for n in range(5)]
    job.write(items)
    ordered = ["--keep-order"] if seed == 2 else []
    kills = 0
    options = list(ordered)
    for _ in range(40):
        code = killed(job, moment(job, chance), *options, with_family=seed == 1)
        if code != -signal.SIGKILL:
            break
        kills += 1
        with runs_in(job.url) as runs:
            options = [*ordered, "--resume"] if runs.query("SELECT FROM pgflow.batches") else [*ordered, "--overwrite"]
        if chance.random() < 0.5:
            chance.shuffle(items)
            job.write(items)
    assert code == 1
    assert kills
    lines = [*job.results(), *read(job.errors)]
    assert Counter(canonical(line["item"]) for line in lines) == Counter(map(canonical, items))
    assert len(read(job.errors)) == 5
