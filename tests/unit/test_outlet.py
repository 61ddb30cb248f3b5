"""What a pool process prints to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_a_process_whose_dispatcher_has_gone_ends_instead_of_waiting_for_a_reader(tmp_path: Path) -> None:
    pipe = tmp_path / "slot-1.output"
    os.mkfifo(pipe)
    program = f"from pgflow.worker.outlet import *; Outlet(Address({str(pipe)!r}, b'secret'))"
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 1
