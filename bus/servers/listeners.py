"""Listening sockets. They are made before the server starts, so that a port in use is one clear line."""

from __future__ import annotations

import errno
import socket

#: Connections that may wait to be accepted when thousands of clients come back at once. The kernel's net.core.somaxconn (4096
#: on Linux) is the upper bound.
BACKLOG = 4096


class CannotListen(Exception):
    """The address cannot be used; the text says why, and what to do."""


def listen(host: str, port: int, option: str = "--port") -> list[socket.socket]:
    """Listen on every address of ``host`` (``localhost`` is 127.0.0.1 and, where there is one, ::1).

    ``port`` 0 stands for a free port, the same for all addresses. Raises ``CannotListen``, whose text names ``option``, when the
    port is in use or needs privileges, and when the host is not an address of this machine.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror:
        raise CannotListen(
            f"{host!r} is not an address of this machine. Try --host localhost or --host 0.0.0.0."
        ) from None
    except OverflowError:
        raise CannotListen(f"{option} {port} is not a port. It must be between 0 and 65535.") from None
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            made = _bound(family, (address[0], sockets[0].getsockname()[1] if sockets else port), bool(sockets))
            if made is not None:
                sockets.append(made)
    except OSError as problem:
        for made in sockets:
            made.close()
        raise CannotListen(_explained(problem, host, port, option)) from None
    if not sockets:
        raise CannotListen(f"Nothing to listen on: {host!r} has no usable address on this machine.")
    return sockets


def _bound(family: int, address: tuple[object, int], optional: bool) -> socket.socket | None:
    """A listening socket, or None for a further address that this machine does not have (IPv6 switched off)."""
    try:
        # The protocol is named: asyncio switches Nagle's algorithm off only where it sees that a socket is TCP.
        made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError:
        return None
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError as problem:
        made.close()
        if problem.errno == errno.EADDRNOTAVAIL and (optional or family == socket.AF_INET6):
            return None
        raise
    return made


def _explained(problem: OSError, host: str, port: int, option: str) -> str:
    if problem.errno == errno.EADDRINUSE:
        return f"Port {port} on {host} is in use by another process. Stop that process, or choose another port with {option}."
    if problem.errno == errno.EACCES:
        return f"Port {port} needs privileges that this user lacks. Choose a port above 1023 with {option}."
    return f"Cannot listen on {host}:{port}: {problem.strerror}. Choose another with --host and {option}."
