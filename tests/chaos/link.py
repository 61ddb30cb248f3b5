"""A link between a worker and its server that loses answers and stands still: what a network does, and a pooler that dies."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
from pathlib import Path

_SOCKET = ".s.PGSQL.5432"
_CHUNK_BYTES = 1 << 16
_STANDSTILL_SECONDS = 120.0


class Link:
    """Forwards connections to the server in ``upstream``.

    Threads: one accepts, two more for each connection forward what comes from one side. All others may call.
    """

    def __init__(self, upstream: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pgf-link-", dir="/tmp"))  # a socket's path is short
        self._upstream = str(upstream / _SOCKET)
        self._lock = threading.Lock()
        self._to_lose = 0
        self.lost = 0
        """How many answers were lost."""
        self._flows = threading.Event()
        self._flows.set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / _SOCKET))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, database: str = "postgres") -> str:
        """The server's database, through the link."""
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def lose(self, answers: int) -> None:
        """Cut the connections of the next so many answers instead of forwarding them: what was asked for is done."""
        with self._lock:
            self._to_lose = answers

    def stand_still(self) -> None:
        """Forward nothing, and tell nobody."""
        self._flows.clear()

    def flow(self) -> None:
        """Forward again."""
        self._flows.set()

    def close(self) -> None:
        """Accept no connections any more."""
        self._flows.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._upstream)
            except OSError:
                client.close()
                server.close()
                continue
            for source, sink, is_answer in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._forward, args=(source, sink, is_answer), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                self._flows.wait(_STANDSTILL_SECONDS)
                if is_answer and self._loses_this():
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()

    def _loses_this(self) -> bool:
        with self._lock:
            loses = self._to_lose > 0
            self._to_lose -= loses
            self.lost += loses
        return loses
