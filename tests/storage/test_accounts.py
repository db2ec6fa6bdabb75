"""Accounts in MongoDB: names belong to one person, changes are whole, pages have everybody once."""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import replace

import pytest

from domain.accounts import Account
from domain.errors import AppError, Code
from domain.identity import Role
from server.embedded import PrivateServer
from storage.accounts import AccountRepository, cursor
from storage.indexes import Indexes
from storage.mongo import Mongo
from storage.names import USERS
from tests.storage.conftest import NewMongo, suspended, unavailable

TIMEOUT = 10.0
NOW = 1_700_000_000_000
ADA = Account(
    id="ada",
    username="Ada",
    created_at=NOW,
    updated_at=NOW + 5,
    version=3,
    email="Ada@Example.com",
    name="Ada Lovelace",
    bio="Numbers\nand more",
    avatar="https://example.com/a.png",
    custom={"a": [1, 2.5, None, True, {"b": "é"}], "big": 2**53 - 1, "": -0.5},
    role=Role.ADMIN,
    password_hash="a hash",
)


@pytest.fixture
def accounts(mongo: Mongo) -> AccountRepository:
    return AccountRepository(mongo, Indexes(mongo))


@pytest.fixture
def rivals(new_mongo: NewMongo, mongodb_uri: str) -> list[AccountRepository]:
    """The repositories of four instances that start together."""
    mongos = [new_mongo(mongodb_uri) for _ in range(4)]
    return [AccountRepository(mongo, Indexes(mongo)) for mongo in mongos]


def named(number: int, **more: object) -> Account:
    return Account(f"user{number}", f"user_{number}", NOW + number, **more)


async def code_of(call: Callable[[], object]) -> Code | None:
    try:
        await call()
    except AppError as error:
        return error.code
    return None


async def test_an_account_comes_back_as_it_was_kept(accounts: AccountRepository) -> None:
    for account in (ADA, Account("x", "x_1", 0), named(1, guest=True, device_key="a key")):
        await accounts.insert(account, TIMEOUT)
        assert await accounts.read(account.id, TIMEOUT) == account
    assert await accounts.by_email("ada@example.com", TIMEOUT) == ADA
    assert await accounts.by_username(ADA.username_key, TIMEOUT) == ADA
    assert (await accounts.by_device("a key", TIMEOUT)) == named(1, guest=True, device_key="a key")
    assert await accounts.read("nobody", TIMEOUT) is None


@pytest.mark.parametrize(
    ("other", "code"),
    [
        (replace(ADA, email="b@example.com", username="bob"), Code.ID_TAKEN),
        (replace(ADA, id="b", email="b@example.com", username="ADA"), Code.USERNAME_TAKEN),
        (
            replace(ADA, id="b", email="b@example.com", username="\u0410d\u0430"),
            Code.USERNAME_TAKEN,
        ),
        (replace(ADA, id="b", email="ADA@example.COM", username="bob"), Code.EMAIL_TAKEN),
        (replace(ADA, id="b", email=None, username="bob"), None),
    ],
)
async def test_id_username_and_email_belong_to_one_person(
    accounts: AccountRepository, other: Account, code: Code | None
) -> None:
    await accounts.insert(ADA, TIMEOUT)
    assert await code_of(lambda: accounts.insert(other, TIMEOUT)) is code
    assert await accounts.read("ada", TIMEOUT) == ADA
    assert (await accounts.read("b", TIMEOUT) is None) == (code is not None)


async def test_many_people_have_no_email_and_no_device(accounts: AccountRepository) -> None:
    for number in range(3):
        await accounts.insert(named(number), TIMEOUT)


