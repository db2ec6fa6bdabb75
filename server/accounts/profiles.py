"""Profiles: read, changed under a guard, listed, searched, each with who is online."""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from domain.accounts import Account
from domain.errors import AppError, Code
from domain.presence import Status
from domain.profiles import ProfileChange, change
from domain.times import iso
from domain.usernames import username_key
from realtime.live import Live
from server.accounts.service import AccountService
from storage.accounts import AccountRepository, cursor

TIMEOUT = 4.0  # seconds for the store
TRIES = 100  # against others who change the same profile: each time, one of them is through
PAUSE = 0.005  # seconds, longer with every try

NEVER = iso(0)

Shown = dict[str, Any]


class ProfileService:
    """What people say of themselves, and what others see of it."""

    def __init__(
        self,
        repository: AccountRepository,
        accounts: AccountService,
        live: Live,
        clock: Callable[[], int],
    ) -> None:
        self._repository = repository
        self._accounts = accounts
        self._live = live
        self._clock = clock

    async def read(self, user_id: str) -> Account:
        """The account of a user; raises AppError `not_found` or `erased`."""
        account = await self._repository.read(user_id, TIMEOUT)
        if account is None:
            raise AppError(Code.NOT_FOUND, "There is no profile of this user")
        return account

    async def update(self, user_id: str, wish: ProfileChange, if_match: str | None) -> Account:
        """The stored account after `wish`, or as it is when a newer change has won.

        Somebody known by tokens made elsewhere gets a profile. Raises AppError
        `username_taken`, `precondition_failed`, `erased`.
        """
        for attempt in range(TRIES):
            stored = await self._repository.read(user_id, TIMEOUT)
            _check_precondition(stored, if_match)
            before = stored or Account(user_id, username="", created_at=self._clock())
            new = change(before, wish, self._clock())
            if new is stored:
                return new
            kept = await self._keep(stored, new)
            if kept is not None:
                self.tell(kept)
                return kept
            await asyncio.sleep(random.uniform(0, PAUSE * attempt))  # noqa: S311 - only jitter
        raise AppError(Code.UNAVAILABLE, "The profile changes too fast: try again", retry_after=1.0)

    async def _keep(self, stored: Account | None, new: Account) -> Account | None:
        """The account as it is kept now, or None when somebody was first."""
        if stored is not None:
            return new if await self._repository.replace(stored, new, TIMEOUT) else None
        try:
            return await self._accounts.profile_only(new)
        except AppError as error:
            if error.code is not Code.ID_TAKEN:
                raise
            return None

    def tell(self, account: Account) -> None:
        """Tell a changed account to the user's sockets, its public part to watchers."""
        own, public = orjson.dumps(account.whole()), orjson.dumps(account.public())
        self._live.tell_profile(account.id, account.version, own, public)

    async def page(self, after: str | None, limit: int) -> tuple[list[Account], str | None]:
        """Accounts in the order of their making, and the next page's cursor if there is one."""
        found = await self._repository.page(after, limit + 1, TIMEOUT)
        page = found[:limit]
        return page, cursor(page[-1]) if len(found) > limit else None

    async def search(self, query: str, raw: str, limit: int) -> list[Account]:
        """Who has a word that begins with `query`; the one of this very username first."""
        exact = await self._repository.by_username(username_key(raw), TIMEOUT)
        found = await self._repository.search(query, limit, TIMEOUT)
        if exact is not None and exact.search_keys:
            found = [exact, *(account for account in found if account.id != exact.id)]
        return found[:limit]

    async def with_presence(
        self, accounts: Sequence[Account], show: Callable[[Account], Shown]
    ) -> list[Shown]:
        """Each account as `show` has it, with who is online, asked for all at once."""
        if not accounts:
            return []
        entries = await self._live.presence.entries([account.id for account in accounts])
        return [{**show(account), **_presence(entries[account.id])} for account in accounts]

    async def set_status(self, user_id: str, status: Status, note: str | None) -> Shown:
        """Keep a user's word on their presence; online for 5 minutes without a socket, too."""
        entry = await self._live.presence.visit(user_id, status, note)
        shown = {"id": user_id, **_presence(entry)}
        if "note" in entry:
            shown["note"] = entry["note"]
        return shown


def etag(account: Account) -> str:
    """The version of an account, for `ETag` and `If-Match`."""
    return f'"{account.version}"'


def _presence(entry: Shown) -> Shown:
    return {
        "isOnline": entry["online"],
        "status": entry["status"],
        "lastSeen": None if entry["lastSeen"] == NEVER else entry["lastSeen"],
    }


def _check_precondition(stored: Account | None, if_match: str | None) -> None:
    if if_match is None:
        return
    given = [tag.strip() for tag in if_match.split(",")]
    if stored is not None and ("*" in given or etag(stored) in given):
        return
    raise AppError(
        Code.PRECONDITION_FAILED, "If-Match: the profile is another version by now; get it first"
    )
