"""Running: what a slot's process is doing, when it is to end by force, and what was seen of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pgflow import executor
from pgflow.outcome import Cancelled, Completed, Evidence, Failed, Outcome, Released
from pgflow.process import memory, stack, usage
from pgflow.process.stack import Frame
from pgflow.process.usage import Usage
from pgflow.worker import child
from pgflow.worker.autopsy import Autopsy
from pgflow.worker.logbook import Logbook, Record
from pgflow.worker.oomwatch import OomWatch
from pgflow.worker.poolprocess import PoolProcess
from pgflow.worker.tickets import Tickets

if TYPE_CHECKING:
    from pgflow.database.tasks import ClaimedTask

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

LAGGING_SECONDS = 0.2
"""A series that takes this long, twice what it should, is told of as far as it has come, and what has not begun is
taken back."""
OVERWRITTEN = "a handler wrote into the logbook of its slot, where its result was"

Verdict = Callable[[Autopsy], Outcome]
"""What becomes of a task, once the stacks of its process have been read."""
End: TypeAlias = "tuple[ClaimedTask, Outcome]"


class Taken(NamedTuple):
    """What there was of a series when it was taken from its slot: the ends that were not told of yet, the last task
    that its process has begun, its outcome if it is in the logbook, and what was not begun."""

    ends: list[End]
    last: ClaimedTask
    outcome: Outcome | None
    rest: list[ClaimedTask]


class Running:
    """A task that was given to a process, or a series of them, of which it does one after the other: then everything
    here is about the one whose turn it is, the first that has not left its answer in the logbook.

    ``first`` is the first one's number, which tells it from others of the slot in the slot's logbook; the others'
    follow. They have waited for a slot since ``since``, a ``time.monotonic()``. ``memory_limit`` is in bytes.
    ``awake_since`` is the ``time.monotonic()`` since which the watch has looked in time.
    """

    def __init__(
        self,
        first: int,
        tasks: Sequence[ClaimedTask],
        since: float,
        process: PoolProcess | None,
        logbook: Logbook,
        tickets: Tickets,
        memory_limit: int | None,
        oom: OomWatch,
    ) -> None:
        self.since = since
        self.process = process
        self.condemned: dict[int, str] = {}
        """Why nobody waits for it any more, by the task's ``id``."""
        self.death_seen: float | None = None
        self.was_stopped = False
        """Whether its process was stopped, by a signal, when it was to end."""
        self._first = first
        self._tasks = list(tasks)
        self._told = 0
        self._is_closed = False  # what can be taken back has been: the watch need not come for it any more
        self._logbook = logbook
        self._tickets = tickets
        self._memory_limit = memory_limit
        self._oom = oom
        self._submitted = time.monotonic()
        self._submitted_at = time.time()
        self._looked = 0.0
        self._seen = first
        self._over: int | None = None
        self._cpu = 0.0
        self._peak_rss = 0

    # Which it is.

    @property
    def number(self) -> int:
        """The number of the task whose turn it is."""
        return self._first + self._turn(self._tasks)

    @property
    def task(self) -> ClaimedTask:
        """The task whose turn it is."""
        tasks = self._tasks  # another thread may withdraw some
        return tasks[self._turn(tasks)]

    def _turn(self, tasks: Sequence[ClaimedTask]) -> int:
        return min(self._logbook.recorded(self._first, len(tasks)), len(tasks) - 1)

    def condemn(self, condemned: Sequence[tuple[ClaimedTask, str]]) -> None:
        """Note those of these very tasks that are in it."""
        ours = {id(task) for task in self._tasks}
        self.condemned |= {id(task): reason for task, reason in condemned if id(task) in ours}

    def is_lagging(self) -> bool:
        """Whether the rest of the series should not wait any longer."""
        return self._may_lag() and time.monotonic() >= self._submitted + LAGGING_SECONDS

    def _may_lag(self) -> bool:
        return len(self._tasks) > 1 and not self._is_closed

    def take(self) -> Taken:
        """All of it, under the slot's lock, or by who has taken it already: once the slot is without a task, its next
        process may clear the logbook."""
        rest = self.withdraw()
        return Taken(self.take_recorded(), self._tasks[-1], self._recorded_last(), rest)

    def withdraw(self) -> list[ClaimedTask]:
        """Take back the tasks that its process has not begun: they are no part of it any more. Under the slot's
        lock."""
        self._is_closed = True
        count = min(self._tickets.take_back(), len(self._tasks) - 1 - self._told)
        kept = len(self._tasks) - count
        withdrawn, self._tasks = self._tasks[kept:], self._tasks[:kept]
        return withdrawn

    def take_recorded(self) -> list[End]:
        """After ``withdraw``: the ends, each once, of all but the last, which is told of by who settles it. Their
        answers are in the logbook, as otherwise there would be a ticket for the next."""
        count = len(self._tasks) - 1
        if count <= self._told:
            return []
        records = self._logbook.records(self._first, count)
        new = zip(self._tasks[self._told : count], records[self._told :], strict=True)
        ends: list[End] = [(task, _outcome(record) or Released(OVERWRITTEN, counts=True)) for task, record in new]
        self._told = count
        return ends

    def _recorded_last(self) -> Outcome | None:
        """The outcome of the last task, if its answer is in the logbook although no other follows: the others were
        taken back."""
        count = len(self._tasks)
        if self._logbook.recorded(self._first, count) < count:
            return None
        return _outcome(self._logbook.records(self._first, count)[-1])

    # When it is to end.

    def next_look(self, awake_since: float) -> float:
        """The ``time.monotonic()`` at which ``why_now`` has to be asked again at the latest."""
        due = self._due(awake_since)
        if self.death_seen is not None:
            return min(due, time.monotonic() + EXIT_CODE_SECONDS)
        if self._may_lag():
            due = min(due, self._submitted + LAGGING_SECONDS)
        return due if self._memory_limit is None else min(due, self._looked + MEMORY_SECONDS)

    def why_now(self, awake_since: float) -> Verdict | None:
        """What becomes of the task if it is to end by force now; None if it may go on."""
        if self.death_seen is None:
            if self.condemned and (reason := self.condemned.get(id(self.task))) is not None:
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
        ended = self._logbook.ended()
        if not self._has_begun():
            is_ours = self._first <= ended.number < self._first + len(self._tasks)
            before = ended.at if is_ours else self._submitted
            return max(before, awake_since) + BEGIN_SECONDS
        deadline = self._deadline()
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
        now, number = time.monotonic(), self.number
        if self._over == number:
            return True
        if self.process is None or now < self._looked + MEMORY_SECONDS:
            return False
        self._looked = now
        pid = self.process.pid
        seen = usage.sample(pid)
        if seen is None:
            return False
        taken = memory.of_tree(pid) if self._memory_limit is not None else seen.peak_rss
        if self._seen != number:
            self._seen, self._peak_rss = number, 0
        self._cpu, self._peak_rss = seen.cpu, max(self._peak_rss, taken)
        if self._memory_limit is not None and taken > self._memory_limit:
            self._over = number
        return self._over == number

    def kept_slot_for(self) -> float:
        """For how many seconds it has kept its slot; of a series, all together."""
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
        if self._seen != self.number or not self._peak_rss:
            return None
        return Usage(max(0.0, self._cpu - cpu_before), self._peak_rss)

    def is_of_last(self, answer: child.Answer) -> bool:
        """Whether it is the last task's, once all has been taken. If not, a handler has taken tickets, or made some:
        who did what is not known."""
        return answer.number == self._first + len(self._tasks) - 1

    def outcome(self, answer: child.Answer) -> Outcome:
        """What its process has answered for the last task."""
        ended = self._logbook.ended()
        seen = _evidence(ended.elapsed, ended.cpu, ended.peak_rss) if ended.number == self.number else None
        if answer.kind == child.COMPLETED:
            return Completed(answer.text, seen)
        return Failed(answer.text, answer.retry_delay, seen)


def not_started(task: ClaimedTask, reason: str) -> End:
    """The end of a task that nobody waits for any more."""
    return task, Cancelled(f"Task was not started: {reason}", reason)


def _outcome(record: Record | None) -> Completed | Failed | None:
    if record is None:
        return None
    seen = _evidence(record.elapsed, record.cpu, record.peak_rss)
    if record.kind == child.COMPLETED:
        return Completed(record.text, seen)
    return Failed(record.text, record.retry_delay, seen)


def _evidence(elapsed: float, cpu: float, peak_rss: int) -> Evidence:
    """What was seen of a task whose handler came to its end, for the history."""
    return {"elapsed_seconds": round(elapsed, 6), "cpu_seconds": round(cpu, 6), "peak_rss": peak_rss}
