"""`GET /users`: a bare array, page by page by `Link`, everybody once."""

import asyncio
import base64
from typing import Any

import aiohttp
import pytest
from yarl import URL

from server.keys import ACCOUNTS
from tests.profiles import PUBLIC, SECRETS, put, registered
from tests.rest import Answer, Api
from tests.serving import Served

pytestmark = pytest.mark.usefixtures("quiet")


async def crowd(http: aiohttp.ClientSession, most: int) -> list[str]:
    """People of the app's own tokens; their ids."""
    ids = [f"user{number:02}" for number in range(most)]
    for at in range(0, most, 10):
        await asyncio.gather(*(put(Api(http, user), user) for user in ids[at : at + 10]))
    return ids


def following(answer: Answer) -> str | None:
    """Where the next page is, by `Link` (RFC 8288)."""
    link = answer.headers.get("Link")
    if link is None:
        return None
    address, rel = link.split("; ")
    assert rel == 'rel="next"'
    assert (address[0], address[-1]) == ("<", ">")
    return str(address[1:-1])


async def walk(api: Api, path: str, between: Any = None) -> list[list[dict[str, Any]]]:
    """All pages from `path` on; something may happen between them."""
    pages = []
    target: str | None = path
    while target is not None:
        answer = await api.get(target)
        pages.append(answer.ok())
        target = following(answer)
        if between is not None:
            await between(len(pages))
    return pages


async def test_nobody_is_an_empty_array_without_a_next_page(api: Api) -> None:
    answer = await api.get("/users")
    assert answer.ok() == []
    assert following(answer) is None


async def test_it_is_a_bare_array_of_public_profiles_without_secrets(
    http: aiohttp.ClientSession, service: Api
) -> None:
    ada = await registered(http)
    for who in (Api(http, "bob"), ada, service):  # nobody sees more here
        answer = await who.get("/users")
        (shown,) = answer.ok()
        assert shown.keys() == PUBLIC
        assert (shown["id"], shown["username"]) == (ada.id, "ada")
        assert not [secret for secret in SECRETS if secret in str(answer)]


@pytest.mark.parametrize("limit", [1, 7, 12, 100])
async def test_pages_have_everybody_once(http: aiohttp.ClientSession, limit: int) -> None:
    ids = await crowd(http, 24)
    pages = await walk(Api(http, "eve"), f"/users?limit={limit}")
    assert sorted(one["id"] for page in pages for one in page) == ids
    assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)
    assert 1 <= len(pages[-1]) <= limit, "no empty page at the end"


async def test_a_page_has_50_unless_told_otherwise(http: aiohttp.ClientSession) -> None:
    await crowd(http, 60)
    pages = await walk(Api(http, "eve"), "/users")
    assert [len(page) for page in pages] == [50, 10]


async def test_who_was_there_comes_once_while_others_come_change_and_go(
    http: aiohttp.ClientSession, served: Served
) -> None:
    ids = await crowd(http, 20)
    gone = ids[10]

    async def between(page: int) -> None:
        """Somebody registers, those of pages before and after are renamed, one is erased."""
        await put(Api(http, f"new{page}"), f"new{page}", username=f"aaa {page}")
        for user in (ids[0], ids[page], ids[-1 - page]):
            await put(Api(http, user), user, username=f"zz {user} {page}", updatedAt=page)
        if page == 1:
            await served.app[ACCOUNTS].people.erase(gone)

    pages = await walk(Api(http, "eve"), "/users?limit=3", between)
    found = [one["id"] for page in pages for one in page]
    assert len(found) == len(set(found)), "nobody comes twice"
    assert {*ids} - {gone} <= {*found}
    assert gone not in found


async def test_the_erased_are_not_in_it(http: aiohttp.ClientSession) -> None:
    ada, bob = await registered(http), await registered(http, "bob")
    (await ada.send("DELETE", "/api/auth/me")).ok()
    answer = await bob.get("/users")
    assert [one["id"] for one in answer.ok()] == [bob.id]
    assert "erased" not in answer.raw.decode()


async def test_a_limit_is_from_1_to_100(api: Api) -> None:
    for limit in ["0", "-1", "101", "1e9", "x", "", "1.5", "9" * 400, "NaN", "$"]:
        answer = await api.get("/users", params={"limit": limit})
        answer.refused_field(400, "invalid_value", "/limit")


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


async def test_what_is_no_cursor_is_refused_by_name(api: Api) -> None:
    for cursor in [
        *("", "x", "!!", "é", "%00", "null", "[object Object]", encoded("x y"), encoded("1")),
        *(encoded("1 a b"), encoded('1 {"$gt":""}'), encoded("1 $where"), encoded("1 ")),
        *(encoded(f"{2**63} a"), encoded(f"-{2**64} a"), encoded("9" * 300 + " a"), "A" * 513),
        *("A" * 512, encoded("-1 a"), encoded("1\n2 a"), encoded("\u0661 a") + "=", "=" * 8),
    ]:
        answer = await api.get("/users", params={"cursor": cursor})
        answer.refused_field(400, "invalid_value", "/cursor")


async def test_a_cursor_tells_nothing_that_is_not_public(http: aiohttp.ClientSession) -> None:
    """Anybody may read it, and use another's."""
    ada = await registered(http)
    await registered(http, "bob")
    answer = await ada.get("/users?limit=1")
    target = following(answer)
    assert target is not None
    inside = base64.urlsafe_b64decode(URL(target).query["cursor"]).decode()
    (first,) = answer.ok()
    assert inside.endswith(f" {first['id']}")
    assert not [secret for secret in SECRETS if secret in inside]
    (second,) = (await Api(http, "eve").get(target)).ok()
    assert second.keys() == PUBLIC


async def test_a_parameter_comes_once(api: Api) -> None:
    for query in [
        "limit=1&limit=2",
        "limit=5&limit=5",
        "cursor=a&cursor=b",
        "cursor=a&limit=1&cursor=a",
    ]:
        (await api.get(f"/users?{query}")).problem(400, "invalid_value")


async def test_unknown_parameters_are_refused_by_name(api: Api) -> None:
    for name in ["role", "email", "q", "$where", "limit[$gt]", "__proto__", "sort"]:
        answer = await api.get("/users", params={name: "1"})
        answer.refused_field(400, "unknown_field", f"/{name}")
