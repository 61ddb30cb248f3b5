"""Running: a task in a slot's process, when it is to end by force, and what was seen of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from functools import partial

from pgflow import executor
from pgflow.database.tasks import ClaimedTask
from pgflow.outcome import Outcome, Released
from pgflow.process import memory, stack, usage
from pgflow.process.stack import Frame
from pgflow.process.usage import Usage
from pgflow.worker.autopsy import Autopsy
from pgflow.worker.logbook import Logbook
from pgflow.worker.oomwatch import OomWatch
from pgflow.worker.poolprocess import PoolProcess

EXIT_CODE_SECONDS = 0.02
"""How often it is looked whether pebble has learnt of an exit code, once a process has died: of 0 it says nothing."""
DEATH_SECONDS = 5.0
"""A verdict is awaited this long after the process's death from pebble, which tells of every other exit code."""
LOST_SECONDS = 30.0
"""A result is awaited this long after its handler's end: a busy machine may be slow, a broken channel stays broken."""
RESULT_SECONDS = 0.5
"""But not longer than this past the deadline."""
AWAKE_SECONDS = 2.0
"""After the dispatcher stood still (a signal stopped it, the machine slept), what has come meanwhile is read first."""
BEGIN_SECONDS = 20.0
"""A process that is alive and has not begun its task after this long never will: something has stopped it."""
FORKSERVER_SECONDS = 0.1
"""How long the forkserver may take to follow a process that died as if with it."""
CLOCK_SECONDS = 0.5
"""So much further the wall clock was put by somebody, and does not just run fast."""
MEMORY_SECONDS = 0.1
"""How often the memory of a task with a limit is looked at; of one without, at each look of the watch."""

Verdict = Callable[[Autopsy], Outcome]
"""What becomes of a task, once the stacks of its process have been read."""


