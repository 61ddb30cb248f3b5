"""Every file below a folder, one item a file: its words counted, or its bytes compressed and hashed.

    find docs -type f > files.txt
    pgflow batch examples/batch_words.py:words --input files.txt --output words.jsonl
    pgflow batch examples/batch_words.py:packed --input files.txt --output packed.jsonl

Plain functions that take one item, here a line of ``files.txt``; pgflow runs them on all cores, each file with a
timeout. A file that cannot be read is an item that fails: it goes to ``words.jsonl.errors.jsonl``, the others go on.
"""

from __future__ import annotations

import hashlib
import lzma
import re
from collections import Counter
from pathlib import Path
from typing import Any

MOST_COMMON = 5
WORD = re.compile(r"[^\W\d_]{2,}")


def words(path: str) -> dict[str, Any]:
    """How many words a file has, how many of them differ, and the most common; what is no UTF-8 is passed over."""
    found = Counter(WORD.findall(Path(path).read_text(encoding="utf-8", errors="ignore").lower()))
    return {
        "path": path,
        "words": found.total(),
        "different": len(found),
        "most_common": dict(found.most_common(MOST_COMMON)),
    }


def packed(path: str) -> dict[str, Any]:
    """What is left of a file when it is compressed, and its SHA-256."""
    data = Path(path).read_bytes()
    return {
        "path": path,
        "bytes": len(data),
        "packed": len(lzma.compress(data, preset=9)),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
