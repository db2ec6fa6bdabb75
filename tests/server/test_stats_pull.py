"""GET /api/users/{userId}/stats."""

import string

import pytest

from tests.rest import DEFAULTS, ISO, Api

pytestmark = pytest.mark.usefixtures("quiet")


async def test_a_user_never_written_has_the_defaults_to_the_letter(api: Api) -> None:
    document = await api.stats()
    assert ISO.fullmatch(document.pop("updatedAt"))
    assert document == {"userId": "ada", "rev": 0, **DEFAULTS}


async def test_the_document_is_the_one_that_patch_and_update_answered(api: Api) -> None:
    patched = await api.patch(xp=10)
    assert patched.pop("duplicate") is False
    assert await api.stats() == patched
    assert patched.keys() == {"userId", "rev", "updatedAt", *DEFAULTS}
    updated = await api.update({"xp": 7, "lastGameResults": {"won": True, "moves": [1, 2.5]}})
    assert await api.stats() == updated["stats"]
    assert ISO.fullmatch(updated["stats"]["updatedAt"])


async def test_rev_grows_by_one_with_every_applied_change(api: Api) -> None:
    for rev in (1, 2, 3):
        assert (await api.patch(xp=1))["rev"] == rev
    assert (await api.patch())["rev"] == 3
    assert (await api.update({"xp": 1}))["stats"]["rev"] == 4


async def test_if_none_match_answers_304_until_the_document_changes(api: Api) -> None:
    await api.patch(xp=1)
    first = await api.get("/api/users/ada/stats")
    etag = first.headers["ETag"]
    assert etag == '"1"'
    for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        same = await api.get("/api/users/ada/stats", headers={"If-None-Match": given})
        assert (same.status, same.raw) == (304, b"")
        assert same.headers["ETag"] == etag
        assert "X-Request-Id" in same.headers
    for given in ('"0"', "1", "", '"11"'):
        other = await api.get("/api/users/ada/stats", headers={"If-None-Match": given})
        assert other.ok()["rev"] == 1
    await api.patch(xp=1)
    changed = await api.get("/api/users/ada/stats", headers={"If-None-Match": etag})
    assert changed.ok()["xp"] == 2
    assert changed.headers["ETag"] == '"2"'


async def test_a_cache_never_keeps_a_document_for_someone_else(api: Api) -> None:
    control = (await api.get("/api/users/ada/stats")).headers["Cache-Control"]
    assert "private" in control
    assert "no-cache" in control


async def test_head_answers_as_get_does_and_sends_no_body(api: Api) -> None:
    got = await api.get("/api/users/ada/stats")
    head = await api.send("HEAD", "/api/users/ada/stats")
    assert (head.status, head.raw) == (200, b"")
    assert head.headers["ETag"] == got.headers["ETag"]
    assert head.headers["Content-Length"] == str(len(got.raw))


async def test_every_well_formed_id_can_be_asked_for(service: Api) -> None:
    alphabet = string.ascii_letters + string.digits + "._:@|~+=-"
    for user in (alphabet, "a" * 128, "auth0|507f1f77bcf86cd799439011", "a@b.example"):
        assert (await service.stats(user))["userId"] == user


@pytest.mark.parametrize(
    "user", ["a" * 129, "$where", "a$", "a%20b", "%F0%9F%98%80", "a%00", "a%2Cb"]
)
async def test_an_ill_formed_id_is_refused(service: Api, user: str) -> None:
    answer = await service.get(f"/api/users/{user}/stats")
    answer.refused_field(400, "invalid_id", "/userId")
