"""Accounts: who may sign in where the explorer can be reached from other machines."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from cytosae.common.disk import write_durably
from cytosae.common.errors import UsageError

Role = Literal["coordinator", "rater", "reader"]
COOKIE = "cytosae-session"
SESSION_SECONDS = 8 * 3600
"""A session ends so long after its last use, and at the latest after three times as long."""
ATTEMPTS, ATTEMPT_SECONDS = 5, 60.0
"""Failed attempts for one name within so many seconds before further ones are refused unread."""
SHORTEST = 12
NAMES = 64


@dataclass(frozen=True)
class User:
    """Somebody who has signed in."""

    name: str
    role: Role


@dataclass
class _Session:
    user: User
    began: float
    used: float


class Accounts:
    """The accounts of a file, and who is signed in.

    Parameters
    ----------
    file : Path
        JSON: name -> {"role", "hash"}; `add_account` writes it. It is read again when it changes.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known, self._read_at = _read(file), _changed(file)
        self._sessions: dict[str, _Session] = {}
        self._failed: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=ATTEMPTS))
        self._lock = threading.Lock()
        self._hasher = PasswordHasher()
        self._nobody = self._hasher.hash(secrets.token_hex(16))

    def sign_in(self, name: str, password: str) -> str | None:
        """A new session's token, None where name or password are wrong.

        Raises
        ------
        UsageError
            Too many failed attempts for this name.
        """
        name = name[:NAMES]
        with self._lock:
            failed = self._failed[name]
            if len(failed) == ATTEMPTS and time.monotonic() - failed[0] < ATTEMPT_SECONDS:
                raise UsageError("Too many failed attempts; wait a minute.")
            if len(self._failed) > 10_000:  # made-up names must not fill the memory
                self._failed.clear()
        account = self._accounts().get(name)
        try:
            self._hasher.verify(account["hash"] if account else self._nobody, password[:1024])
            right = account is not None
        except (VerificationError, InvalidHashError):
            right = False
        with self._lock:
            if account is None or not right:
                self._failed[name].append(time.monotonic())
                return None
            self._failed.pop(name, None)
            token, now = secrets.token_urlsafe(32), time.monotonic()
            self._sessions[token] = _Session(User(name, _role(account["role"])), now, now)
            return token

    def user_of(self, token: str | None) -> User | None:
        """Who a session belongs to; None where there is none, or it has ended."""
        if not token:
            return None
        with self._lock:
            session, now = self._sessions.get(token), time.monotonic()
            if session is None:
                return None
            if now - session.used > SESSION_SECONDS or now - session.began > 3 * SESSION_SECONDS:
                del self._sessions[token]
                return None
            session.used = now
        account = self._accounts().get(session.user.name)  # one that was taken away is out at once
        return User(session.user.name, _role(account["role"])) if account else None

    def sign_out(self, token: str | None) -> None:
        """End a session."""
        with self._lock:
            self._sessions.pop(token or "", None)

    def _accounts(self) -> dict[str, dict[str, str]]:
        changed = _changed(self._file)
        if changed != self._read_at:
            self._known, self._read_at = _read(self._file), changed
        return self._known


def add_account(file: Path, name: str, password: str, role: Role) -> None:
    """Add an account to a file, which is made where it is missing, or give it another password or role.

    Raises
    ------
    UsageError
        The name or the password is too short or too long.
    """
    if not name or len(name) > NAMES or not name.isprintable():
        raise UsageError(f"The name of an account has 1 to {NAMES} printable characters.")
    if len(password) < SHORTEST:
        raise UsageError(f"The password has {len(password)} characters; take at least {SHORTEST}.")
    known = _read(file) if file.exists() else {}
    known[name] = {"role": role, "hash": PasswordHasher().hash(password)}
    write_durably(file, (json.dumps(known, indent=2) + "\n").encode())
    file.chmod(0o600)


def _read(file: Path) -> dict[str, dict[str, str]]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): {"role": _role(of["role"]), "hash": str(of["hash"])} for name, of in found.items()}
    except FileNotFoundError as problem:
        raise UsageError(
            f"{file} does not exist; make it with: cytosae explore accounts NAME --file {file}."
        ) from problem
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as problem:
        raise UsageError(f"{file} is no file of accounts ({problem}); make it anew.") from problem


def _role(text: str) -> Role:
    for role in get_args(Role):
        if text == role:
            return role
    raise UsageError(f"There is no role {text!r}; choose among: {', '.join(get_args(Role))}.")


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
