"""Accounts as one feature: built from its stores, started, stopped."""

from collections.abc import Callable, Collection, Sequence

from prometheus_client import CollectorRegistry

from realtime.live import Live
from server.accounts.metrics import AccountMetrics
from server.accounts.passwords import Passwords, read_blocklist
from server.accounts.people import People
from server.accounts.profiles import ProfileService
from server.accounts.service import AccountService
from server.accounts.sessions import SessionService
from server.accounts.throttle import WINDOW, LoginThrottle
from server.settings import Settings
from server.signing import Signer
from storage.accounts import AccountRepository
from storage.holdings import Holding
from storage.indexes import Indexes
from storage.mongo import Mongo
from storage.redis import RedisLink
from storage.sessions import SessionRepository
from storage.throttle import Throttle


class Accounts:
    """The services of the feature; `others` are what other features hold about people."""

    def __init__(
        self,
        settings: Settings,
        mongo: Mongo,
        indexes: Indexes,
        link: RedisLink,
        live: Live,
        signer: Signer | None,
        others: Sequence[Holding],
        on_end: Callable[[Collection[str], Collection[str]], None],
        registry: CollectorRegistry,
        clock: Callable[[], int],
    ) -> None:
        metrics = AccountMetrics(registry)
        repository = AccountRepository(mongo, indexes)
        kept_sessions = SessionRepository(mongo, indexes)
        self.passwords = passwords_of(settings)
        self.people = People(
            repository,
            [kept_sessions, *others],
            live.presence.erased,
            settings.erasure_resume_interval,
        )
        self.sessions = SessionService(kept_sessions, signer, settings, clock, on_end)
        self.service = AccountService(
            repository,
            self.sessions,
            self.passwords,
            LoginThrottle(
                Throttle(link, round(WINDOW * 1000)),
                settings.login_failures_per_account,
                settings.login_failures_per_address,
                metrics,
            ),
            self.people,
            metrics,
            clock,
        )
        self.profiles = ProfileService(repository, self.service, live, clock)

    def start(self) -> None:
        """Begin to watch for ended sessions and unfinished erasures."""
        self.sessions.start()
        self.people.start()

    async def stop(self) -> None:
        """End."""
        await self.people.stop()
        await self.sessions.stop()
        await self.passwords.close()


def passwords_of(settings: Settings) -> Passwords:
    """Passwords as the settings want them; raises SettingsError."""
    path = settings.password_blocklist
    blocklist = frozenset() if path is None else read_blocklist(path)
    return Passwords(settings.password_min_length, blocklist)
