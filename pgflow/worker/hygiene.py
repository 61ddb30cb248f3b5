"""Hygiene: what a handler changed in its process is put back, or the process is not used again.

What is not looked at, because a process would hardly ever be clean or because it may be meant: modules and what they
keep, ``sys.path``, warning filters, descriptors left open, native threads, nice value and CPU affinity.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal.getsignal makes enums: 28 us for all signals instead of 2
import builtins
import decimal
import faulthandler
import gc
import locale
import os
import resource
import signal
import sys
import time
from collections.abc import Iterable
from operator import is_ as _is

from pgflow.process import output, stack
from pgflow.worker.lingering import Lingering
from pgflow.worker.outlet import Outlet

_ATTEMPTS = 5
_STREAMS = ("stdin", "stdout", "stderr")
_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
_LIMITS = (resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)
_BUILTINS = tuple(name for name in vars(builtins) if name != "_")
_KEPT = (
    *((time, name) for name in ("time", "monotonic", "process_time", "perf_counter", "sleep")),
    (os, "getpid"),
)
"""What pgflow and pebble cannot do without, besides the builtins, and a mock that was not undone may have replaced."""
_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


# A mock of these must not keep itself from being found.
_THERE = vars(builtins)
_all, _map, _zip = all, map, zip


class Baseline:
    """This process as it is before its first task, to which it is brought back after each one. For the main thread.

    ``dump_fd`` is where its stacks go, ``tickets_fd`` where its tickets come from, ``outlet`` where its output goes.
    """

    def __init__(self, dump_fd: int, tickets_fd: int, outlet: Outlet) -> None:
        self._dump_fd = dump_fd
        self._outlet = outlet
        self._lingering = Lingering()
        self._descriptors = (0, 1, 2, dump_fd, tickets_fd, outlet.fd)
        self._identities = [_identity(fd) for fd in self._descriptors]
        self._person = _person()
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._handlers = [_signal.getsignal(number) for number in _SIGNALS]
        self._streams = [getattr(sys, name) for name in _STREAMS]
        self._trace, self._profile = sys.gettrace(), sys.getprofile()
        self._recursion_limit = sys.getrecursionlimit()
        self._switch_interval = sys.getswitchinterval()
        self._collects = gc.isenabled()
        self._kept = [(module, name, getattr(module, name)) for module, name in _KEPT]
        self._builtins = [getattr(builtins, name) for name in _BUILTINS]
        self._decimal = decimal.getcontext().copy()
        self._locale = locale.setlocale(locale.LC_ALL)
        self._folder = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))  # it need not be readable
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._environ, self._variables = os.environ, dict(os.environ)
        self._raw_variables = dict(_raw(os.environ))
        self._limits = [(limit, resource.getrlimit(limit)) for limit in _LIMITS]

    def restore(self) -> str | None:
        """Put back what can be put back exactly. When something cannot, why the process must be replaced, in words:
        ``what it left: details``, the first part being one of a few."""
        failure = "something"
        for _ in range(_ATTEMPTS):
            try:
                sys.setrecursionlimit(self._recursion_limit)  # first, as what follows needs it
                self._restore_functions()
                self._restore_signals()
                self._outlet.flush()
                self._restore_interpreter()
                self._restore_surroundings()
                return self._irreversible() or self._lingering.in_words()
            except BaseException as error:  # noqa: BLE001 - an alarm's or a signal's handler may raise in between
                failure = type(error).__name__
        return f"a state that cannot be put back: {failure}"

    def _restore_functions(self) -> None:
        if not _are_the_same(_map(_THERE.get, _BUILTINS), self._builtins):
            _THERE.update(_zip(_BUILTINS, self._builtins, strict=True))
        for module, name, value in self._kept:
            if module.__dict__.get(name) is not value:
                module.__dict__[name] = value

    def _restore_signals(self) -> None:
        """In this order: what would send more, what was sent and waits, who is told."""
        for timer in _TIMERS:
            signal.setitimer(timer, 0)
        faulthandler.cancel_dump_traceback_later()
        if signal.pthread_sigmask(signal.SIG_BLOCK, ()) != self._mask:
            while pending := signal.sigpending():
                signal.sigtimedwait(pending, 0)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        signal.set_wakeup_fd(-1)
        if not _are_the_same(_map(_signal.getsignal, _SIGNALS), self._handlers):
            for number, handler in _zip(_SIGNALS, self._handlers, strict=True):
                if _signal.getsignal(number) is not handler:
                    signal.signal(number, handler)
            stack.uninstall()  # faulthandler's own handlers may be among them
        stack.write_to(self._dump_fd)

    def _restore_interpreter(self) -> None:
        for name, stream in zip(_STREAMS, self._streams, strict=True):
            setattr(sys, name, stream)
        if not all(_is_open(stream) for stream in self._streams):
            output.survive_loss()
            self._streams = [getattr(sys, name) for name in _STREAMS]
        sys.settrace(self._trace)
        sys.setprofile(self._profile)
        sys.setswitchinterval(self._switch_interval)
        if gc.isenabled() != self._collects:
            gc.enable() if self._collects else gc.disable()
        decimal.setcontext(self._decimal.copy())
        if locale.setlocale(locale.LC_ALL) != self._locale:
            locale.setlocale(locale.LC_ALL, self._locale)

    def _restore_surroundings(self) -> None:
        os.fchdir(self._folder)
        os.umask(self._umask)
        os.environ = self._environ  # noqa: B003 - the same object, should a handler have put another there
        if _raw(os.environ) != self._raw_variables:
            for name in os.environ.keys() - self._variables.keys():
                del os.environ[name]
            os.environ.update(self._variables)
        for limit, values in self._limits:
            if resource.getrlimit(limit) != values:
                resource.setrlimit(limit, values)

    def _irreversible(self) -> str | None:
        if _identities(self._descriptors) != self._identities:
            changed = [fd for fd, one in zip(self._descriptors, self._identities, strict=True) if _identity(fd) != one]
            if changed:
                return f"a file descriptor closed or replaced: {changed[0]}"
        for fd in (1, 2):
            if not os.get_blocking(fd):
                os.set_blocking(fd, True)
        return "another user, group, process group or root folder" if _person() != self._person else None


def _are_the_same(these: Iterable[object], those: Iterable[object]) -> bool:
    """Pairs of the same objects; 30 ns each, a third of what a loop takes."""
    return _all(_map(_is, these, those))


def _identities(descriptors: Iterable[int]) -> list[tuple[int, int]] | None:
    """None if one is closed."""
    try:
        return [(status.st_dev, status.st_ino) for status in map(os.fstat, descriptors)]
    except OSError:
        return None


def _identity(fd: int) -> tuple[int, int] | None:
    found = _identities((fd,))
    return found[0] if found else None


def _person() -> tuple[object, ...]:
    if os.geteuid() != 0:
        return (os.getpgrp(),)  # who is not root cannot change the rest
    root = os.stat("/")
    return os.getpgrp(), os.getuid(), os.getgid(), os.getegid(), root.st_dev, root.st_ino


def _raw(environ: os._Environ[str]) -> dict[bytes, bytes]:
    """The variables as they are kept: comparing decoded ones takes 20 us, these 0.3."""
    raw: dict[bytes, bytes] = environ._data  # type: ignore[attr-defined]
    return raw


def _is_open(stream: object) -> bool:
    try:
        return not stream.closed  # type: ignore[attr-defined]
    except ValueError:  # detached
        return False
