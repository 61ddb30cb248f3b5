"""Printing goes on when nobody reads any more, and lines stay whole."""

from __future__ import annotations

import os
import subprocess
import sys

from pgflow.process import output

SCRIPT = """
import os, sys
from pgflow.process import output
output.survive_loss()
print("first", "line")
sys.stderr.write("second\\n")
os.read(0, 1)  # until the reader has gone
for _ in range(100):
    print("noise " * 10_000)
    print("noise", file=sys.stderr)
os.write(3, b"survived")
"""


def test_a_process_outlives_the_reader_of_its_output() -> None:
    reader, writer = os.pipe()
    told, tell = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", f"import os; os.dup2({tell}, 3)\n{SCRIPT}"],
        stdin=subprocess.PIPE,
        stdout=writer,
        stderr=writer,
        pass_fds=(tell,),
    ) as process:
        os.close(writer)
        os.close(tell)
        seen = b""
        while seen.count(b"\n") < 2:
            seen += os.read(reader, 100)
        os.close(reader)
        process.communicate(b"x", timeout=30)
    assert seen == b"first line\nsecond\n"
    assert process.returncode == 0
    assert os.read(told, 100) == b"survived"
    os.close(told)


def test_a_reader_that_does_not_read_is_not_waited_for_and_told_what_it_missed() -> None:
    reader, writer = os.pipe()
    log = output.unhindered(writer)
    line = "x" * 1000 + "\n"
    for _ in range(200):
        log.write(line)
    seen = os.read(reader, 1 << 20)
    assert seen.startswith(line.encode() * 60)
    log.write("back\n")
    assert os.read(reader, 1 << 20).decode().splitlines()[-2:] == [
        f"({200 - seen.count(b'x' * 1000)} lines were left out: nobody read them)",
        "back",
    ]
    os.close(reader)
    log.write("to nobody\n")
    log.write("to nowhere\n")
    os.close(writer)
