"""Profiles for tests: people who registered, people of the app's own tokens, crowds."""

from typing import Any

import aiohttp

from tests.rest import Answer, Api

WHOLE = {
    *("id", "username", "name", "bio", "avatar", "updatedAt", "email", "custom", "role", "guest"),
    *("createdAt", "isOnline", "status", "lastSeen"),
}
PUBLIC = WHOLE - {"email", "custom", "role", "guest", "createdAt"}
FOUND = {"id", "username", "avatar", "bio", "isOnline"}
SECRETS = ("ada@example.com", "hush", "passwordHash", "argon2")
"""What others never see of `registered`'s ada."""


class Person(Api):
    """Somebody with an account; `token` is of their session."""

    def __init__(self, session: aiohttp.ClientSession, body: dict[str, Any]) -> None:
        super().__init__(session, None)
        self.id: str = body["id"]
        self.token: str = body["token"]
        self._headers = {"Authorization": f"Bearer {self.token}"}

    @property
    def path(self) -> str:
        """Where their profile is."""
        return f"/users/{self.id}"

    async def put(self, **fields: Any) -> Any:
        """An accepted change of the own profile."""
        return (await put(self, self.id, **fields)).ok()

    async def profile(self) -> Any:
        """The own profile."""
        return (await self.get(self.path)).ok()


async def put(api: Api, user: str, headers: dict[str, str] | None = None, **fields: Any) -> Answer:
    """`PUT /users/{user}`."""
    return await api.send("PUT", f"/users/{user}", json=fields, headers=headers or {})


async def registered(http: aiohttp.ClientSession, username: str = "ada", **more: Any) -> Person:
    """Register somebody; ada has something to hide in `custom`."""
    body = {
        "username": username,
        "email": f"{username}@example.com".replace(" ", "."),
        "password": "secure123",
        **more,
    }
    answer = await Api(http, None).post("/auth/register", body)
    assert answer.status < 300, answer
    person = Person(http, answer.json)
    if username == "ada":
        await person.put(custom={"secret": "hush"})
    return person
