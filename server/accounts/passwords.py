"""Passwords: which are taken, how they are hashed, and that it never blocks the loop.

Argon2id with OWASP's first parameters (19 MiB, 2 passes, 1 lane), in a bounded pool of threads:
argon2 and bcrypt let go of the interpreter's lock.
"""

import asyncio
import os
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from domain.errors import AppError, Code, refuse_field
from server.settings import SettingsError

MAX_LENGTH = 128
MOST_PARTS = 4  # that a character may be typed as: letter and accents
MAX_BLOCKLIST = 1_000_000  # lines
MAX_WAITING = 64  # hashes that wait for a thread: about a second of work
THREADS = max(1, min(4, (os.cpu_count() or 1) - 1))
BCRYPT_BYTES = 72  # bcrypt never looked at more

T = TypeVar("T")


class Passwords:
    """Checks, hashes and verifies passwords."""

    def __init__(self, min_length: int, blocklist: frozenset[str] = frozenset()) -> None:
        self._min_length = min_length
        self._blocklist = blocklist
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._nobody = self._hasher.hash("nobody's password")
        self._threads = ThreadPoolExecutor(THREADS, "passwords")
        self.waiting = 0
        """Hashes under way or waiting for a thread."""

    async def close(self) -> None:
        """End the threads."""
        await asyncio.get_running_loop().run_in_executor(None, self._threads.shutdown)

    def parse(self, value: object, field: str = "password") -> str:
        """A new password in NFKC; raises AppError naming `field` when it is not taken."""
        if not isinstance(value, str):
            raise refuse_field(Code.INVALID_TYPE, field, "must be a text")
        typed = unicodedata.normalize("NFC", value[: MOST_PARTS * MAX_LENGTH + 1])
        if len(value) > MOST_PARTS * MAX_LENGTH or len(typed) > MAX_LENGTH:
            raise refuse_field(
                Code.INVALID_VALUE, field, f"must have at most {MAX_LENGTH} characters"
            )
        password = _normalised(typed)
        if len(typed) < self._min_length:
            raise refuse_field(
                Code.INVALID_VALUE, field, f"must have at least {self._min_length} characters"
            )
        try:
            password.encode()
        except UnicodeEncodeError:
            raise refuse_field(Code.INVALID_VALUE, field, "must be valid Unicode") from None
        if password.casefold() in self._blocklist:
            raise refuse_field(Code.INVALID_VALUE, field, "is too common: choose another one")
        return password

    async def hash(self, password: str) -> str:
        """The hash to keep of a password that was parsed or verified.

        Raises AppError `overloaded`.
        """
        return await self._run(lambda: self._hasher.hash(_normalised(password)))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether the password is the hash's; None takes as long and is never right.

        Raises AppError `overloaded`.
        """
        return await self._run(lambda: self._matches(password_hash, password))

    def outdated(self, password_hash: str) -> bool:
        """Whether a hash is of another kind, or weaker, than those made now."""
        return not password_hash.startswith("$argon2id$") or self._hasher.check_needs_rehash(
            password_hash
        )

    def _matches(self, password_hash: str | None, password: str) -> bool:
        if password_hash is not None and password_hash.startswith("$2"):
            return _bcrypt_matches(password_hash, password)
        try:
            right = self._hasher.verify(password_hash or self._nobody, _normalised(password))
        except (VerificationError, InvalidHashError, UnicodeEncodeError):
            return False
        return right and password_hash is not None

    async def _run(self, work: Callable[[], T]) -> T:
        if self.waiting >= MAX_WAITING:
            raise AppError(Code.OVERLOADED, "Too many logins at once: try again", retry_after=1.0)
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self.waiting -= 1


def _normalised(password: str) -> str:
    return unicodedata.normalize("NFKC", password)


def _bcrypt_matches(password_hash: str, password: str) -> bool:
    try:
        return bcrypt.checkpw(password.encode()[:BCRYPT_BYTES], password_hash.encode())
    except ValueError:  # no bcrypt hash, or what bcrypt does not take
        return False


def read_blocklist(path: Path) -> frozenset[str]:
    """The refused passwords of a file, one a line, in any case; raises SettingsError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"PASSWORD_BLOCKLIST {path}: {error}") from None
    if len(lines) > MAX_BLOCKLIST:
        raise SettingsError(f"PASSWORD_BLOCKLIST {path}: more than {MAX_BLOCKLIST} lines")
    return frozenset(_normalised(line.strip()).casefold() for line in lines if line.strip())
