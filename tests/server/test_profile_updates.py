"""`PUT /users/{id}`: in part, whole or not at all, the later change wins."""

import asyncio
import json
import time
from typing import Any

import aiohttp
import pytest

from domain.times import iso
from tests.profiles import WHOLE, Person, put, registered
from tests.rest import Answer, Api
from tests.serving import Served, serving

pytestmark = pytest.mark.usefixtures("quiet")


def now() -> int:
    return int(time.time() * 1000)


@pytest.fixture
async def ada(http: aiohttp.ClientSession) -> Person:
    return await registered(http)


# --- what is changed ----------------------------------------------------------------------


async def test_the_source_documents_body_is_stored_word_by_word(
    http: aiohttp.ClientSession, service: Api
) -> None:
    john = await registered(http, "john_doe", email="john@example.com")
    body = {
        "id": john.id,
        "username": "john_doe",
        "email": "john@example.com",
        "bio": "Hello!",
        "avatar": "https://...",
        "updatedAt": 1705856400000,
    }
    answered = await john.put(**body)
    assert answered.keys() == WHOLE
    assert body.items() <= answered.items()
    assert body.items() <= (await john.profile()).items()
    # Again, as from a queue of an app that missed the answer.
    assert body.items() <= (await john.put(**body)).items()


async def test_only_what_is_sent_changes_and_null_empties(ada: Person) -> None:
    await ada.put(name="Ada L.", bio="Numbers", avatar="cat_7", custom={"a": 1})
    await ada.put(bio="Engines")
    shown = await ada.put(name=None, custom=None)
    assert (shown["name"], shown["bio"], shown["avatar"]) == ("", "Engines", "cat_7")
    assert shown["custom"] == {}
    assert shown == await ada.profile()
    assert await ada.put() == shown


async def test_custom_is_replaced_as_one_and_comes_back_as_it_was(ada: Person) -> None:
    custom = {"b": [1, 2.5, None, True, {"ü": ""}], "a": 2**53 - 1, "": -1, "n": -0.25}
    assert (await ada.put(custom=custom))["custom"] == custom
    answer = await ada.get(ada.path)
    assert list(answer.ok()["custom"]) == list(custom)
    assert (await ada.put(custom={"c": 1}))["custom"] == {"c": 1}


async def test_an_unchanged_email_may_come_along(ada: Person) -> None:
    for email in ["ADA@example.com", "ada@EXAMPLE.COM", "ada@example.com"]:
        shown = await ada.put(email=email, bio="x")
        assert (shown["email"], shown["bio"]) == ("ada@example.com", "x")


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"email": "eve@example.com"}, "invalid_value", "/email"),
    ({"email": {"$ne": ""}}, "invalid_type", "/email"),
    ({"id": "bob"}, "invalid_value", "/id"),
    ({"id": {"$ne": 1}}, "invalid_type", "/id"),
    ({"username": {"$gt": ""}}, "invalid_type", "/username"),
    ({"username": None}, "invalid_type", "/username"),
    ({"username": "a"}, "invalid_value", "/username"),
    ({"username": "a@b.example"}, "invalid_value", "/username"),
    ({"bio": ["x"]}, "invalid_type", "/bio"),
    ({"bio": "x" * 1_001}, "invalid_value", "/bio"),
    ({"name": "x" * 101}, "invalid_value", "/name"),
    ({"name": "a\nb"}, "invalid_value", "/name"),
    ({"avatar": "javascript:alert(1)"}, "invalid_value", "/avatar"),
    ({"custom": {"a.b": 1}}, "invalid_value", "/custom"),
    ({"custom": {"$set": {"role": "admin"}}}, "invalid_value", "/custom"),
    ({"custom": {"a": "x" * 8_192}}, "invalid_value", "/custom"),
    ({"custom": {"a": {"a": {"a": {"a": {"a": {"a": {}}}}}}}}, "invalid_value", "/custom"),
    ({"custom": []}, "invalid_type", "/custom"),
    ({"updatedAt": "soon"}, "invalid_value", "/updatedAt"),
    ({"updatedAt": -1}, "invalid_value", "/updatedAt"),
    *(
        ({name: "admin"}, "unknown_field", f"/{name}")
        for name in ("role", "_id", "passwordHash", "version", "isOnline", "$set", "__proto__")
    ),
    *(
        ({name: 1}, "unknown_field", f"/{name}")
        for name in ("guest", "createdAt", "searchKeys", "erased", "constructor", "$where", "a.b")
    ),
]


async def test_a_refused_change_names_its_field_and_changes_nothing(ada: Person) -> None:
    before = await ada.get(ada.path)
    for fields, code, pointer in BAD:
        wish = {"bio": "half", **fields}
        (await put(ada, ada.id, **wish)).refused_field(400, code, pointer)
    after = await ada.get(ada.path)
    assert (after.json, after.headers["ETag"]) == (before.json, before.headers["ETag"])


