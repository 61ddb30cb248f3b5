"""``pgflow batch`` as people use it: what it writes, what it does again and what it does not."""

from __future__ import annotations

import gzip
import json
import shlex
import subprocess
from pathlib import Path

import pytest

from pgflow.batch import Batch, BatchOptions
from pgflow.database import Database, batches
from tests.support.batch import TARGETS, Job, indexes, ok, read
from tests.support.cli import PGFLOW, call, environment
from tests.support.worker import runs_in


@pytest.fixture
def job(tmp_path: Path, database_url: str) -> Job:
    return Job(tmp_path, database_url)


def of(job: Job, function: str) -> Job:
    return Job(job.folder, job.url, function)


def test_each_item_gives_a_line_with_its_place_and_output(job: Job) -> None:
    job.write([1, "a", [None], 1])
    ok(job.run())
    assert sorted(job.results(), key=lambda line: str(line["index"])) == [
        {"index": 0, "item": 1, "output": 2},
        {"index": 1, "item": "a", "output": "aa"},
        {"index": 2, "item": [None], "output": [None, None]},
        {"index": 3, "item": 1, "output": 2},
    ]


def test_failures_go_to_a_file_of_their_own(job: Job) -> None:
    job = of(job, "odd_fails")
    job.write(range(6))
    ok(job.run(), expected=1)
    assert sorted(job.outputs()) == [0, 2, 4]
    errors = sorted(read(job.errors), key=lambda line: int(line["index"]))
    assert indexes(errors) == [1, 3, 5]
    assert errors[0]["item"] == 1
    assert errors[0]["error"]["message"].startswith("ValueError: 1 is odd\n")
    assert (errors[0]["error"]["kind"], errors[0]["error"]["attempts"]) == ("failed", 1)


def test_failures_may_go_to_the_output_instead(job: Job) -> None:
    job = of(job, "odd_fails")
    job.write(range(4))
    ok(job.run("--errors-in-output", "--keep-order"), expected=1)
    assert [sorted(line) for line in job.results()] == [
        ["index", "item", "output"],
        ["error", "index", "item"],
        ["index", "item", "output"],
        ["error", "index", "item"],
    ]
    assert not job.errors.exists()


def test_an_output_that_looks_like_a_failure_is_none(job: Job) -> None:
    job = of(job, "looks_failed")
    job.write([1])
    ok(job.run())
    assert "$error" in job.outputs()[0]


def test_without_a_file_results_are_printed(job: Job) -> None:
    job.write([1, 2])
    result = ok(call("batch", f"{TARGETS}:double", "--input", str(job.input), "--slots", "1", url=job.url))
    assert sorted(json.loads(line)["output"] for line in result.stdout.splitlines()) == [2, 4]


