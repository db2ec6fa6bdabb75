"""Accounts in MongoDB: one document a person, replaced under a guard; names are unique by index."""

import base64
from collections.abc import AsyncIterator
from typing import Any

from bson.datetime_ms import DatetimeMS
from pymongo.errors import DuplicateKeyError

from domain.accounts import Account, taken
from domain.errors import AppError, Code, erased, refuse_field
from domain.identity import Role
from domain.ids import parse_id
from domain.search import upper_bound
from domain.times import parse_time
from storage.indexes import Indexes
from storage.mongo import Collection, Document, Mongo, available
from storage.names import USERS

SEARCH_INDEX = "searchKeys_1"

_UNIQUE = {
    "_id": "id",
    "usernameLooks": "username",
    "emailKey": "email",
    "deviceKey": "deviceId",
}


class AccountRepository:
    """Accounts; whatever talks to MongoDB raises AppError `unavailable`.

    Of an erased person `{_id, erased, erasedAt}` stays, with `erasing` until everything that
    is held about them elsewhere is gone too.
    """

    name = "account"

    def __init__(self, mongo: Mongo, indexes: Indexes) -> None:
        self._users: Collection = mongo.collection(USERS)
        self._indexes = indexes

    # --- one account ----------------------------------------------------------------------

    async def read(self, user_id: str, timeout: float) -> Account | None:
        """The account of an id; raises AppError `erased`."""
        return await self._find({"_id": user_id}, timeout)

    async def by_email(self, key: str, timeout: float) -> Account | None:
        """The account with this e-mail key."""
        return await self._find({"emailKey": key}, timeout)

    async def by_username(self, key: str, timeout: float) -> Account | None:
        """The account with this username key."""
        return await self._find({"usernameKey": key}, timeout)

    async def by_looks(self, looks: list[str], timeout: float) -> set[str]:
        """The ids of accounts whose username looks like this."""
        with available(timeout):
            found = await self._users.find(
                {"usernameLooks": {"$in": looks}}, projection={"_id": 1}
            ).to_list()
        return {doc["_id"] for doc in found}

    async def by_device(self, key: str, timeout: float) -> Account | None:
        """The guest of a device."""
        return await self._find({"deviceKey": key}, timeout)

    async def _find(self, where: Document, timeout: float) -> Account | None:
        with available(timeout):
            doc = await self._users.find_one(where)
        if doc is None:
            return None
        if "erased" in doc:
            raise erased()
        return _decode(doc)

    async def insert(self, account: Account, timeout: float) -> None:
        """Add an account.

        Raises AppError `id_taken`, `username_taken`, `email_taken`, or `erased`.
        """
        await self._indexes.made(USERS, timeout=timeout)
        try:
            with available(timeout):
                await self._users.insert_one(_encode(account))
        except AppError as error:
            refusal = _taken(error)
            if refusal.code is Code.ID_TAKEN:
                await self.read(account.id, timeout)  # raises `erased` of such a one
            raise refusal from None

    async def replace(self, old: Account, new: Account, timeout: float) -> bool:
        """Put `new` in `old`'s place; False when somebody was first.

        Raises AppError `username_taken`, `email_taken`.
        """
        await self._indexes.made(USERS, timeout=timeout)
        try:
            with available(timeout):
                done = await self._users.replace_one(
                    {"_id": old.id, "version": old.version}, _encode(new)
                )
        except AppError as error:
            raise _taken(error) from None
        return done.matched_count == 1

    # --- many -----------------------------------------------------------------------------

    async def page(self, after: str | None, limit: int, timeout: float) -> list[Account]:
        """Accounts in the order in which they were made, after the one that `after` names.

        `after` is a `cursor`; raises AppError when it is none.
        """
        where: Document = {"createdAt": {"$exists": True}}
        if after is not None:
            made, user_id = _read_cursor(after)
            where = {
                "$or": [
                    {"createdAt": DatetimeMS(made), "_id": {"$gt": user_id}},
                    {"createdAt": {"$gt": DatetimeMS(made)}},
                ]
            }
        await self._indexes.made(USERS, timeout=timeout)
        with available(timeout):
            found = await (
                self._users.find(where).sort([("createdAt", 1), ("_id", 1)]).limit(limit).to_list()
            )
        return [_decode(doc) for doc in found]

    async def search(self, prefix: str, limit: int, timeout: float) -> list[Account]:
        """Accounts with a word that begins with `prefix` (normalised), exact ones first.

        The order is the index': who has the prefix itself as the rest of a name comes before
        who has a longer one.
        """
        await self._indexes.made(USERS, timeout=timeout)
        with available(timeout):
            found = await (
                self._users.find(search_filter(prefix)).hint(SEARCH_INDEX).limit(limit).to_list()
            )
        return [_decode(doc) for doc in found]

    # --- erasing, see storage/holdings.py -------------------------------------------------

    async def holds(self, user_id: str, timeout: float) -> bool:
        """Whether there is an account or a tombstone."""
        with available(timeout):
            return await self._users.find_one({"_id": user_id}, projection={"_id": 1}) is not None

    async def export(self, user_id: str, timeout: float) -> AsyncIterator[dict[str, Any]]:
        """The account as its person sees it."""
        account = await self.read(user_id, timeout)
        if account is not None:
            yield account.whole()

    async def erase(self, user_id: str, timeout: float) -> None:
        """Leave only a tombstone; its names are free from now on."""
        tombstone = {"_id": "$_id", "erased": True, "erasing": True, "erasedAt": "$$NOW"}
        once = {"$cond": [{"$eq": ["$erased", True]}, "$$ROOT", tombstone]}
        with available(timeout):
            await self._users.update_one({"_id": user_id}, [{"$replaceWith": once}], upsert=True)

    async def erased_everywhere(self, user_id: str, timeout: float) -> None:
        """Nothing is held about this person any more."""
        with available(timeout):
            await self._users.update_one({"_id": user_id}, {"$unset": {"erasing": ""}})

    async def erasing(self, limit: int, timeout: float) -> list[str]:
        """People whose erasure has begun and not ended."""
        with available(timeout):
            found = await self._users.find({"erasing": True}).limit(limit).to_list()
        return [doc["_id"] for doc in found]


