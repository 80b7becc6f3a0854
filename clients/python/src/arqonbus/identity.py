"""An identity that outlives its process: a file with the ``client_id``, its proof, and the place in its inbox."""

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

#: Open files, so that a forked child does not keep the locks of its parent.
_open: weakref.WeakSet[Identity] = weakref.WeakSet()


class Identity:
    """The file of an identity. One client at a time may use it; ``FILE.lock`` is locked meanwhile."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.realpath(path))
        self.client_id = ""
        self.resume_token: str | None = None
        #: The place after the last finished private message.
        self.inbox: Position | None = None
        self._lock: int | None = None
        self._writing = threading.Lock()

    def open(self, client_id: str | None) -> None:
        """Lock the file for ``client_id``. None means the id in the file, or a new one.

        Raises ``IdentityInUse``, ``ValueError`` if the file is something else, and ``OSError``.
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
                    f"The identity {self.path} is in use by another client. Give each client its own file."
                )
            self._read()
            if client_id and self.client_id and client_id != self.client_id:
                raise ValueError(
                    f"{self.path} is the identity of {self.client_id}, not of {client_id}. Give {client_id} its own file."
                )
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock
        _open.add(self)
        self.client_id = client_id or self.client_id or f"me-{secrets.token_hex(8)}"

    def close(self) -> None:
        """Unlock the file."""
        with self._writing:
            lock, self._lock = self._lock, None
            if lock is not None:
                _unlock(lock)
                os.close(lock)

    def registered(self, client_id: str, resume_token: str | None) -> None:
        """Store the id and proof that the server confirmed."""
        if (client_id, resume_token) != (self.client_id, self.resume_token) or not self.path.exists():
            self.client_id, self.resume_token = client_id, resume_token
            self._write()

    async def done(self, place: Position) -> None:
        """Store the place in the inbox. Raises ``OSError``."""
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
                f"{self.path} is not an identity file. Use another file, or delete this one to start as a new client."
            ) from problem

    def _write(self) -> None:
        """Replace the whole file at once. After a crash, the old or the new file is there."""
        with self._writing:
            if self._lock is None:
                return  # The file was unlocked in the meantime, and another client may use it now.
            kept = {
                "client_id": self.client_id,
                "resume_token": self.resume_token,
                "inbox": None if self.inbox is None else self.inbox._asdict(),
            }
            # mkstemp creates the file for its owner only.
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
    """Forget the lock in a child process. It belongs to the parent."""
    for identity in list(_open):
        lock, identity._lock = identity._lock, None
        if lock is not None:
            os.close(lock)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
