"""The writer of a light connection: daphne's, where no protocol of Autobahn has to be watched."""

from __future__ import annotations

from ..writer import DaphneWriter


class LightWriter(DaphneWriter):
    """Writes as :class:`DaphneWriter` does; what it has for a protocol is the light connection."""

    __slots__ = ()

    def _watch_closing(self) -> None:
        """The connection itself says when a close frame is sent (:meth:`stop`)."""

    def stop(self) -> None:
        """A close frame is about to be sent, or the connection has ended."""
        self._cut_soon()
        self._direct = False

    def _begin_close(self, code: int) -> None:
        self._protocol.close(code, self.linger)

    def end(self) -> None:
        self._direct = False
        self.closed = True
        self._forget_timer()
        self._transport.__dict__.pop("startWriting", None)

    def ping(self) -> None:
        if not self.closed and self._protocol.state == self._open:
            self._protocol.ping()
