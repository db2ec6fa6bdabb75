"""What `python -m server` does besides serving; each command answers what to print."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

from domain.accounts import Account, suggest_username
from domain.emails import email_key
from domain.identity import Role
from server.accounts.feature import passwords_of
from server.app import now_ms
from server.embedded import DataDirInUse, last_mongod_url, lock_data_dir, start_mongod
from server.settings import Settings, SettingsError, naming
from storage.accounts import AccountRepository
from storage.indexes import Indexes
from storage.mongo import Mongo
from storage.sessions import SessionRepository
from storage.stats import StatsRepository

RESTORED_STEP = 2**20  # more changes than any user makes between two backups
RESTORED_TIMEOUT = 600.0  # seconds
TIMEOUT = 10.0


async def restored(settings: Settings) -> str:
    """Lift all revs: clients may have seen higher ones than the backup has."""
    if settings.mongodb_uri is None:
        raise SettingsError("MONGODB_URI is missing: say which MongoDB was restored")
    async with _connected(settings, settings.mongodb_uri) as mongo:
        stats = StatsRepository(mongo, settings.schema_of_stats())
        users = await stats.raise_revs(RESTORED_STEP, RESTORED_TIMEOUT)
    return f"lifted the revs of {users} users by {RESTORED_STEP}"


async def create_admin(settings: Settings, email: str) -> str:
    """Make an admin of the account with this e-mail address, or a new one with a password."""
    async with _database(settings) as mongo:
        indexes = Indexes(mongo)
        accounts = AccountRepository(mongo, indexes)
        account = await accounts.by_email(email_key(email), TIMEOUT)
        if account is None:
            password = secrets.token_urlsafe(12)
            await accounts.insert(await _admin(settings, email, password), TIMEOUT)
            return (
                f"made the admin {email} in {_where(settings)}\n"
                f"  password: {password}\n"
                "  change it after the first login: POST /api/auth/password"
            )
        promoted = replace(account, role=Role.ADMIN, version=account.version + 1)
        if not await accounts.replace(account, promoted, TIMEOUT):
            raise SettingsError(f"{email} just changed: try again")
        await SessionRepository(mongo, indexes).end_all(account.id, TIMEOUT)
        return f"{email} is an admin now in {_where(settings)}, and has to log in again"


def _where(settings: Settings) -> str:
    return "MONGODB_URI" if settings.mongodb_uri else str(settings.data_dir.resolve())


async def _admin(settings: Settings, email: str, password: str) -> Account:
    passwords = passwords_of(settings)
    try:
        password_hash = await passwords.hash(password)
    finally:
        await passwords.close()
    return Account(
        id=str(uuid4()),
        username=suggest_username("player", secrets.randbelow(1_000_000)),
        created_at=now_ms(),
        email=email,
        role=Role.ADMIN,
        password_hash=password_hash,
    )


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Mongo]:
    """The configured MongoDB, or the private one, started here unless a server runs it."""
    if settings.mongodb_uri is not None:
        async with _connected(settings, settings.mongodb_uri) as mongo:
            yield mongo
        return
    try:
        with lock_data_dir(settings.data_dir):
            mongod = await start_mongod(settings.data_dir)
            try:
                async with _connected(settings, mongod.url) as mongo:
                    yield mongo
            finally:
                await mongod.stop()
    except DataDirInUse:
        url = last_mongod_url(settings.data_dir)
        if url is None:
            raise
        async with _connected(settings, url) as mongo:
            yield mongo


@asynccontextmanager
async def _connected(settings: Settings, uri: str) -> AsyncIterator[Mongo]:
    with naming("MONGODB_URI and MONGODB_DB"):
        mongo = Mongo(uri, settings.mongodb_db)
    try:
        yield mongo
    finally:
        await mongo.close()
