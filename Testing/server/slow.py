"""Sessions that take their time, a proxy that breaks connections, and waiting with an end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from FastSAM3DCore.errors import CancelledError
from Testing.core.fakes import FakeSession


class SlowSession(FakeSession):
    """Answers prompts only while its gate is open; can be cancelled like the real one."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()
        self.order: list[str] = []
        self.name = ""
        self.stop = False

    def add_point(self, point_ijk, positive=True):
        self.entered.set()
        self.gate.wait(10)
        self.order.append(self.name)
        if self.stop:
            self.stop = False
            raise CancelledError("Cancelled; nothing was changed.")
        return super().add_point(point_ijk, positive)

    def cancel(self):
        self.stop = True
        self.gate.set()


class Proxy:
    """Passes bytes between client and server; `break_after` answers it drops the connection instead of the answer."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target, self.break_next, self.refuse = target, 0, False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuse:
                client.close()
                continue
            server = socket.create_connection(self.target)
            threading.Thread(target=self._pass, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, True), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if answers and self.break_next:
                    self.break_next -= 1
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):  # the other direction was faster
                end.shutdown(socket.SHUT_RDWR)  # close alone would not wake a thread that waits for bytes
            end.close()


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)