class Running:
    """A task that was given to a process. ``number`` tells it from others of the slot in the slot's logbook;
    ``memory_limit`` is in bytes. ``awake_since`` is the ``time.monotonic()`` since which the watch has looked in time.
    """

    def __init__(
        self,
        number: int,
        task: ClaimedTask,
        process: PoolProcess | None,
        logbook: Logbook,
        memory_limit: int | None,
        oom: OomWatch,
    ) -> None:
        self.number = number
        self.task = task
        self.process = process
        self.condemned: str | None = None
        """Why nobody waits for it any more."""
        self.death_seen: float | None = None
        self.was_stopped = False
        """Whether its process was stopped, by a signal, when it was to end."""
        self._logbook = logbook
        self._memory_limit = memory_limit
        self._oom = oom
        self._submitted = time.monotonic()
        self._submitted_at = time.time()
        self._looked = 0.0
        self._cpu = 0.0
        self._peak_rss = 0

    # When it is to end.

    def next_look(self, awake_since: float) -> float:
        """The ``time.monotonic()`` at which ``why_now`` has to be asked again at the latest."""
        due = self._due(awake_since)
        if self.death_seen is not None:
            return min(due, time.monotonic() + EXIT_CODE_SECONDS)
        return due if self._memory_limit is None else min(due, self._looked + MEMORY_SECONDS)

    def why_now(self, awake_since: float) -> Verdict | None:
        """What becomes of the task if it is to end by force now; None if it may go on."""
        if self.death_seen is None:
            if (reason := self.condemned) is not None:
                return lambda autopsy: autopsy.cancelled(reason)
            if self._takes_too_much():
                return Autopsy.out_of_memory
        if time.monotonic() < self._due(awake_since):
            return None
        if self.death_seen is not None:
            return partial(self.died, exit_code=0 if self._has_ended_well() else None)
        if not self._has_begun():
            return lambda _: Released("its process did not begin it", counts=True)
        return Autopsy.lost if self.has_ended_in_time() else Autopsy.timed_out

    def _due(self, awake_since: float) -> float:
        if self.death_seen is not None:
            if not self._has_ended_well():
                return self.death_seen + DEATH_SECONDS
            return self.death_seen + (RESULT_SECONDS if self.has_ended_in_time() else 0.0)  # it may be on its way
        if not self._has_begun():
            return max(self._submitted, awake_since) + BEGIN_SECONDS
        deadline, ended = self._deadline(), self._logbook.ended()
        if ended.number != self.number:
            return deadline
        return max(min(ended.at + LOST_SECONDS, deadline + RESULT_SECONDS), awake_since + AWAKE_SECONDS)

    def _has_ended_well(self) -> bool:
        """Whether its process has ended in the task with exit code 0."""
        return self._has_begun() and self.process is not None and self.process.exit_code == 0

    def _deadline(self) -> float:
        return self._logbook.begun().at + self.task.timeout

    def clock_was_put_forward(self) -> bool:
        """Whether the wall clock has come further since it was given than time has."""
        passed = time.monotonic() - self._submitted
        return time.time() - self._submitted_at > passed + CLOCK_SECONDS

    def _has_begun(self) -> bool:
        return self._logbook.begun().number == self.number

    def has_ended_in_time(self) -> bool:
        """Whether the handler came to its end before the deadline; then its result was sent."""
        ended = self._logbook.ended()
        return ended.number == self.number and ended.at < self._deadline()

    def _takes_too_much(self) -> bool:
        now = time.monotonic()
        if self.process is None or now < self._looked + MEMORY_SECONDS:
            return False
        self._looked = now
        pid = self.process.pid
        seen = usage.sample(pid)
        if seen is None:
            return False
        taken = memory.of_tree(pid) if self._memory_limit is not None else seen.peak_rss
        self._cpu, self._peak_rss = seen.cpu, max(self._peak_rss, taken)
        return self._memory_limit is not None and taken > self._memory_limit

    def kept_slot_for(self) -> float:
        """For how many seconds it has kept its slot."""
        return time.monotonic() - self._submitted

    # What was seen of it.

    def died(self, autopsy: Autopsy, *, exit_code: int | None) -> Outcome:
        """The outcome of a task whose process has ended. One that ends with the forkserver, which is everybody's
        parent, is not to blame."""
        # The end of the forkserver is told by a pipe (255) and by its children's deaths, and only then by its pidfd.
        within = FORKSERVER_SECONDS if exit_code in (None, 255, -signal.SIGKILL) else 0.0
        if self.process is not None and self.process.has_lost_its_forkserver(within):
            return Released("the forkserver died", counts=True)
        if not self._has_begun():
            return Released("its process died before it began it", counts=True)
        return autopsy.ended(exit_code, oom_killer_struck=self._oom.has_struck())

    def autopsy(self, frames: tuple[Frame, ...]) -> Autopsy:
        """What is known of it; ``frames`` is its process's stack, innermost first."""
        begun = self._logbook.begun()
        has_begun = begun.number == self.number
        return Autopsy(
            task=self.task,
            elapsed=time.monotonic() - (begun.at if has_begun else self._submitted),
            usage=self._usage(begun.cpu),
            frames=stack.handler_frames(frames, executor.__file__),
            memory_limit=self._memory_limit,
            was_stopped=self.was_stopped,
        )

    def _usage(self, cpu_before: float) -> Usage | None:
        """What the task took; of a process that has died, what the watch has seen last."""
        used = self.process.usage() if self.process is not None else None
        if used is not None:
            # /proc counts in ticks of 10 ms, the logbook exactly.
            return Usage(max(0.0, used.cpu - cpu_before), max(used.peak_rss, self._peak_rss))
        return Usage(max(0.0, self._cpu - cpu_before), self._peak_rss) if self._peak_rss else None

    def evidence(self) -> dict[str, float] | None:
        """What was seen of a task whose handler came to its end, for the history."""
        ended = self._logbook.ended()
        if ended.number != self.number:
            return None
        return {
            "elapsed_seconds": round(ended.elapsed, 6),
            "cpu_seconds": round(ended.cpu, 6),
            "peak_rss": ended.peak_rss,
        }
