"""Search: the beginning of any word, exact words first, by the index and nothing else."""

from typing import Any

import pytest

from domain.accounts import Account
from domain.search import parse_query
from storage.accounts import SEARCH_INDEX, AccountRepository, search_filter
from storage.indexes import Indexes
from storage.mongo import Mongo
from storage.names import USERS
from tests.storage.conftest import NewMongo

TIMEOUT = 10.0


@pytest.fixture
def accounts(mongo: Mongo) -> AccountRepository:
    return AccountRepository(mongo, Indexes(mongo))


async def people(accounts: AccountRepository, **names: str) -> None:
    """One person for each username, with that name."""
    for username, name in names.items():
        await accounts.insert(Account(username, username, 0, name=name), TIMEOUT)


async def found(accounts: AccountRepository, query: str, limit: int = 50) -> list[str]:
    return [one.id for one in await accounts.search(parse_query(query), limit, TIMEOUT)]


async def test_the_beginning_of_any_word_finds_without_case_and_accents_and_nothing_else(
    accounts: AccountRepository,
) -> None:
    await people(accounts, **{"Louve 7": "Élodie Dupont", "bob": "Bob"})
    for query in (
        *("elo", "ELO", "éló", "dup", "Dupont", "elodie du", "élodie  DUPONT"),
        *("lou", "louve 7"),
    ):
        assert await found(accounts, query) == ["Louve 7"], query
    for query in ("lodie", "pont", "elodie dupontx", "dupont elodie", "elodiedu"):
        assert await found(accounts, query) == [], query


async def test_exact_words_come_first(accounts: AccountRepository) -> None:
    await people(accounts, anastasia="Zoe", zed="Ana", zora="Ana Lima", anabel="Bel", zack="X Ana")
    assert await found(accounts, "ana") in (
        ["zack", "zed", "zora", "anabel", "anastasia"],
        ["zed", "zack", "zora", "anabel", "anastasia"],
    )
    assert len(await found(accounts, "ana", 3)) == 3


async def test_who_has_several_fitting_words_comes_once(accounts: AccountRepository) -> None:
    await people(accounts, **{"ana ana2": "Ana Anabel Anastasia"})
    assert await found(accounts, "ana") == ["ana ana2"]


async def test_guests_and_the_erased_and_emails_are_not_found(accounts: AccountRepository) -> None:
    await accounts.insert(Account("1", "ana_1", 0, guest=True), TIMEOUT)
    await accounts.insert(Account("2", "ana_2", 0), TIMEOUT)
    await accounts.insert(Account("3", "bob", 0, email="anabel@example.com"), TIMEOUT)
    await accounts.erase("2", TIMEOUT)
    for query in ("ana", "anabel", "example", "anabel@example.com"):
        assert await found(accounts, query) == []


async def test_who_is_renamed_is_found_by_the_new_name_only(accounts: AccountRepository) -> None:
    await people(accounts, ana="Ana")
    (ana,) = await accounts.search("ana", 5, TIMEOUT)
    renamed = Account("ana", "zoe", 0, version=2)
    assert await accounts.replace(ana, renamed, TIMEOUT)
    assert await found(accounts, "ana") == []
    assert await found(accounts, "zoe") == ["ana"]


SCRIPTS = {
    "東京": "東京 太郎",
    "оль": "Ольга",
    "ad": "\U0001d538\U0001d53b\U0001d538",  # letters of mathematics
    "STRASSE": "Straße",
    "김철": "김철수",
    "مح": "محمد",
    "xx": "\U0010fffd\U0010fffd xx",
    "𐐀𐐀": "𐐨𐐨𐐨",
}


async def test_every_script_is_found(accounts: AccountRepository) -> None:
    await people(accounts, **{f"zz{n}": name for n, name in enumerate(SCRIPTS.values())})
    for number, query in enumerate(SCRIPTS):
        assert await found(accounts, query) == [f"zz{number}"], query


async def test_a_database_that_has_people_but_no_indexes_yet_is_searched(
    new_mongo: NewMongo, mongodb_uri: str, mongo: Mongo
) -> None:
    """As after restoring or importing it, before anybody registers."""
    await mongo.collection(USERS).insert_one(
        {
            "_id": "ana",
            "username": "ana",
            "usernameKey": "ana",
            "usernameLooks": ["ana"],
            "searchKeys": ["ana"],
            "createdAt": 0,
            "updatedAt": 0,
            "version": 1,
        }
    )
    fresh = new_mongo(mongodb_uri)
    assert await found(AccountRepository(fresh, Indexes(fresh)), "ana") == ["ana"]


async def test_before_anybody_is_there_nobody_is_found(accounts: AccountRepository) -> None:
    assert await found(accounts, "ana") == []


async def test_only_the_fitting_keys_are_read(accounts: AccountRepository, mongo: Mongo) -> None:
    for number in range(30):
        await people(accounts, **{f"ana{number}": f"Bob {number}", f"bob{number}": f"Ana {number}"})
    users = mongo.collection(USERS)
    explained: dict[str, Any] = (
        await users.find(search_filter("ana")).hint(SEARCH_INDEX).limit(10).explain()
    )
    stats = explained["executionStats"]
    assert stats["nReturned"] == 10
    assert stats["totalKeysExamined"] <= 12
    assert stats["totalDocsExamined"] <= 12
