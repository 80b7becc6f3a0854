"""An identity that outlives its process: a file with the ``client_id``, the proof of being it, and how far its inbox was read."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any

from .errors import IdentityInUse
from .messages import Position

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

#: Open ones, so that a child that is made by fork does not hold the locks of its parent.
_open: weakref.WeakSet[Identity] = weakref.WeakSet()


class Identity:
    """The file. One client at a time may have it: beside it lies ``FILE.lock``, which is locked as long as it is in use."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.realpath(path))
        self.client_id = ""
        self.resume_token: str | None = None
        #: After the last private message that its reader is done with.
        self.inbox: Position | None = None
        self._lock: int | None = None
        self._writing = threading.Lock()

    def open(self, client_id: str | None) -> None:
        """Take the file for ``client_id``; None: for that in the file, or for a new one.

        Raises ``IdentityInUse``, ``ValueError`` for a file that is something else, ``OSError``.
        """
        if self._lock is not None:
            return
        try:
            lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as problem:
            folder = self.path.parent
            raise OSError(problem.errno, problem.strerror, str(self.path if folder.is_dir() else folder)) from None
        try:
            if not _locked(lock):
                raise IdentityInUse(
                    f"The identity {self.path} is in use by another client. Give each client a file of its own."
                )
            self._read()
            if client_id and self.client_id and client_id != self.client_id:
                raise ValueError(
                    f"{self.path} is the identity of {self.client_id}, not of {client_id}. Give {client_id} a file of its own."
                )
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock
        _open.add(self)
        self.client_id = client_id or self.client_id or f"me-{secrets.token_hex(8)}"

    def close(self) -> None:
        """Let others have it."""
        with self._writing:
            lock, self._lock = self._lock, None
            if lock is not None:
                _unlock(lock)
                os.close(lock)

    def registered(self, client_id: str, resume_token: str | None) -> None:
        """Keep what the server confirmed."""
        if (client_id, resume_token) != (self.client_id, self.resume_token) or not self.path.exists():
            self.client_id, self.resume_token = client_id, resume_token
            self._write()

    async def done(self, place: Position) -> None:
        """Keep how far the inbox was read. Raises ``OSError``."""
        self.inbox = place
        await asyncio.to_thread(self._write)

    def _read(self) -> None:
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return
        try:
            kept: dict[str, Any] = json.loads(text)
            self.client_id, self.resume_token = str(kept["client_id"]), kept["resume_token"]
            inbox = kept.get("inbox")
            self.inbox = None if inbox is None else Position(int(inbox["seq"]), inbox["epoch"])
        except (ValueError, KeyError, TypeError) as problem:
            raise ValueError(
                f"{self.path} is not the identity of a client. Name another file, or remove this one to begin as a new client."
            ) from problem

    def _write(self) -> None:
        """Replace the file as a whole: who reads it after a crash finds the old or the new one."""
        with self._writing:
            if self._lock is None:
                return  # Given back meanwhile; somebody else may have it by now.
            kept = {
                "client_id": self.client_id,
                "resume_token": self.resume_token,
                "inbox": None if self.inbox is None else self.inbox._asdict(),
            }
            # Made for its owner alone, as mkstemp does.
            handle, new = tempfile.mkstemp(prefix=f"{self.path.name}.", suffix=".new", dir=self.path.parent)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump(kept, file)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(new, self.path)
            except BaseException:
                Path(new).unlink(missing_ok=True)
                raise


def _locked(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _unlock(handle: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(handle, fcntl.LOCK_UN)


def _forked() -> None:
    """In a child: the lock is its parent's."""
    for identity in list(_open):
        lock, identity._lock = identity._lock, None
        if lock is not None:
            os.close(lock)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
