"""Printing goes on when nobody reads any more, and lines stay whole."""

from __future__ import annotations

import os
import subprocess
import sys

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