def test_a_reader_of_standard_output_that_leaves_ends_the_batch_which_goes_on_elsewhere(job: Job) -> None:
    job.write(range(3000))
    command = [*PGFLOW, "batch", f"{TARGETS}:double", "--input", str(job.input), "--slots", "2", "--name", "piped"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(job.url)
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith('{"index"')
        process.stdout.close()
        stderr = process.stderr.read()
        assert process.wait(60) == 1, stderr
    assert "Traceback" not in stderr
    rest = ok(call(*command[3:], "--resume", url=job.url))
    assert set(range(3000)) >= {json.loads(line)["index"] for line in rest.stdout.splitlines()}


def test_the_order_of_the_input_is_kept_where_that_is_wanted(job: Job) -> None:
    job = of(job, "obey")
    job.write({"name": n, "sleep": 0.05 * (n % 7 == 0)} for n in range(60))
    ok(job.run("--keep-order"))
    assert [line["output"] for line in job.results()] == list(range(60))


def test_what_was_done_is_not_done_again_whatever_the_order_of_the_input(job: Job) -> None:
    job.write(["a", "b", "a", [1]])
    ok(job.run())
    before = job.output.read_text()
    job.write(["new", "a", [1], "a", "b", "a"])
    ok(job.run("--resume"))
    assert job.output.read_text().startswith(before)
    assert sorted(line["item"] for line in job.results()[4:]) == ["a", "new"]


def test_failed_items_run_again_and_their_results_are_added(job: Job, tmp_path: Path) -> None:
    job = of(job, "obey")
    flag = tmp_path / "flag"
    job.write([{"name": n, **({"unless": str(flag)} if n % 3 == 0 else {})} for n in range(10)])
    ok(job.run(), expected=1)
    assert sorted(indexes(read(job.errors))) == [0, 3, 6, 9]
    ok(job.run("--retry-failed"), expected=1)
    assert sorted(indexes(read(job.errors))) == [0, 3, 6, 9]
    flag.touch()
    ok(job.run("--retry-failed"))
    assert job.outputs() == list(range(10))
    assert not job.errors.exists()


def test_a_retry_that_was_killed_at_its_start_goes_on(job: Job) -> None:
    job = of(job, "odd_fails")
    job.write(range(6))
    ok(job.run("--name", "killed"), expected=1)
    with Database(job.url) as database:
        known = batches.require(database, "killed")
        batches.begin_pass(database, known, known.reference, {}, emptied=["errors"])
    result = ok(job.run("--name", "killed", "--resume"), expected=1)
    assert "killed: 3 of 6 done, 3 failed, 3 in earlier sessions" in result.stderr
    assert sorted(job.outputs()) == [0, 2, 4]
    assert sorted(indexes(read(job.errors))) == [1, 3, 5]


def test_retries_are_attempts_of_the_same_item(job: Job, tmp_path: Path) -> None:
    job = of(job, "odd_fails")
    job.write([1])
    ok(job.run("--retries", "1"), expected=1)
    assert read(job.errors)[0]["error"]["attempts"] == 2


def test_whoever_dies_or_hangs_fails_alone(job: Job) -> None:
    job = of(job, "obey")
    job.write([{"name": 0}, {"name": 1, "exit": 3}, {"name": 2, "sleep": 60}, {"name": 3}])
    ok(job.run("--timeout", "1s"), expected=1)
    assert job.outputs() == [0, 3]
    kinds = {line["index"]: line["error"]["kind"] for line in read(job.errors)}
    assert kinds == {1: "crashed", 2: "timed_out"}


def test_an_item_that_takes_too_much_memory_fails_alone(job: Job) -> None:
    job = of(job, "obey")
    job.write([{"name": 0}, {"name": 1, "hold": 500 << 20, "sleep": 50}, {"name": 2}])
    result = ok(job.run("--memory", "300MiB"), expected=1)
    (error,) = read(job.errors)
    assert (error["index"], error["error"]["kind"]) == (1, "out_of_memory")
    assert "1 OutOfMemory" in result.stderr or "memory" in result.stderr
    assert job.outputs() == [0, 2]


def test_a_flow_of_one_map_is_a_target_with_its_own_options(job: Job) -> None:
    module = job.folder / "scores.py"
    module.write_text(
        "from pgflow import Flow\nflow = Flow('scores')\n@flow.map(max_attempts=3, base_delay=1)\n"
        "def score(item, ctx):\n"
        "    if ctx.attempt < 2: raise ValueError('not yet')\n"
        "    return [item, ctx.attempt]\n"
    )
    job.write(["a", "b"])
    files = ["--input", str(job.input), "--output", str(job.output), "--slots", "1"]
    ok(call("batch", str(module), *files, url=job.url))
    assert job.outputs() == [["a", 2], ["b", 2]]
    refused = ok(call("batch", str(module), *files, "--name", "once", "--overwrite", "--retries", "0", url=job.url), 1)
    assert "ValueError: not yet" in refused.stderr


def test_a_database_that_is_not_there_has_an_exit_code_of_its_own(job: Job) -> None:
    job.write([1])
    result = ok(call(*job.arguments(), url="postgresql://127.0.0.1:1/nothing"), expected=3)
    assert "127.0.0.1" in result.stderr
    assert not job.output.exists()


def test_a_timeout_in_percent_follows_the_median(job: Job) -> None:
    job = of(job, "obey")
    job.write([*({"name": n, "sleep": 0.3} for n in range(30)), {"name": 30, "sleep": 60}, {"name": 31}])
    ok(job.run("--timeout", "300%", slots=2), expected=1)
    (error,) = read(job.errors)
    assert error["index"] == 30
    assert error["error"]["message"].startswith("Task timed out after 1000ms")


@pytest.mark.parametrize("when", ["soon", "now"])
def test_too_many_failures_halt_it_and_it_goes_on_when_told(job: Job, when: str) -> None:
    job = of(job, "odd_fails")
    job.write([1] * 5 + [2] * 2000)
    result = ok(job.run("--halt", f"{when},fail=3", slots=1), expected=1)
    assert "halting" in result.stderr
    assert "to go on:" in result.stderr
    assert len(job.results()) + len(read(job.errors)) < 2005
    ok(
        call(*shlex.split(result.stderr.strip().splitlines()[-1])[3:], "--halt", "soon,fail=999", url=job.url),
        expected=1,
    )
    assert (len(job.results()), len(read(job.errors))) == (2000, 5)


def test_a_limit_takes_the_first_items_and_a_later_run_the_rest(job: Job) -> None:
    job.write(range(10))
    ok(job.run("--limit", "4"))
    assert job.outputs() == [0, 2, 4, 6]
    ok(job.run("--resume"))
    assert job.outputs() == [2 * n for n in range(10)]


def test_shuffled_items_run_each_once(job: Job) -> None:
    job.write(range(300))
    ok(job.run("--shuffle"))
    assert job.outputs() == [2 * n for n in range(300)]


def test_a_batch_that_exists_is_left_alone_and_the_line_that_goes_on_is_told(job: Job) -> None:
    job.write([1])
    ok(job.run())
    result = ok(job.run(), expected=2)
    assert "exists (1 of 1 items written, 0 failed)" in result.stderr
    assert result.stderr.strip().endswith("--resume")
    job.write([2])
    ok(job.run("--overwrite"))
    assert job.outputs() == [4]


def test_what_is_not_as_it_should_be_is_told_before_anything_is_done(job: Job, tmp_path: Path) -> None:
    job.write([1])
    broken = tmp_path / "broken.py"
    broken.write_text("1 / 0\n")
    for target, words in {
        f"{TARGETS}:nothing": "let it take (input) or (input, ctx)",
        f"{TARGETS}:missing": "There is no 'missing'",
        "no.such.module:f": "There is no module",
        f"{broken}:f": "ZeroDivisionError",
        "tests.flows.arithmetic:flow": "start it with `pgflow run",
    }.items():
        result = call("batch", target, "--input", str(job.input), "--output", str(job.output), url=job.url)
        assert (result.returncode, "Traceback" in result.stderr) == (2, False), result.stderr
        assert words in result.stderr
        assert not job.output.exists()
    with runs_in(job.url) as runs:
        assert runs.query("SELECT * FROM pgflow.batches") == []
    ok(job.run("--resume"), expected=2)
    job.output.touch()
    assert "out.jsonl exists: " in ok(job.run(), expected=2).stderr
    assert job.output.read_text() == ""


def test_a_name_belongs_to_one_target(job: Job) -> None:
    job.write([1])
    ok(job.run("--name", "mine"))
    result = ok(of(job, "odd_fails").run("--name", "mine", "--resume"), expected=2)
    assert "Batch mine is of target tests.flows.items:double, not of tests.flows.items:odd_fails" in result.stderr


def test_a_batch_is_not_deleted_for_a_target_that_cannot_be_loaded(job: Job) -> None:
    module = job.folder / "mine.py"
    module.write_text("def f(item): return item\n")
    job.write([1])
    command = ["batch", f"{module}:f", "--input", str(job.input), "--output", str(job.output), "--slots", "1"]
    ok(call(*command, url=job.url))
    module.write_text("def f(item) return item\n")
    assert "SyntaxError" in ok(call(*command, "--overwrite", url=job.url), expected=2).stderr
    module.write_text("def f(item): return item\n")
    job.write([1, 2])
    resumed = ok(call(*command, "--resume", "--timeout", "70s", url=job.url))
    assert "WARNING" not in resumed.stderr
    assert job.outputs() == [1, 2]


def test_the_target_is_not_loaded_for_a_batch_that_is_refused(job: Job) -> None:
    """Else it might take the items of the batch of that name."""
    job.write([1])
    ok(job.run("--name", "mine"))
    loads = job.folder / "loads.py"
    loads.write_text(f"open({str(job.folder / 'loaded')!r}, 'w')\ndef double(item): return 0\n")
    command = ["batch", f"{loads}:double", "--input", str(job.input), "--name", "mine", "--resume"]
    ok(call(*command, url=job.url), expected=2)
    assert not (job.folder / "loaded").exists()


def test_a_dry_run_writes_nothing_and_needs_no_database(job: Job) -> None:
    job.write(range(5))
    result = ok(call(*job.arguments("--dry-run", "--memory", "1G"), url="postgresql://nowhere/nothing"))
    assert "items     5" in result.stdout
    assert "60 s at most, 1 GiB of memory, 1 attempt\n" in result.stdout
    assert not job.output.exists()


def test_the_summary_is_for_people_and_as_json_for_programs(job: Job) -> None:
    job = of(job, "odd_fails")
    job.write(range(6))
    result = ok(job.run("--json", "--name", "told"), expected=1)
    summary = json.loads(result.stdout)
    assert (summary["name"], summary["items"], summary["done"], summary["failed"]) == ("told", 6, 3, 3)
    assert (summary["causes"][0]["count"], summary["durations"]["count"]) == (3, 6)
    assert "told: 3 of 6 done, 3 failed" in result.stderr
    assert result.stderr.strip().splitlines()[-1].endswith("--retry-failed")
    again = ok(job.run("--name", "told", "--retry-failed", "--quiet"), expected=1)
    assert (again.stdout, again.stderr) == ("", "")


def test_the_joblog_has_a_row_for_each_item(job: Job, tmp_path: Path) -> None:
    job = of(job, "obey")
    job.write([{"name": "é", "sleep": 0.1}, {"name": 1, "exit": 3}])
    log = tmp_path / "log.tsv"
    ok(job.run("--joblog", str(log)), expected=1)
    header, *rows = [line.split("\t") for line in log.read_text().splitlines()]
    by_seq = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert (by_seq["1"]["Exitval"], by_seq["2"]["Exitval"]) == ("0", "3")
    assert 0.1 <= float(by_seq["1"]["JobRuntime"]) < 5
    assert by_seq["1"]["Receive"] == "4"  # bytes, of "é" with its quotes
    assert int(by_seq["1"]["PeakRSS"]) > 1 << 20
    assert by_seq["1"]["Command"].startswith(f"{TARGETS}:obey {{")
    ok(job.run("--retry-failed"), expected=1)  # the log goes on although it is not named again
    assert len(log.read_text().splitlines()) == 4
    other = ok(job.run("--resume", "--joblog", str(tmp_path / "other.tsv")), expected=2)
    assert f"is of joblog {log}, not of {tmp_path / 'other.tsv'}" in other.stderr


@pytest.mark.parametrize(
    ("name", "text", "items"),
    [
        ("rows.csv", "a,b\n1,x\n2,y\n", [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]),
        ("array.json", '[1, {"x": [2]}]', [1, {"x": [2]}]),
        ("words.txt", "one\ntwo\n", ["one", "two"]),
        ("numbers.jsonl.gz", "1\n2\n", [1, 2]),
        ("rows.csv.gz", "a\nx\n", [{"a": "x"}]),
    ],
)
def test_items_come_from_files_of_all_kinds(
    database_url: str, tmp_path: Path, name: str, text: str, items: list[object]
) -> None:
    source, output = tmp_path / name, tmp_path / "out.jsonl"
    source.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    arguments = ["batch", f"{TARGETS}:same", "--input", str(source), "--output", str(output), "--keep-order"]
    ok(call(*arguments, "--slots", "1", url=database_url))
    assert [line["output"] for line in read(output)] == items


def test_a_bad_line_ends_it_or_is_left_out_as_wanted(job: Job) -> None:
    job.input.write_text("1\nnonsense\n3\n")
    result = ok(job.run(), expected=2)
    assert "items.jsonl, line 2:" in result.stderr
    assert "nonsense" in result.stderr
    assert result.stderr.strip().splitlines()[-1].endswith("--resume")
    result = ok(job.run("--resume", "--on-bad-line", "skip"))
    assert job.outputs() == [2, 6]
    assert "1 bad lines skipped" in result.stderr


def test_an_input_without_items_is_told(job: Job) -> None:
    job.write([])
    assert "it is empty" in ok(job.run(), expected=2).stderr
    assert "Cannot read items from" in ok(call(*job.arguments()[:2], "--input", "/nowhere", url=job.url), 2).stderr


def test_a_batch_runs_from_python(job: Job) -> None:
    job.write(range(5))
    options = BatchOptions(target=f"{TARGETS}:odd_fails", source=str(job.input), output=str(job.output), slots=1)
    summary = Batch(job.url, options).run()
    assert (summary.done, summary.failed, summary.left) == (3, 2, 0)
    assert job.outputs() == [0, 2, 4]


def test_a_file_that_is_refused_leaves_nothing_in_the_way_of_the_same_command(job: Job) -> None:
    job.write([1])
    log = job.folder / "later" / "log.tsv"
    assert "make the folder first" in ok(job.run("--joblog", str(log)), expected=2).stderr
    assert not job.output.exists()
    log.parent.mkdir()
    ok(job.run("--joblog", str(log)))
    assert job.outputs() == [2]


def test_nothing_overwrites_the_input_nor_another_file_of_the_batch(job: Job) -> None:
    job.write([1])
    before = job.input.read_bytes()
    link = job.folder / "link.jsonl"
    link.symlink_to(job.input)
    command = ["batch", f"{TARGETS}:double", "--input", str(job.input), "--overwrite", "--output"]
    assert "is the input already" in ok(call(*command, str(job.input), url=job.url), expected=2).stderr
    assert "is the input already" in ok(call(*command, str(link), "--dry-run", url=job.url), expected=2).stderr
    assert "for the output already" in ok(job.run("--joblog", str(job.output)), expected=2).stderr
    assert job.input.read_bytes() == before


def test_a_folder_may_have_several_names(job: Job) -> None:
    job.write([1])
    ok(job.run("--limit", "1"))
    other = job.folder / "other"
    other.symlink_to(job.folder)
    ok(Job(other, job.url).run("--resume"))
    assert job.outputs() == [2]


def test_standard_output_has_a_name_and_may_be_closed(job: Job) -> None:
    job.write([1])
    command = ["batch", f"{TARGETS}:double", "--input", str(job.input), "--output", "-", "--name", "printed"]
    script = f"{shlex.join([*PGFLOW, *command])} >&-"
    closed = subprocess.run(
        ["sh", "-c", script], stderr=subprocess.PIPE, text=True, env=environment(job.url), check=False
    )
    assert (closed.returncode, "standard output" in closed.stderr) == (2, True), closed.stderr
    assert json.loads(ok(call(*command, url=job.url)).stdout)["output"] == 2
