"""How this program was called, for commands that can be pasted into the same shell."""

from __future__ import annotations

import os
import shlex
import shutil
import sys


def program() -> str:
    """The words before the arguments."""
    typed = sys.argv[0]
    if os.path.basename(typed) == "__main__.py":
        return shlex.join([sys.executable, "-m", "pgflow"])
    return "pgflow" if shutil.which("pgflow") == typed else shlex.quote(typed)