def search_filter(prefix: str) -> Document:
    """The condition of a search.

    `$elemMatch`, because both ends have to hold for the same key, which lets MongoDB use both
    as bounds of its index.
    """
    return {"searchKeys": {"$elemMatch": {"$gte": prefix, "$lt": upper_bound(prefix)}}}


def cursor(account: Account) -> str:
    """Where the page after the one that ends with `account` begins."""
    return base64.urlsafe_b64encode(f"{account.created_at} {account.id}".encode()).decode()


def _read_cursor(text: str) -> tuple[int, str]:
    try:
        made, user_id = base64.b64decode(text, b"-_", validate=True).decode().split(" ")
        return parse_time(int(made)), parse_id(user_id)
    except (ValueError, AppError):
        raise refuse_field(
            Code.INVALID_VALUE, "cursor", "take it from the Link header of the page before"
        ) from None


def _taken(error: AppError) -> AppError:
    """What `error` says of a name that somebody has already, or `error` itself."""
    cause = error.__cause__
    if not isinstance(cause, DuplicateKeyError) or not cause.details:
        return error
    key = next(iter(cause.details.get("keyPattern", {"_id": 1})))
    return taken(_UNIQUE[key])


def _encode(account: Account) -> Document:
    doc: Document = {
        "_id": account.id,
        "username": account.username,
        "usernameKey": account.username_key,
        "usernameLooks": account.username_looks,
        "searchKeys": account.search_keys,
        "email": account.email,
        "name": account.name,
        "bio": account.bio,
        "avatar": account.avatar,
        "custom": account.custom,
        "role": account.role.value,
        "guest": account.guest,
        "passwordHash": account.password_hash,
        "createdAt": DatetimeMS(account.created_at),
        "updatedAt": DatetimeMS(account.updated_at),
        "version": account.version,
    }
    if account.email_key is not None:
        doc["emailKey"] = account.email_key
    if account.device_key is not None:
        doc["deviceKey"] = account.device_key
    return doc


def _decode(doc: Document) -> Account:
    return Account(
        id=doc["_id"],
        username=doc["username"],
        created_at=int(doc["createdAt"]),
        updated_at=int(doc["updatedAt"]),
        version=doc["version"],
        email=doc.get("email"),
        name=doc.get("name", ""),
        bio=doc.get("bio", ""),
        avatar=doc.get("avatar", ""),
        custom=doc.get("custom", {}),
        role=Role.of(doc.get("role")),
        password_hash=doc.get("passwordHash"),
        guest=doc.get("guest", False),
        device_key=doc.get("deviceKey"),
    )
