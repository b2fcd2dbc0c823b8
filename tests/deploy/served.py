"""A server of a test, in a thread."""

import threading
from contextlib import contextmanager


@contextmanager
def serving(server):
    """The server, listening until the end of the block."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