async def test_of_20_who_want_one_username_on_fresh_instances_one_gets_it(
    rivals: list[AccountRepository],
) -> None:
    wishes = [replace(named(number), username="Ada") for number in range(20)]
    codes = await asyncio.gather(
        *(
            code_of(lambda n=n, wish=wish: rivals[n % 4].insert(wish, TIMEOUT))
            for n, wish in enumerate(wishes)
        )
    )
    assert sorted(map(str, codes)) == ["None"] + ["username_taken"] * 19
    assert len(await rivals[0].page(None, 50, TIMEOUT)) == 1


async def test_a_change_of_another_version_is_refused(accounts: AccountRepository) -> None:
    await accounts.insert(ADA, TIMEOUT)
    one, two = (replace(ADA, bio=bio, version=4) for bio in ("one", "two"))
    assert await accounts.replace(ADA, one, TIMEOUT)
    assert not await accounts.replace(ADA, two, TIMEOUT)
    assert not await accounts.replace(replace(ADA, id="nobody"), two, TIMEOUT)
    assert await accounts.read("ada", TIMEOUT) == one
    assert await accounts.read("nobody", TIMEOUT) is None


async def test_a_taken_username_leaves_the_account_whole(accounts: AccountRepository) -> None:
    bob = replace(ADA, id="bob", username="bob", email=None)
    for account in (ADA, bob):
        await accounts.insert(account, TIMEOUT)
    wish = replace(bob, username="ada", bio="new", version=4)
    assert await code_of(lambda: accounts.replace(bob, wish, TIMEOUT)) is Code.USERNAME_TAKEN
    assert await accounts.read("bob", TIMEOUT) == bob


async def test_a_username_that_was_given_up_is_free(accounts: AccountRepository) -> None:
    await accounts.insert(ADA, TIMEOUT)
    assert await accounts.replace(ADA, replace(ADA, username="bob", version=4), TIMEOUT)
    await accounts.insert(Account("b", "ada", NOW), TIMEOUT)


# --- pages --------------------------------------------------------------------------------


