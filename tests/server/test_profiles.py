"""`GET /users/{id}`: whole for oneself and for the app's backend, public for everybody else."""

import aiohttp
import pytest

from tests.profiles import PUBLIC, SECRETS, WHOLE, Person, put, registered
from tests.rest import ISO, Api

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
async def ada(http: aiohttp.ClientSession) -> Person:
    return await registered(http)


async def test_one_sees_oneself_whole(ada: Person) -> None:
    shown = await ada.profile()
    assert shown.keys() == WHOLE
    assert (shown["id"], shown["username"], shown["email"]) == (ada.id, "ada", "ada@example.com")
    assert shown["custom"] == {"secret": "hush"}
    assert (shown["role"], shown["guest"]) == ("user", False)
    assert isinstance(shown["updatedAt"], int)
    assert ISO.fullmatch(shown["createdAt"])


@pytest.mark.parametrize("role", ["service", "admin"])
async def test_the_apps_backend_and_admins_see_everybody_whole(
    http: aiohttp.ClientSession, ada: Person, role: str
) -> None:
    shown = (await Api(http, "backend", role=role).get(ada.path)).ok()
    assert shown.keys() == WHOLE
    assert shown["email"] == "ada@example.com"


@pytest.mark.parametrize("role", ["user", "root", "Admin", None])
async def test_others_see_the_public_part_and_no_secret(
    http: aiohttp.ClientSession, ada: Person, role: str | None
) -> None:
    answer = await Api(http, "bob", role=role).get(ada.path)
    assert answer.ok().keys() == PUBLIC
    seen = answer.raw.decode() + str(answer.headers)
    assert not [secret for secret in SECRETS if secret in seen]


async def test_nobody_is_not_found(api: Api, service: Api) -> None:
    (await api.get("/users/ada")).problem(404, "not_found")
    (await api.get("/users/nobody")).problem(404, "not_found")
    (await service.get("/users/nobody")).problem(404, "not_found")


async def test_what_is_no_id_is_refused(api: Api) -> None:
    for bad in ["$ne", "a b", "%00", "é", "a" * 129, "a[$ne]", "*"]:
        (await api.get(f"/users/{bad}")).refused_field(400, "invalid_id", "/id")
        (await put(api, bad)).refused_field(400, "invalid_id", "/id")
        (await api.post(f"/users/{bad}/status", {"status": "away"})).refused_field(
            400, "invalid_id", "/id"
        )


async def test_the_erased_are_gone_for_everybody(
    http: aiohttp.ClientSession, ada: Person, service: Api
) -> None:
    (await ada.send("DELETE", "/api/auth/me")).ok()
    for api in (Api(http, "bob"), Api(http, ada.id), service):
        (await api.get(ada.path)).problem(410, "erased")
    for api in (Api(http, ada.id), service):
        (await put(api, ada.id, bio="back")).problem(410, "erased")
        (await api.post(f"{ada.path}/status", {"status": "online"})).problem(410, "erased")


async def test_a_new_version_has_a_new_etag(http: aiohttp.ClientSession, ada: Person) -> None:
    bob = Api(http, "bob")
    first = (await ada.get(ada.path)).headers["ETag"]
    assert first == (await bob.get(ada.path)).headers["ETag"]
    changed = await put(ada, ada.id, bio="new")
    assert changed.headers["ETag"] == (await ada.get(ada.path)).headers["ETag"] != first


async def test_answers_with_personal_data_are_not_kept_by_proxies(ada: Person) -> None:
    for answer in (await ada.get(ada.path), await put(ada, ada.id), await ada.get("/users")):
        assert "private" in answer.headers["Cache-Control"]
