"""Connections to PostgreSQL find out themselves that the other side is gone."""

import os
import socket

from lakehouse import pg
from lakehouse import settings as conf


def test_a_connection_asks_whether_the_other_side_is_there_and_waits_seconds_for_its_word(postgres_server):
    settings = conf.load()
    tcp = socket.IPPROTO_TCP
    with (
        pg.connected(settings, pg.secret(settings), 1000) as connection,
        socket.socket(fileno=os.dup(connection.fileno())) as wire,
    ):
        assert wire.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        asked = [wire.getsockopt(tcp, name) for name in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)]
        assert asked == [5, 2, 3]
        assert wire.getsockopt(tcp, socket.TCP_USER_TIMEOUT) == 11_000
