"""A TCP address of this machine, as a socket that listens."""

from __future__ import annotations

import socket


def listener(address: str, waiting_max: int) -> socket.socket:
    """Bound to `host:port`; `OSError` where that cannot be."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host.strip("[]").replace("localhost", "127.0.0.1"), int(port)))
        made.listen(waiting_max)
    except BaseException:
        made.close()
        raise
    return made