async def walk(accounts: AccountRepository, limit: int) -> list[Account]:
    """All accounts, page by page."""
    found: list[Account] = []
    after = None
    while page := await accounts.page(after, limit, TIMEOUT):
        assert len(page) <= limit
        found += page
        after = cursor(page[-1])
    return found


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
async def test_pages_have_everybody_once_in_the_order_in_which_they_came(
    accounts: AccountRepository, limit: int
) -> None:
    """Also of those who came in the same millisecond."""
    made = [replace(named(n), created_at=NOW + n // 4) for n in range(20)]
    for account in reversed(made):
        await accounts.insert(account, TIMEOUT)
    expected = sorted(made, key=lambda account: (account.created_at, account.id))
    assert await walk(accounts, limit) == expected


async def test_the_erased_are_on_no_page(accounts: AccountRepository) -> None:
    for number in range(4):
        await accounts.insert(named(number), TIMEOUT)
    await accounts.erase("user1", TIMEOUT)
    await accounts.erase("never there", TIMEOUT)
    for done in (False, True):
        assert [account.id for account in await walk(accounts, 2)] == ["user0", "user2", "user3"]
        if not done:
            await accounts.erased_everywhere("user1", TIMEOUT)


async def test_a_page_after_an_account_that_was_erased_meanwhile_is_the_next_one(
    accounts: AccountRepository,
) -> None:
    for number in range(3):
        await accounts.insert(named(number), TIMEOUT)
    after = cursor(named(1))
    await accounts.erase("user1", TIMEOUT)
    assert await accounts.page(after, 5, TIMEOUT) == [named(2)]


def encoded(text: str | bytes) -> str:
    return base64.urlsafe_b64encode(text if isinstance(text, bytes) else text.encode()).decode()


GARBAGE = {
    "empty": "",
    "no base64": "!!!",
    "half": encoded("1 ada")[:-1],
    "other letters": "é☃",
    "no UTF-8": encoded(b"\xff\xfe 1"),
    "one word": encoded("1"),
    "three words": encoded("1 a b"),
    "no time": encoded("x ada"),
    "a fraction": encoded("1.5 ada"),
    "nothing": encoded(" "),
    "JSON": encoded('{"$gt":""} ada'),
    "64 bits": encoded(f"{2**63} ada"),
    "minus 64 bits": encoded(f"{-(2**63) - 1} ada"),
    "400 digits": encoded("9" * 300 + " ada"),
    "no id": encoded("1 $ada"),
    "a NUL": encoded("1 a\0b"),
}


async def test_what_is_no_cursor_is_refused_by_name(accounts: AccountRepository) -> None:
    for what, text in GARBAGE.items():
        with pytest.raises(AppError) as caught:
            await accounts.page(text, 5, TIMEOUT)
        assert caught.value.code is Code.INVALID_VALUE, what
        assert [fault.pointer for fault in caught.value.fields] == ["/cursor"], what


async def test_a_cursor_at_either_end_of_time_is_no_failure(accounts: AccountRepository) -> None:
    await accounts.insert(ADA, TIMEOUT)
    assert await accounts.page(encoded("0 a"), 5, TIMEOUT) == [ADA]
    assert await accounts.page(encoded("253402300799999 a"), 5, TIMEOUT) == []


async def test_a_page_far_behind_is_read_from_the_index(
    accounts: AccountRepository, mongo: Mongo
) -> None:
    await accounts.insert(ADA, TIMEOUT)
    plans: list[dict[str, object]] = []
    users = mongo.collection(USERS)
    await users.insert_many(
        [
            {
                "_id": f"u{n}",
                "username": f"u{n}",
                "usernameKey": f"u{n}",
                "createdAt": n,
                "updatedAt": n,
                "version": 1,
            }
            for n in range(500)
        ]
    )
    database = users.database
    await database.command("profile", 2)
    try:
        assert len(await accounts.page(cursor(replace(ADA, created_at=0)), 10, TIMEOUT)) == 1
    finally:
        await database.command("profile", 0)
    plans = await database["system.profile"].find({"op": "query", "command.find": USERS}).to_list()
    (plan,) = plans
    assert plan["planSummary"] != "COLLSCAN"
    assert plan["docsExamined"] <= 12
    assert not plan.get("hasSortStage")


# --- erasing ------------------------------------------------------------------------------


async def test_of_the_erased_a_bare_id_stays_and_their_names_are_free(
    accounts: AccountRepository, mongo: Mongo
) -> None:
    await accounts.insert(ADA, TIMEOUT)
    await accounts.erase("ada", TIMEOUT)
    await accounts.erased_everywhere("ada", TIMEOUT)
    kept = await mongo.collection(USERS).find_one({"_id": "ada"})
    assert kept is not None
    assert kept.keys() == {"_id", "erased", "erasedAt"}
    for call in (
        lambda: accounts.read("ada", TIMEOUT),
        lambda: accounts.insert(ADA, TIMEOUT),
    ):
        assert await code_of(call) is Code.ERASED
    assert not await accounts.replace(ADA, replace(ADA, version=4), TIMEOUT)
    await accounts.insert(replace(ADA, id="ada2"), TIMEOUT)


async def test_without_the_database_everything_is_unavailable(
    own_mongod: PrivateServer, new_mongo: NewMongo
) -> None:
    mongo = new_mongo(own_mongod.url)
    accounts = AccountRepository(mongo, Indexes(mongo))
    await accounts.insert(ADA, TIMEOUT)
    async with suspended(own_mongod):
        for call in (
            lambda: accounts.read("ada", 0.2),
            lambda: accounts.by_email("a", 0.2),
            lambda: accounts.insert(named(1), 0.2),
            lambda: accounts.replace(ADA, replace(ADA, version=4), 0.2),
            lambda: accounts.page(None, 5, 0.2),
            lambda: accounts.search("ad", 5, 0.2),
            lambda: accounts.erase("ada", 0.2),
        ):
            assert await unavailable(call) < 3
