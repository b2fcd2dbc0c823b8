"""A TCP proxy on loopback whose connections can be made half-open: they stay, and nothing comes through any more."""

import selectors
import socket
import threading
from contextlib import suppress


class Proxy:
    """Forwards a port to another one."""

    def __init__(self, port: int, to: int) -> None:
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._dumb: set[socket.socket] = set()
        self._ending = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._ending:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._to), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for side in (client, server):
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((client, server))
            threading.Thread(target=self._forward, args=(client, server), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        try:
            with selectors.DefaultSelector() as ready:
                for side in other:
                    ready.register(side, selectors.EVENT_READ)
                while True:
                    for key, _ in ready.select(0.5):
                        side = key.fileobj
                        assert isinstance(side, socket.socket)
                        if side in self._dumb:
                            # Nobody reads what was sent; its end is not passed on either.
                            ready.unregister(side)
                            continue
                        data = side.recv(1 << 16)
                        if not data:
                            return
                        other[side].sendall(data)
                    if self._ending or client.fileno() < 0:
                        return
        except (OSError, ValueError):
            return
        finally:
            self._close(client, server)

    def _close(self, *sides: socket.socket) -> None:
        with self._lock:
            self._pairs = [pair for pair in self._pairs if pair[0] not in sides]
            self._dumb -= set(sides)
        for side in sides:
            with suppress(OSError):
                side.close()

    def half_open(self) -> int:
        """Let nothing through on today's connections, which stay open; new ones work. How many they are."""
        with self._lock:
            self._dumb |= {side for pair in self._pairs for side in pair}
            return len(self._pairs)

    def drop(self) -> None:
        """Close the connections that are half-open."""
        with self._lock:
            pairs = [pair for pair in self._pairs if pair[0] in self._dumb]
        for pair in pairs:
            self._close(*pair)

    def close(self) -> None:
        """End."""
        self._ending = True
        with suppress(OSError):
            self._listener.close()
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._close(*pair)
