"""/openapi.json is true of the routes of accounts and profiles: each answer here is checked."""

import gzip
import re
from typing import Any

import aiohttp
import pytest

from server.accounts import auth_routes, profile_routes
from tests.openapi import conforms, operations, validator
from tests.rest import Answer, Api
from tests.serving import serving
from tests.tokens import token as token_of

pytestmark = pytest.mark.usefixtures("quiet")

ROUTES = {
    (endpoint.method, endpoint.path)
    for endpoint in (*auth_routes.ENDPOINTS, *profile_routes.ENDPOINTS)
}
PASSWORD = "secure123"
DEVICE = "a-device-id-of-enough-letters"


class Checking:
    """Requests whose answers have to be as the document says."""

    def __init__(self, http: aiohttp.ClientSession, spec: Any) -> None:
        self._http = http
        self.spec = spec
        self.seen: set[tuple[str, str, int]] = set()

    async def __call__(
        self, method: str, target: str, status: int, token: str | None = None, **options: Any
    ) -> Any:
        """Send it; the answer, which must have this status, as JSON where it is."""
        path = self._template(target.partition("?")[0])
        headers = {**options.pop("headers", {})}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        answer = await Api(self._http, None).send(method, target, headers=headers, **options)
        assert answer.status == status, (method, target, answer)
        conforms(self.spec, method, path, answer)
        if "data" not in options:
            self._takes(method, path, options.get("json"), answer)
        self.seen.add((method, path, status))
        is_json = answer.headers["Content-Type"].startswith("application/json")
        return answer.json if is_json else answer

    def _template(self, path: str) -> str:
        if path in self.spec["paths"]:
            return path
        (found,) = (
            template
            for template in self.spec["paths"]
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
        )
        return str(found)

    def _takes(self, method: str, path: str, body: Any, answer: Answer) -> None:
        """A body that was accepted is one that the document allows."""
        told = self.spec["paths"][path][method.lower()].get("requestBody")
        if told is None or answer.status >= 300:
            return
        if body is None:
            assert not told["required"]
        else:
            schema = told["content"]["application/json"]["schema"]
            validator(self.spec, schema).validate(body)


@pytest.fixture
async def ask(http: aiohttp.ClientSession, api: Api) -> Checking:
    return Checking(http, (await api.get("/openapi.json")).ok())


def wish(username: str, **more: Any) -> dict[str, Any]:
    body = {"username": username, "email": f"{username}@example.com", "password": PASSWORD}
    return {**body, **more}


async def test_every_route_answers_well_as_it_says(ask: Checking) -> None:
    ada = await ask("POST", "/auth/register", 201, json=wish("ada"))
    bob = await ask("POST", "/api/auth/register", 201, json=wish("bob", name="Bob"))
    no_name = {"email": "x@example.com", "password": PASSWORD}
    await ask("POST", "/api/auth/register", 201, json=no_name)
    guest = (await ask("POST", "/api/auth/guest", 201, json={"deviceId": DEVICE}))["data"]
    await ask("POST", "/auth/register", 201, guest["token"], json=wish("guest_no_more"))
    await ask("POST", "/auth/login", 200, json={"email": ada["email"], "password": PASSWORD})
    other = await ask(
        "POST", "/api/auth/login", 200, json={"username": "ada", "password": PASSWORD}
    )
    refreshed = {"refreshToken": other["data"]["refreshToken"]}
    other = (await ask("POST", "/api/auth/refresh", 200, json=refreshed))["data"]
    await ask("POST", "/api/auth/logout", 200, json={"refreshToken": other["refreshToken"]})
    own, token = f"/users/{ada['id']}", ada["token"]
    await ask("GET", "/api/auth/me", 200, token)
    body = {"currentPassword": PASSWORD, "newPassword": "another123"}
    await ask("POST", "/api/auth/password", 200, token, json=body)
    for change in (
        {"id": ada["id"], "email": "ADA@example.com", "bio": "Hello!", "updatedAt": 1705856400000},
        {"name": "Ada", "avatar": "https://...", "custom": {"a": [1, {"b": None}]}},
        {"bio": None, "custom": None, "name": None, "avatar": None, "updatedAt": "2026-01-01"},
        {},
    ):
        await ask("PUT", own, 200, token, json=change)
    await ask("PUT", "/users/its_own", 200, token_of("its_own"), json={})
    for who in (token, bob["data"]["token"], token_of("backend", role="service")):
        await ask("GET", own, 200, who)
    for body in ({"status": "busy", "note": "exam"}, {"status": "away", "note": None}):
        await ask("POST", f"{own}/status", 200, token, json=body)
    await ask("POST", f"{own}/status", 200, token, json={"status": "offline"})
    everybody = await ask("GET", "/users", 200, token)
    assert len(everybody) == 5
    await ask("GET", "/users?limit=2", 200, token)
    assert await ask("GET", "/users/search?q=ada", 200, token)
    await ask("GET", "/api/auth/me/export", 200, token)
    await ask("POST", "/api/auth/logout", 200, bob["data"]["token"])
    await ask("POST", "/api/auth/logout-all", 200, token)
    again = await ask(
        "POST", "/auth/login", 200, json={"username": "ada", "password": "another123"}
    )
    await ask("DELETE", "/api/auth/me", 200, again["token"])
    assert {(method, path) for method, path, _ in ask.seen} == ROUTES


