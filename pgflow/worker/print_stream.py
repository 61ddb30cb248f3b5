"""PrintStream: the bytes that one slot's processes printed, as lines with the task that each belongs to.

Pure: what the dispatcher's thread reads goes in, what is to be logged comes out. The pool process writes a *mark*
before and after each task, into the same pipe as everything else, so that order alone says whose a line is.
"""

from __future__ import annotations

from collections.abc import Callable

MAX_LINE_BYTES = 3_500
"""A longer line is logged in pieces; with what the log puts before it, each is written in one go (PIPE_BUF)."""
MAX_TASK_BYTES = 1 << 20
MAX_TASK_LINES = 10_000
"""What is logged of one task at most. A line costs the dispatcher 20-30 us, however short it is."""
MARK_END = b"\0\n"


def mark(secret: bytes, label: str) -> bytes:
    """The record that says whose the output after it is; an empty label: no task's. ``secret`` keeps anything else
    that is printed from being taken for one. It is written in one go (PIPE_BUF), so it arrives whole."""
    return secret + label.encode() + MARK_END


class PrintStream:
    """One slot's output. ``log(label, text)`` is called for each line; empty ones are left out, ``\\r`` ends one too.

    ``idle_label`` is whose output outside any task is: the slot's name.
    """

    def __init__(self, secret: bytes, idle_label: str, log: Callable[[str, str], None]) -> None:
        self._secret = secret
        self._idle_label = idle_label
        self._log = log
        self._label = idle_label
        self._pending = b""
        self._bytes_left = MAX_TASK_BYTES
        self._lines_left = MAX_TASK_LINES
        self._dropped = 0

    def feed(self, data: bytes) -> None:
        """Take what was read, in pieces of any size."""
        text, *marked = (self._pending + data).split(self._secret)
        self._pending = b""
        for record in marked:
            label, end, following = record.partition(MARK_END)
            if not end:  # the rest of the mark has not been read yet
                self._take(text, is_whole=True)
                self._pending = self._secret + record
                return
            if text:
                self._take(text, is_whole=True)
            self._begin(label.decode(errors="replace"))
            text = following
        if text:
            self._take(text, is_whole=False)

    def finish(self) -> None:
        """Log what is left: nothing more comes."""
        self._take(self._pending, is_whole=True)
        self._pending = b""
        self._begin("")

    def _begin(self, label: str) -> None:
        self._tell_dropped()
        self._label = label or self._idle_label
        self._bytes_left = MAX_TASK_BYTES
        self._lines_left = MAX_TASK_LINES

    def _take(self, text: bytes, *, is_whole: bool) -> None:
        """Log the lines of ``text``; unless it is whole, its last line, which may be unfinished and may end in a part
        of a mark, is kept until more comes."""
        if self._bytes_left <= 0 or self._lines_left <= 0:
            # Only what may be the beginning of a mark is of interest still.
            kept = 0 if is_whole else min(len(text), len(self._secret) - 1)
            self._dropped += len(text) - kept
            self._pending = text[len(text) - kept :]
            return
        *lines, last = text.replace(b"\r", b"\n").split(b"\n")
        if is_whole:
            lines.append(last)
        elif len(last) > MAX_LINE_BYTES + len(self._secret):
            cut = len(last) - len(self._secret)
            lines.append(last[:cut])
            self._pending = last[cut:]
        else:
            self._pending = last
        for line in lines:
            if line:
                self._show(line)

    def _show(self, line: bytes) -> None:
        for start in range(0, len(line), MAX_LINE_BYTES):
            piece = line[start : start + MAX_LINE_BYTES]
            if self._bytes_left <= 0 or self._lines_left <= 0:
                self._dropped += len(piece)
                continue
            self._bytes_left -= len(piece)
            self._lines_left -= 1
            self._log(self._label, printable(piece))

    def _tell_dropped(self) -> None:
        if self._dropped:
            self._log(self._label, f"({self._dropped} more bytes were printed, too many to be logged)")
            self._dropped = 0


def printable(line: bytes) -> str:
    """The line as text that does nothing to a terminal or a log: control characters are escaped, what is no UTF-8 is
    replaced."""
    text = line.decode(errors="replace")
    return text if text.isprintable() else text.translate(_ESCAPES)


# C0 but the tab, DEL, C1, line separators, and what turns the direction of text.
_UNSAFE = (*range(9), *range(10, 32), *range(127, 160), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_ESCAPES = {code: chr(code).encode("unicode_escape").decode() for code in _UNSAFE}
