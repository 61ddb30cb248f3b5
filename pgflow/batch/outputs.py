"""Files of lines that no crash leaves wrong: whoever writes records their size, up to which they are whole."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
from collections.abc import Iterable
from types import TracebackType

from pgflow.errors import OutputNotWrittenError, OutputRefusedError

STANDARD_OUTPUT = "-"

_MODE = 0o666
_PUT_BACK = "put back the file as the batch left it, or begin anew with --overwrite"
_REMEDIES = {
    errno.EEXIST: "go on with --resume, replace it with --overwrite, or name another",
    errno.ENOENT: "make the folder first",
}


class LineFile:
    """A file that grows by whole lines and has one writer. ``size``, in bytes, is where its last whole line ends.

    What is no regular file (``-`` is standard output, a pipe, /dev/null) cannot be cut back: lines are written to it,
    and that is all.
    """

    def __init__(self, path: str, descriptor: int, size: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._is_regular = _is_regular(descriptor) and path != STANDARD_OUTPUT
        self.size = size

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, overwrite: bool) -> LineFile:
        """An empty file.

        Raises OutputRefusedError for one that exists, unless it is to be overwritten, and for what cannot be opened.
        """
        name = os.fspath(path)
        if name == STANDARD_OUTPUT:
            return cls(name, _standard_output(), 0)
        descriptor = _opened(name, os.O_CREAT | (0 if overwrite or is_special(name) else os.O_EXCL))
        if _is_regular(descriptor):
            os.ftruncate(descriptor, 0)  # only now that it is locked: another may be writing to it
            _sync(descriptor, name)
        return cls(name, descriptor, 0)

    @classmethod
    def resume(cls, path: str | os.PathLike[str], size: int) -> LineFile:
        """The file, cut back to ``size``, which was recorded when it was written: what came after may not be whole.

        Raises OutputRefusedError for a file that is missing, or is not the one that was recorded.
        """
        name = os.fspath(path)
        if name == STANDARD_OUTPUT or is_special(name):
            return cls.create(name, overwrite=False)
        if not os.path.exists(name):
            if size == 0:
                return cls.create(name, overwrite=False)
            raise OutputRefusedError(path=name, reason=f"is missing, with {size:,} bytes written", remedy=_PUT_BACK)
        descriptor = _opened(name, 0)
        if (fault := _fault(descriptor, size)) is not None:
            os.close(descriptor)
            raise OutputRefusedError(path=name, reason=fault, remedy=_PUT_BACK)
        os.ftruncate(descriptor, size)
        _sync(descriptor, name)
        return cls(name, descriptor, size)

    def append(self, lines: Iterable[bytes]) -> int:
        """Write the lines, each without its end, and see that they are on the disk; the new size.

        Raises OutputNotWrittenError when that fails, of a full disk for example: none of the lines is in the file then.
        BrokenPipeError goes through, when whoever read standard output has gone.
        """
        data = b"".join(line + b"\n" for line in lines)
        try:
            _write(self._descriptor, data, self.size if self._is_regular else None)
        except BrokenPipeError:
            raise
        except OSError as error:
            self._cut_back()
            raise OutputNotWrittenError(path=self._path, reason=error.strerror or str(error)) from None
        self.size += len(data)
        return self.size

    def discard(self) -> None:
        """Delete the file, while it is locked, and close it; what is no regular one stays."""
        if self._is_regular and self._descriptor >= 0:
            with contextlib.suppress(OSError):  # somebody else has done it, or keeps us from it
                os.unlink(self._path)
        self.close()

    def close(self) -> None:
        """Let another write to it; what has been appended is on the disk."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> LineFile:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _cut_back(self) -> None:
        if self._is_regular:
            with contextlib.suppress(OSError):  # if this fails too, the size that is recorded still tells
                os.ftruncate(self._descriptor, self.size)
                os.fsync(self._descriptor)


def require_vacant(path: str) -> None:
    """Raises OutputRefusedError for a file that exists, and that ``LineFile.create`` would refuse."""
    if os.path.lexists(path) and not is_special(path):
        raise _refused(path, FileExistsError(errno.EEXIST, "it exists"))


def require_unlocked(path: str) -> None:
    """Raises OutputRefusedError for a file that another is writing to, or that cannot be opened. A pipe is not opened:
    who reads it would take that for all there is."""
    if os.path.exists(path) and not is_special(path):
        os.close(_opened(path, 0))


def require_folder(path: str) -> None:
    """Raises OutputRefusedError for a file that is not there and cannot be made."""
    folder = os.path.dirname(path) or "."
    if not os.path.lexists(path) and not os.access(folder, os.W_OK | os.X_OK):
        number = errno.EACCES if os.path.isdir(folder) else errno.ENOENT
        raise _refused(path, OSError(number, os.strerror(number)))


def _opened(path: str, flags: int) -> int:
    """The file, open for reading and writing and locked against a second writer."""
    try:
        descriptor = os.open(path, flags | (os.O_WRONLY if is_special(path) else os.O_RDWR), _MODE)
    except OSError as error:
        raise _refused(path, error) from None
    if _is_regular(descriptor):
        _lock(path, descriptor)
    return descriptor


def _lock(path: str, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise OutputRefusedError(
                path=path, reason="is being written to by another batch", remedy="wait for its end, or name another"
            ) from None
        raise _refused(path, error) from None


def _refused(path: str, error: OSError) -> OutputRefusedError:
    reason = "exists" if error.errno == errno.EEXIST else f"cannot be opened ({error.strerror})"
    return OutputRefusedError(path=path, reason=reason, remedy=_REMEDIES.get(error.errno or 0, "name another"))


def _standard_output() -> int:
    if sys.stdout is None:  # it was closed from the start: its number may be anything's by now
        raise _refused("on standard output", OSError(errno.EBADF, "it is closed"))
    try:
        return os.dup(1)
    except OSError as error:
        raise _refused("on standard output", error) from None


def _fault(descriptor: int, size: int) -> str | None:
    """What shows that this is not the file that had that size, with a whole line as its end."""
    found = os.fstat(descriptor).st_size
    if found < size:
        return f"has {found:,} bytes, fewer than the {size:,} that were written"
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        return f"has no line that ends at byte {size:,}, as the one that was written did"
    return None


def _write(descriptor: int, data: bytes, offset: int | None) -> None:
    rest = memoryview(data)
    while rest:
        written = os.write(descriptor, rest) if offset is None else os.pwrite(descriptor, rest, offset)
        offset = None if offset is None else offset + written
        rest = rest[written:]
    if offset is not None and data:
        os.fsync(descriptor)


def _sync(descriptor: int, path: str) -> None:
    """See that size and name outlive a power cut."""
    os.fsync(descriptor)
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _is_regular(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def is_special(path: str) -> bool:
    """Whether there is something that is neither a file nor a folder: nothing in it can be lost."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)
