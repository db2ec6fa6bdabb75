"""Registering, logging in and everything that concerns a password."""

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from domain.accounts import Account, suggest_username, taken
from domain.emails import email_key, parse_email
from domain.errors import AppError, Code
from domain.identity import Identity, Role
from domain.usernames import parse_username, username_key, username_looks
from server.accounts.metrics import AccountMetrics
from server.accounts.passwords import Passwords
from server.accounts.people import People
from server.accounts.sessions import Login, SessionService
from server.accounts.throttle import LoginThrottle
from storage.accounts import AccountRepository

TIMEOUT = 4.0  # seconds for the store
TRIES = 10
DEVICE_KEY_LENGTH = 16  # characters: a shorter deviceId could be guessed


@dataclass(frozen=True, slots=True)
class Registration:
    """What somebody registers with, each part valid by itself."""

    email: str
    password: str
    username: str | None = None
    name: str = ""
    id: str | None = None


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """An account, and what its client needs from now on."""

    account: Account
    login: Login

    def document(self) -> dict[str, Any]:
        """The account's fields with the tokens beside them."""
        return {**self.account.whole(), **self.login.document()}


class AccountService:
    """The one place that both families of routes lead to."""

    def __init__(
        self,
        repository: AccountRepository,
        sessions: SessionService,
        passwords: Passwords,
        throttle: LoginThrottle,
        people: People,
        metrics: AccountMetrics,
        clock: Callable[[], int],
    ) -> None:
        self.passwords = passwords
        self._repository = repository
        self._sessions = sessions
        self._throttle = throttle
        self._people = people
        self._metrics = metrics
        self._clock = clock
        metrics.hashing.set_function(lambda: passwords.waiting)

    # --- registering ----------------------------------------------------------------------

    async def register(self, wish: Registration, asking: Identity | None) -> LoggedIn:
        """Make an account, or give the one that asks its password.

        With the token of somebody without a password (a guest, or a user of tokens made
        elsewhere) their id and all that is kept under it stay theirs. Raises AppError
        `username_taken`, `email_taken`, `id_taken`, `erased`.
        """
        self._sessions.check_can_sign()
        mine, own_id = await self._without_password(asking)
        await self._refuse_taken(wish, own_id)
        user_id = wish.id or own_id or str(uuid4())
        if user_id != own_id and wish.id is not None:
            await self._refuse_known(user_id)
        password_hash = await self.passwords.hash(wish.password)
        if mine is not None and asking is not None and user_id == own_id:
            # Somebody else may know the deviceId: before, so that being cut off leaves none.
            await self._end_others(asking)
            account = await self._upgrade(mine, wish, password_hash)
            await self._end_others(asking)
        else:
            account = await self._insert(self._fresh(user_id, wish, password_hash))
        self._metrics.registrations.labels("account").inc()
        return await self._log_in(account)

    async def _refuse_taken(self, wish: Registration, own_id: str | None = None) -> None:
        """Early, to spare the hash; that names are unique is the index' to decide."""
        if await self._repository.by_email(email_key(wish.email), TIMEOUT):
            raise taken("email")
        if wish.username:
            found = await self._repository.by_looks(username_looks(wish.username), TIMEOUT)
            if found - {own_id}:
                raise taken("username")

    async def _refuse_known(self, user_id: str) -> None:
        for same in {user_id, user_id.lower(), user_id.upper()}:  # a UUID has no case
            await self._repository.read(same, TIMEOUT)  # raises `erased` of such a one
            if await self._people.known(same):
                raise taken("id")

    async def _without_password(self, asking: Identity | None) -> tuple[Account | None, str | None]:
        """The account, if any, and the id of a user who asks and has no password yet."""
        if asking is None or asking.role is not Role.USER:
            return None, None
        account = await self._repository.read(asking.user_id, TIMEOUT)
        if account is not None and account.password_hash is not None:
            return None, None
        return account, asking.user_id

    def _fresh(self, user_id: str, wish: Registration, password_hash: str) -> Account:
        return Account(
            id=user_id,
            username=wish.username or "",
            created_at=self._clock(),
            email=wish.email,
            name=wish.name,
            password_hash=password_hash,
        )

    async def _upgrade(self, mine: Account, wish: Registration, password_hash: str) -> Account:
        new = replace(
            mine,
            version=mine.version + 1,
            email=wish.email,
            username=wish.username or mine.username,
            name=wish.name or mine.name,
            password_hash=password_hash,
            guest=False,
            device_key=None,
        )
        if not await self._repository.replace(mine, new, TIMEOUT):
            await self._refuse_taken(wish)  # by the same registration, sent twice
            raise _changed_meanwhile()
        return new

    async def _end_others(self, asking: Identity) -> int:
        """End a user's sessions but the one that asks; answers how many."""
        return await self._sessions.end_all(asking.user_id, but=asking.session_id)

    async def _insert(self, account: Account) -> Account:
        """Add it; without a username it gets one that is free."""
        if account.username:
            await self._repository.insert(account, TIMEOUT)
            return account
        wanted = account.name or ("guest" if account.guest else "player")
        for _ in range(TRIES):
            number = secrets.randbelow(1_000_000)
            named = replace(account, username=suggest_username(wanted, number))
            try:
                await self._repository.insert(named, TIMEOUT)
            except AppError as error:
                if error.code is not Code.USERNAME_TAKEN:
                    raise
            else:
                return named
        raise taken("username")

    async def profile_only(self, account: Account) -> Account:
        """Add the account of somebody known by tokens made elsewhere; answers it as kept.

        Raises AppError `id_taken`, `username_taken`, `erased`.
        """
        return await self._insert(account)

    async def guest(self, device_id: str) -> LoggedIn:
        """The guest of a device, made when there is none.

        A short deviceId could be guessed: with it nobody comes back, each time is a new guest.
        """
        self._sessions.check_can_sign()
        if len(device_id) < DEVICE_KEY_LENGTH:
            return await self._log_in(await self._new_guest(None))
        key = hashlib.sha256(device_id.encode()).hexdigest()
        account = await self._repository.by_device(key, TIMEOUT)
        if account is None:
            try:
                account = await self._new_guest(key)
            except AppError as error:
                account = await self._repository.by_device(key, TIMEOUT)
                if error.code is not Code.ID_TAKEN or account is None:
                    raise
        return await self._log_in(account)

    async def _new_guest(self, key: str | None) -> Account:
        guest = Account(str(uuid4()), "", self._clock(), guest=True, device_key=key)
        made = await self._insert(guest)
        self._metrics.registrations.labels("guest").inc()
        return made

    # --- logging in -----------------------------------------------------------------------

    async def log_in(self, name: str, password: str, address: str) -> LoggedIn:
        """Log in with an e-mail address or a username, which never has an @.

        Raises AppError `invalid_credentials`, the same for every failure, or `rate_limited`.
        """
        self._sessions.check_can_sign()
        key, account = await self._named(name)
        who = f"name {key}" if account is None else f"id {account.id}"
        async with self._throttle.attempt(who, address):
            verified = await self._verified(account, password)
            logged_in = await self._log_in(verified, password)
        if self.passwords.outdated(verified.password_hash or ""):
            await self._keep_password(logged_in.account, password)
        return logged_in

    async def _named(self, name: str) -> tuple[str, Account | None]:
        """One key for all ways to write the name, and whose it is."""
        if "@" in name:
            key = email_key(_as_registered(parse_email, name))
            return key, await self._repository.by_email(key, TIMEOUT)
        key = username_key(_as_registered(parse_username, name))
        return key, await self._repository.by_username(key, TIMEOUT)

    async def _verified(self, account: Account | None, password: str) -> Account:
        password_hash = None if account is None else account.password_hash
        right = await self.passwords.verify(password_hash, password)
        if account is None or not right:
            self._metrics.logins.labels("refused").inc()
            raise _wrong()
        return account

    async def _keep_password(self, account: Account, password: str) -> bool:
        """Store another hash; False when somebody else has changed the password meanwhile."""
        password_hash = await self.passwords.hash(password)
        for _ in range(TRIES):
            new = replace(account, password_hash=password_hash, version=account.version + 1)
            if await self._repository.replace(account, new, TIMEOUT):
                return True
            stored = await self._repository.read(account.id, TIMEOUT)
            if stored is None or stored.password_hash != account.password_hash:
                return False
            account = stored
        return False

    async def _log_in(self, account: Account, password: str | None = None) -> LoggedIn:
        """Begin a session, and end it at once if the account is no longer what was verified.

        Whoever changes a password or erases a person ends the sessions afterwards, so that none
        begun in the meantime stays.
        """
        session_id, login = await self._sessions.begin(account)
        try:
            stored = await self._repository.read(account.id, TIMEOUT)
            if stored is None or not await self._same_password(account, stored, password):
                raise _wrong()
        except AppError as error:
            await self._sessions.end(session_id)
            raise (_wrong() if error.code is Code.ERASED else error) from None
        self._metrics.logins.labels("accepted").inc()
        return LoggedIn(stored, login)

    async def _same_password(
        self, verified: Account, stored: Account, password: str | None
    ) -> bool:
        if stored.password_hash == verified.password_hash:
            return True
        # Another login may have replaced an old hash by a better one of the same password.
        return password is not None and await self.passwords.verify(stored.password_hash, password)

    async def refresh(self, refresh_token: str) -> LoggedIn:
        """The next tokens for a refresh token; raises AppError `invalid_credentials`."""
        account = await self._repository.read(await self._sessions.owner(refresh_token), TIMEOUT)
        if account is None:
            raise _wrong()
        return LoggedIn(account, await self._sessions.refresh(account, refresh_token))

    async def change_password(
        self, identity: Identity, current: str, new: str, address: str
    ) -> int:
        """Replace the password and end the other sessions; answers how many.

        They end before, so that none is left when this is cut off in between, and those begun
        meanwhile afterwards. Raises AppError `invalid_credentials`.
        """
        async with self._throttle.attempt(f"id {identity.user_id}", address):
            account = await self._verified(
                await self._repository.read(identity.user_id, TIMEOUT), current
            )
        ended = await self._end_others(identity)
        if not await self._keep_password(account, new):
            raise _changed_meanwhile()
        return ended + await self._end_others(identity)


def _as_registered(parse: Callable[[object], str], name: str) -> str:
    """As registering would have stored it; as it is, if only accounts from elsewhere have it."""
    try:
        return parse(name)
    except AppError:
        return name


def _changed_meanwhile() -> AppError:
    return AppError(Code.CONFLICT, "The account just changed: try again", retry_after=1.0)


def _wrong() -> AppError:
    return AppError(Code.INVALID_CREDENTIALS, "Name or password is wrong")
