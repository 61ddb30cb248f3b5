"""Standby: a dispatcher process that is started before it is known what it is to serve.

Until it gets its order it imports what it needs, 0.3 s, while who started it does the same with what that one needs.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from types import TracebackType
from typing import IO, Any

from pgflow.worker import preload

END_AT_ONCE, GO = b"!", b"g"
"""What a dispatcher may be told after its order."""

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); "
    "from pgflow.worker.__main__ import main; sys.exit(main())"
)


class Standby:
    """A dispatcher process without an order. At the end of a ``with`` block one that has none yet is killed: it has
    started nothing. ``stderr`` is where it logs, as for subprocess.Popen."""

    def __init__(self, stderr: int | IO[Any] | None = None) -> None:
        self._process: subprocess.Popen[str] | None = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            # The order for a forkserver is not this process's to pass on: the dispatcher imports no flow.
            env={name: value for name, value in os.environ.items() if name != preload.VARIABLE},
            text=True,
            start_new_session=True,  # Ctrl-C in the terminal is for this process, which then calls Worker.stop
        )

    def give(self, order: str) -> subprocess.Popen[str]:
        """Let it serve, as the order says, one line of JSON; from now on it is the caller's."""
        process, self._process = self._process, None
        assert process is not None
        assert process.stdin is not None
        # stdin stays open: its end tells the dispatcher that this process is gone.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(order + "\n")
            process.stdin.flush()
        return process

    def __enter__(self) -> Standby:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.discard()

    def discard(self) -> None:
        """Kill it, if it has no order yet."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