async def test_every_route_refuses_as_it_says(ask: Checking) -> None:
    ada = await ask("POST", "/auth/register", 201, json=wish("ada"))
    large = b" " * (256 * 1024 + 1)
    as_json = {"Content-Type": "application/json"}
    for method, path, operation in operations(ask.spec):
        if (method, path) not in ROUTES:
            continue
        target = path.replace("{id}", "its_own")
        token = token_of("its_own")
        await ask(method, f"{target}?token=x", 400, token)
        if operation["security"]:
            await ask(method, target, 401, "no token")
            await ask(method, target, 401, token_of("ada", ttl=-5))
        if "requestBody" in operation:
            for body in (b"{", b"[]", b'{"nonsense": 1}', b'{"email": 7, "status": []}'):
                await ask(method, target, 400, token, data=body, headers=as_json)
            await ask(method, target, 413, token, data=large)
            await ask(method, target, 415, token, data=b"{}", headers={"Content-Encoding": "br"})
        if "{id}" in path:
            await ask(method, path.replace("{id}", "a%20b"), 400, token, json={})
    for path in ("/auth/register", "/api/auth/register"):
        await ask("POST", path, 409, json=wish("ada"))
        await ask("POST", path, 409, json=wish("ADA", email="b@example.com"))
        await ask("POST", path, 400, json=wish("bob", id="no uuid"))
    for path in ("/auth/login", "/api/auth/login"):
        await ask("POST", path, 401, json={"username": "nobody", "password": PASSWORD})
    await ask("POST", "/api/auth/refresh", 401, json={"refreshToken": "x"})
    await ask("POST", "/api/auth/logout", 401, json={})
    own, eve = f"/users/{ada['id']}", token_of("eve")
    await ask("GET", "/users/eve", 404, eve)
    await ask("GET", "/api/auth/me", 404, eve)
    await ask("PUT", own, 403, eve, json={})
    await ask("PUT", own, 400, ada["token"], json={"email": "b@example.com"})
    await ask("PUT", own, 412, ada["token"], json={}, headers={"If-Match": '"x"'})
    await ask("PUT", "/users/eve", 409, eve, json={"username": "Ada"})
    await ask("POST", f"{own}/status", 403, eve, json={"status": "busy"})
    for query in ("limit=0", "cursor=x", "limit=1&limit=2", "nonsense=1"):
        await ask("GET", f"/users?{query}", 400, eve)
    for query in ("", "q=a", "q=ab&limit=51", "q=ab&nonsense=1"):
        await ask("GET", f"/users/search?{query}", 400, eve)
    body = {"currentPassword": "wrong123", "newPassword": "another123"}
    await ask("POST", "/api/auth/password", 401, ada["token"], json=body)
    await ask("DELETE", "/api/auth/me", 200, ada["token"])
    backend = token_of("backend", role="service")
    await ask("GET", own, 410, backend)
    await ask("PUT", own, 410, backend, json={"bio": "x"})
    await ask("POST", f"{own}/status", 410, backend, json={"status": "busy"})
    await ask("POST", "/auth/register", 410, json=wish("bob", id=ada["id"]))


async def test_who_asks_too_often_is_refused_as_it_says(stores: dict[str, Any]) -> None:
    async with (
        serving(**stores, rate_limit_per_minute=1) as server,
        aiohttp.ClientSession(server.url) as http,
    ):
        ask = Checking(http, (await Api(http).get("/openapi.json")).ok())
        await Api(http).get("/users")
        await Api(http, None).post("/auth/login", {})
        for method, path in sorted(ROUTES):
            body = {"refreshToken": "x"} if path.endswith("logout") else {}
            token = None if path in ("/auth/register", "/api/auth/register") else token_of("ada")
            await ask(method, path.replace("{id}", "ada"), 429, token, json=body)


async def test_a_compressed_body_is_taken_as_it_says(ask: Checking) -> None:
    packed = gzip.compress(b'{"username": "ada", "email": "a@b.example", "password": "secure123"}')
    await ask("POST", "/auth/register", 201, data=packed, headers={"Content-Encoding": "gzip"})
