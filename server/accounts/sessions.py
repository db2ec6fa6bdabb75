"""Logins and their end: tokens, refresh tokens, and that an end reaches every instance."""

import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from domain import sessions
from domain.accounts import Account
from domain.errors import AppError, Code
from domain.identity import Identity
from domain.sessions import PART, Session
from domain.times import iso
from realtime.reads import GroupRead
from realtime.tasks import Loop
from server.settings import Settings
from server.signing import Signer
from storage.sessions import Ended, SessionRepository

log = logging.getLogger(__name__)

TIMEOUT = 4.0  # seconds for the store
SESSIONS_PER_USER = 50
REFRESH_TRIES = 5  # one loses a race against itself at most once
WATCH_EVERY = 1.0  # seconds
MAX_WAITING = 20_000  # sessions that wait to be looked at
MAX_SEEN = 100_000  # ends remembered, of the last 30 s


@dataclass(frozen=True, slots=True)
class Login:
    """What somebody gets who has logged in."""

    token: str
    refresh_token: str
    expires_at: int
    """When `token` runs out, seconds since 1970."""

    def document(self) -> dict[str, Any]:
        """As it goes out."""
        return {
            "token": self.token,
            "refreshToken": self.refresh_token,
            "expiresAt": iso(self.expires_at * 1000),
        }


class SessionService:
    """Begins, prolongs and ends sessions, and watches for those that end elsewhere."""

    def __init__(
        self,
        repository: SessionRepository,
        signer: Signer | None,
        settings: Settings,
        clock: Callable[[], int],
        on_end: Callable[[Collection[str], Collection[str]], None],
    ) -> None:
        self._repository = repository
        self._signer = signer
        self._token_ttl = settings.jwt_expire
        self._lifetime = round(settings.refresh_expire * 1000)
        self._grace = round(settings.refresh_grace * 1000)
        self._clock = clock
        self._on_end = on_end
        self._owners = GroupRead(repository.owners, TIMEOUT, MAX_WAITING)
        self._since: int | None = None
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._loop = Loop("ended sessions", self._watch, WATCH_EVERY)

    def start(self) -> None:
        """Begin to watch."""
        self._loop.start()

    async def stop(self) -> None:
        """End."""
        await self._loop.stop()
        await self._owners.close()

    # --- beginning and prolonging ---------------------------------------------------------

    def check_can_sign(self) -> None:
        """Raise AppError `forbidden` where tokens are made elsewhere."""
        if self._signer is None:
            raise AppError(
                Code.FORBIDDEN, "Accounts are kept elsewhere: this server only verifies tokens"
            )

    async def begin(self, account: Account) -> tuple[str, Login]:
        """Log `account` in; answers the session's id too. The least used beyond 50 end."""
        self.check_can_sign()
        family, secret = secrets.token_bytes(PART), secrets.token_bytes(PART)
        now = self._clock()
        session = Session(
            id=sessions.session_id(family),
            user_id=account.id,
            created_at=now,
            refreshed_at=now,
            expires_at=now + self._lifetime,
            current=sessions.hashed(secret),
        )
        await self._repository.insert(session, TIMEOUT)
        _, surplus = await self._repository.newest(account.id, SESSIONS_PER_USER, TIMEOUT)
        if surplus:
            await self._repository.end(surplus, TIMEOUT)
        return session.id, self._login(account, session, family, secret)

    async def owner(self, refresh_token: str) -> str:
        """Whose refresh token it is; raises AppError `invalid_credentials`."""
        _, _, session = await self._session_of(refresh_token)
        return session.user_id

    async def refresh(self, account: Account, refresh_token: str) -> Login:
        """The next tokens of a session; raises AppError `invalid_credentials`.

        A token that was used before, its grace over, ends its family.
        """
        self.check_can_sign()
        for _ in range(REFRESH_TRIES):
            family, secret, session = await self._session_of(refresh_token)
            if session.user_id != account.id:
                raise _unknown()
            refreshed = sessions.refresh(
                session,
                secret,
                secrets.token_bytes(PART),
                self._clock(),
                self._lifetime,
                self._grace,
            )
            if refreshed is None:
                log.warning("a refresh token was used twice: its session ends")
                await self._repository.end([session.id], TIMEOUT)
                raise _unknown()
            following = refreshed.session
            if following is session or await self._repository.replace(session, following, TIMEOUT):
                return self._login(account, following, family, refreshed.secret)
        raise AppError(Code.UNAVAILABLE, "The session changes too fast: try again", retry_after=1.0)

    async def _session_of(self, refresh_token: str) -> tuple[bytes, bytes, Session]:
        parts = sessions.read_token(refresh_token)
        if parts is None:
            raise _unknown()
        family, secret = parts
        session = await self._repository.read(sessions.session_id(family), TIMEOUT)
        if session is None or session.expires_at <= self._clock():
            raise _unknown()
        return family, secret, session

    def _login(self, account: Account, session: Session, family: bytes, secret: bytes) -> Login:
        assert self._signer is not None
        token, expires_at = self._signer.sign(account.id, account.role, self._token_ttl, session.id)
        return Login(token, sessions.write_token(family, secret), expires_at)

    # --- ending ---------------------------------------------------------------------------

    async def end(self, session_id: str) -> int:
        """End one session; 0 when it had ended."""
        return await self._repository.end([session_id], TIMEOUT)

    async def end_by_refresh_token(self, refresh_token: str) -> int:
        """End the session of a refresh token, whichever of its family it is."""
        parts = sessions.read_token(refresh_token)
        return 0 if parts is None else await self.end(sessions.session_id(parts[0]))

    async def end_all(self, user_id: str, but: str | None = None) -> int:
        """End a user's sessions, all or all but one; answers how many."""
        return await self._repository.end_all(user_id, TIMEOUT, but)

    async def check(self, identity: Identity) -> None:
        """Raise AppError `invalid_token` unless the session of a token goes on."""
        session_id = identity.session_id
        assert session_id is not None
        owner = await self._owners.read(session_id)
        if owner != identity.user_id or session_id in self._seen:
            raise AppError(Code.INVALID_TOKEN, "The session has ended: log in again")

    async def _watch(self) -> None:
        """Learn what has ended anywhere, and end its connections here."""
        try:
            if self._since is None:
                self._since = await self._repository.newest_end(TIMEOUT)
            self._since, ended = await self._repository.ended_since(self._since, TIMEOUT)
        except AppError as error:
            log.warning("cannot learn which sessions have ended: %s", error.message)
            return
        news = self._unseen(ended)
        if news:
            self._on_end(news.sessions, news.users)

    def _unseen(self, ended: Ended) -> Ended:
        sessions_now = ended.sessions - self._seen.keys()
        users_now = frozenset(user for user in ended.users if f"user:{user}" not in self._seen)
        for key in (*sessions_now, *(f"user:{user}" for user in users_now)):
            self._seen[key] = None
        while len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        return Ended(sessions_now, users_now)


def _unknown() -> AppError:
    return AppError(Code.INVALID_CREDENTIALS, "The session has ended: log in again")
