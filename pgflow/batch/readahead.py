"""Reading ahead: what the source has come to, in chunks, while the last one is being added."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable, Iterator

from pgflow.batch.items import Item

CHUNK_ITEMS = 1_000
CHUNK_CHARACTERS = 256 << 10
"""A chunk of items is one run; a larger one would be read as a whole by each claim for nothing."""
SLOW_SECONDS = 0.1
"""What a source has come to is not kept waiting longer for the rest of its chunk."""
SHUFFLE_ITEMS = 50_000
SHUFFLE_CHARACTERS = 32 << 20
"""Of the window in which items are shuffled; so much of a source is in memory."""


class ReadAhead:
    """Reads items into chunks, one ahead of who takes them.

    Thread: ``pgflow-reader`` iterates over the items; it waits while a full chunk has not been taken. It ends with the
    process where a source neither gives nor ends.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = items
        self._changed = threading.Condition()
        self._chunk: list[Item] = []
        self._characters = 0
        self._since = 0.0
        self._is_over = False
        self._is_stopped = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._loop, name="pgflow-reader", daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def stop(self) -> None:
        """Read nothing more, once the source gives something."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def take(self, seconds: float) -> list[Item]:
        """A chunk, after ``seconds`` at most: a full one, or what a slow source has come to; empty when it has given
        nothing, or all. Raises what the source raised, once everything before it has been taken."""
        with self._changed:
            self._changed.wait_for(self._is_due, seconds)
            if not self._is_due():
                return []
            chunk, self._chunk, self._characters = self._chunk, [], 0
            self._changed.notify_all()
            if not chunk and self._failure is not None:
                raise self._failure
            return chunk

    @property
    def is_over(self) -> bool:
        """Whether everything has been taken."""
        with self._changed:
            return self._is_over and not self._chunk and self._failure is None

    def _is_due(self) -> bool:
        return self._is_full() or self._is_over or self._is_slow()

    def _is_full(self) -> bool:
        return len(self._chunk) >= CHUNK_ITEMS or self._characters >= CHUNK_CHARACTERS

    def _is_slow(self) -> bool:
        return bool(self._chunk) and time.monotonic() - self._since >= SLOW_SECONDS

    def _loop(self) -> None:
        try:
            for item in self._items:
                if not self._put(item):
                    return
        except BaseException as error:  # noqa: BLE001 - it is raised where the items are taken
            self._failure = error
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _put(self, item: Item) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_full() or self._is_stopped)
            if not self._chunk:
                self._since = time.monotonic()
            self._chunk.append(item)
            self._characters += len(item.json)
            if self._is_full():
                self._changed.notify_all()
            return not self._is_stopped


def shuffled(items: Iterable[Item], seed: int | None = None) -> Iterator[Item]:
    """The items in random order, within a window of ``SHUFFLE_ITEMS``: the first one comes when the window is full."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    window: list[Item] = []
    characters = 0
    for item in items:
        window.append(item)
        characters += len(item.json)
        while len(window) > SHUFFLE_ITEMS or characters > SHUFFLE_CHARACTERS:
            drawn = _draw(window, chance)
            characters -= len(drawn.json)
            yield drawn
    while window:
        yield _draw(window, chance)


def _draw(window: list[Item], chance: random.Random) -> Item:
    place = chance.randrange(len(window))
    window[place], window[-1] = window[-1], window[place]
    return window.pop()