async def test_all_faults_are_named_at_once(ada: Person) -> None:
    answer = await put(ada, ada.id, role="admin", bio=7, avatar="javascript:x")
    faults = {fault["pointer"] for fault in answer.problem(400, answer_code(answer))["errors"]}
    assert faults == {"/role", "/bio", "/avatar"}


def answer_code(answer: Answer) -> str:
    return str(json.loads(answer.raw)["code"])


LOOKALIKES = [
    "\u0430da",  # Cyrillic a
    "\u0430d\u0430",
    "ad\u0430\u200b",
    "a\u200bda",
    "a\u200dda",
    "ada\u2060",
    "\ufeffada",
    "ad\u00ada",
    "\u202eada",
    "ada\u0000",
    "\uff41\uff44\uff41",  # wide letters
    "\U0001d4ea\U0001d4ed\U0001d4ea",  # of mathematics
    "ADA",
    " ada ",
    "ᴀda",
    "ad\u0251",
]


async def test_nobody_gets_a_username_that_looks_like_anothers(
    http: aiohttp.ClientSession, ada: Person
) -> None:
    bob = Api(http, "bob")
    before = (await put(bob, "bob", username="bob")).ok()
    for name in LOOKALIKES:
        answer = await put(bob, "bob", username=name, bio="half")
        assert answer.status in (400, 409), ascii(name)
        answer.refused_field(answer.status, answer_code(answer), "/username")
    assert (await bob.get("/users/bob")).ok() == before
    assert (await ada.put(username="Ada"))["username"] == "Ada", "the own name may change its case"


async def test_only_oneself_and_the_apps_backend_may_change_a_profile(
    http: aiohttp.ClientSession, ada: Person, service: Api
) -> None:
    before = await ada.profile()
    for eve in (Api(http, "eve"), Api(http, "eve", role="root"), Api(http, ada.id + "x")):
        (await put(eve, ada.id, bio="mine")).problem(403, "forbidden")
        (await put(eve, ada.id, headers={"If-Match": "*"}, bio="mine")).problem(403, "forbidden")
    assert await ada.profile() == before
    assert (await put(service, ada.id, bio="by the backend")).ok()["bio"] == "by the backend"


# --- last write wins ----------------------------------------------------------------------


@pytest.mark.parametrize("form", [int, iso], ids=["epoch", "ISO"])
async def test_later_and_equal_win_and_older_is_answered_with_what_is_stored(
    ada: Person, form: Any
) -> None:
    at = now() + 60_000  # ahead: counts as now
    first = await ada.put(bio="first", updatedAt=form(at))
    stored = first["updatedAt"]
    assert stored <= now()
    assert first["bio"] == "first"
    for back in (1, 1000, stored):
        old = await put(ada, ada.id, bio="old", name="old", updatedAt=form(stored - back))
        assert old.ok() == first
    assert (await ada.put(bio="equal", updatedAt=form(stored)))["bio"] == "equal"
    assert (await ada.profile())["updatedAt"] == stored
    later = await ada.put(bio="later", updatedAt=form(now()))
    assert later["bio"] == "later"
    assert later["updatedAt"] >= stored


async def test_without_a_time_a_change_is_made_now(ada: Person) -> None:
    before = now()
    assert before <= (await ada.put(bio="now"))["updatedAt"] <= now()


async def test_the_same_changes_in_any_order_end_the_same(http: aiohttp.ClientSession) -> None:
    base = now() - 10_000
    changes = [{"bio": f"b{n}", "name": f"n{n}", "updatedAt": base + n} for n in range(6)]
    ended = []
    for user, order in (("u1", changes), ("u2", changes[::-1]), ("u3", changes[::2] + changes)):
        for change in order:
            (await put(Api(http, user), user, **change)).ok()
        shown = (await Api(http, user).get(f"/users/{user}")).ok()
        ended.append((shown["bio"], shown["name"], shown["updatedAt"]))
    assert ended == [("b5", "n5", base + 5)] * 3


# --- If-Match -----------------------------------------------------------------------------


async def test_if_match_changes_only_that_version(ada: Person) -> None:
    tag = (await ada.get(ada.path)).headers["ETag"]
    assert (await put(ada, ada.id, headers={"If-Match": tag}, bio="1")).ok()["bio"] == "1"
    for wrong in (tag, '"x"', "", f"W/{tag}", f'{tag}, "x"', "null", '"*"'):
        answer = await put(ada, ada.id, headers={"If-Match": wrong}, bio="2")
        answer.problem(412, "precondition_failed")
    assert (await ada.profile())["bio"] == "1"


async def test_if_match_is_a_list_or_any_version_and_is_compared_strongly(ada: Person) -> None:
    for bio, form in (("1", '"x", {}'), ("2", '{} ,"y"'), ("3", "*"), ("4", 'W/"x",{}')):
        tag = (await ada.get(ada.path)).headers["ETag"]
        wish = {"headers": {"If-Match": form.format(tag)}, "bio": bio}
        assert (await put(ada, ada.id, **wish)).ok()["bio"] == bio
    weak = f"W/{(await ada.get(ada.path)).headers['ETag']}"
    answer = await put(ada, ada.id, headers={"If-Match": weak}, bio="5")
    answer.problem(412, "precondition_failed")


