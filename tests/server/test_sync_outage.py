"""MongoDB away: the outcome is unknown, and the same push sent again is right either way."""

import aiohttp
import pytest

from server.embedded import PrivateServer
from server.sync import service
from tests.outages import frozen
from tests.rest import Api
from tests.serving import serving
from tests.syncing import INITIAL, LOG, SYNC_PATH, Device, applied, create
from tests.waiting import soon


@pytest.mark.usefixtures("half_open_closed")
async def test_while_mongodb_is_away_everything_is_unavailable_and_the_resend_works(
    own_mongod: PrivateServer,
    redis_url: str,
    redis_prefix: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "PUSH_TIMEOUT", 1.0)
    monkeypatch.setattr(service, "PULL_TIMEOUT", 1.0)
    where = {"mongodb_uri": own_mongod.url, "redis_url": redis_url, "redis_prefix": redis_prefix}
    async with serving(**where) as server, aiohttp.ClientSession(server.url) as session:
        phone = Device(Api(session))
        await phone.done(create("before"))
        one = create("a", title="x")
        body = {"deviceId": "phone", "changes": [one]}
        with frozen(own_mongod):
            for answer in (
                await phone.api.post(SYNC_PATH, body),
                await phone.api.post(SYNC_PATH, {}),
                await phone.api.get(INITIAL),
                await phone.api.get(LOG),
            ):
                answer.problem(503, "unavailable")
                assert answer.headers["Retry-After"]

        async def sent_again() -> None:
            ack = await phone.ack(one)
            assert {**ack, "duplicate": True} == {**applied(one), "duplicate": True}

        await soon(sent_again)
        assert (await Device(phone.api, "laptop").pull()).keys() == {"before", "a"}
        operations = (await phone.api.get(LOG)).ok()["data"]["operations"]
        assert [op["entityId"] for op in operations] == ["a", "before"]
