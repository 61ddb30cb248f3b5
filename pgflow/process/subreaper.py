"""Being the parent of all orphans among one's descendants, so that they are found when the time comes to kill them."""

from __future__ import annotations

import ctypes
import sys

_PR_SET_CHILD_SUBREAPER = 36


def become() -> None:
    """From now on each descendant whose parent ends becomes this process's child (Linux). Forked children do not
    inherit this."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