async def test_if_match_of_a_profile_that_is_not_there_fails_and_makes_none(api: Api) -> None:
    for tag in ("*", '"1"'):
        answer = await put(api, "ada", headers={"If-Match": tag}, bio="x")
        answer.problem(412, "precondition_failed")
    (await api.get("/users/ada")).problem(404, "not_found")


async def test_of_20_with_the_same_if_match_one_wins(ada: Person) -> None:
    tag = (await ada.get(ada.path)).headers["ETag"]
    answers = await asyncio.gather(
        *(put(ada, ada.id, headers={"If-Match": tag}, bio=f"b{n}") for n in range(20))
    )
    assert sorted(answer.status for answer in answers) == [200] + [412] * 19
    (won,) = (answer for answer in answers if answer.status == 200)
    assert (await ada.profile())["bio"] == won.json["bio"]


# --- races --------------------------------------------------------------------------------


@pytest.fixture
async def other(stores: dict[str, Any], served: Served) -> Any:
    """A second instance of the app."""
    async with serving(**stores) as server, aiohttp.ClientSession(server.url) as session:
        yield session


async def test_20_changes_of_different_fields_at_once_all_count(
    http: aiohttp.ClientSession, other: aiohttp.ClientSession
) -> None:
    names = ("name", "bio", "avatar", "username")
    doors = [Api(http, "ada"), Api(other, "ada")]
    wishes = [{name: f"{name}_{n}"} for n in range(5) for name in names]
    answers = await asyncio.gather(
        *(put(doors[n % 2], "ada", **wish) for n, wish in enumerate(wishes))
    )
    for wish, answer in zip(wishes, answers, strict=True):
        assert wish.items() <= answer.ok().items()
    shown = (await doors[0].get("/users/ada")).ok()
    for name in names:
        assert shown[name] in {wish.get(name) for wish in wishes}
    versions = {answer.headers["ETag"] for answer in answers}
    assert len(versions) == 20, "each is a version of its own"


async def test_when_two_want_a_username_one_gets_it_and_the_other_stays_as_they_were(
    http: aiohttp.ClientSession, other: aiohttp.ClientSession
) -> None:
    people = {"u1": Api(http, "u1"), "u2": Api(other, "u2")}
    for round_ in range(5):
        before = {
            user: (await put(one, user, username=f"{user}_old", bio="old")).ok()
            for user, one in people.items()
        }
        wish = {"username": f"Wanted {round_}", "bio": "new"}
        answers = dict(
            zip(
                people,
                await asyncio.gather(*(put(one, user, **wish) for user, one in people.items())),
                strict=True,
            )
        )
        assert sorted(answer.status for answer in answers.values()) == [200, 409]
        for user, answer in answers.items():
            shown = (await people[user].get(f"/users/{user}")).ok()
            if answer.status == 200:
                assert wish.items() <= shown.items()
            else:
                answer.refused_field(409, "username_taken", "/username")
                assert shown == before[user]


# --- users of the app's own tokens --------------------------------------------------------


async def test_a_user_of_the_apps_own_tokens_gets_a_profile_by_the_first_put(
    api: Api, service: Api
) -> None:
    (await api.get("/users/ada")).problem(404, "not_found")
    shown = (await put(api, "ada", name="Ada", bio="Numbers", updatedAt=1705856400000)).ok()
    assert shown.keys() == WHOLE
    assert (shown["id"], shown["name"], shown["bio"]) == ("ada", "Ada", "Numbers")
    assert (shown["email"], shown["guest"], shown["role"]) == (None, False, "user")
    assert len(shown["username"]) >= 2
    assert (await api.get("/users/ada")).ok() == shown
    assert (await put(service, "bob", username="bob")).ok()["username"] == "bob"


@pytest.mark.parametrize("wish", [{}, {"username": "ada", "bio": "x"}, {"bio": "x"}])
async def test_20_first_puts_at_once_make_one_profile(
    http: aiohttp.ClientSession, other: aiohttp.ClientSession, wish: dict[str, Any]
) -> None:
    doors = [Api(http, "ada"), Api(other, "ada")]
    answers = await asyncio.gather(*(put(doors[n % 2], "ada", **wish) for n in range(20)))
    assert len({answer.ok()["username"] for answer in answers}) == 1
    assert [one["id"] for one in (await doors[0].get("/users")).ok()] == ["ada"]


async def test_a_refused_first_put_makes_no_profile(http: aiohttp.ClientSession, api: Api) -> None:
    (await put(Api(http, "bob"), "bob", username="bob")).ok()
    refused = await put(api, "ada", username="BOB", bio="half")
    refused.refused_field(409, "username_taken", "/username")
    refused = await put(api, "ada", email="ada@example.com", bio="half")
    refused.refused_field(400, "invalid_value", "/email")
    (await api.get("/users/ada")).problem(404, "not_found")
    assert [one["id"] for one in (await api.get("/users")).ok()] == ["bob"]
