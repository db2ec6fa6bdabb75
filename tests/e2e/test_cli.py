"""`python -m server` as a command."""

import asyncio
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest

from tests.commands import command
from tests.rest import Api
from tests.serving import server_process
from tests.tokens import SECRET


async def test_help_names_the_commands() -> None:
    result = await command("--help")
    assert (result.code, result.err) == (0, "")
    assert "python -m server" in result.out
    assert "serve" in result.out
    assert "token" in result.out


async def test_an_unknown_command_or_role_says_what_there_is() -> None:
    unknown, role = await asyncio.gather(command("fly"), command("token", "ada", "--role", "king"))
    assert (unknown.code, role.code) == (2, 2)
    assert "serve" in unknown.err
    assert "service" in role.err


async def test_token_prints_a_token_of_that_role_for_the_configuration(
    stores: dict[str, Any], tmp_path: Path
) -> None:
    identity = {"jwt_issuer": "https://issuer.example", "jwt_audience": "game"}
    settings = {**stores, **identity, "jwt_secret": SECRET}
    made, own = await asyncio.gather(
        command("token", "backend", "--role", "service", **settings, jwt_expire="1h"),
        command("token", "ada", **settings),
    )
    assert (made.code, made.err, own.code) == (0, "", 0)
    claims = jwt.decode(
        made.out.strip(),
        SECRET,
        algorithms=["HS256"],
        audience="game",
        issuer=identity["jwt_issuer"],
    )
    assert (claims["sub"], claims["role"]) == ("backend", "service")
    assert claims["exp"] - time.time() == pytest.approx(3600, abs=60)
    async with (
        server_process(tmp_path, **settings) as server,
        aiohttp.ClientSession(server.url) as http,
    ):
        nobody = Api(http, None)
        for token, status in ((made.out.strip(), 200), (own.out.strip(), 403)):
            headers = {"Authorization": f"Bearer {token}"}
            assert (await nobody.get("/api/users/bob/stats", headers=headers)).status == status


async def test_token_refuses_an_ill_formed_user(stores: dict[str, Any]) -> None:
    result = await command("token", "$where", **stores, jwt_secret=SECRET)
    assert result.code == 1
    assert result.out == ""
    assert "USER" in result.err
    assert "Traceback" not in result.err


async def test_an_occupied_port_is_a_clear_message(stores: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        port = occupant.getsockname()[1]
        result = await command(**stores, jwt_secret=SECRET, port=port)
    assert result.code == 1
    assert str(port) in result.err
    assert "in use" in result.err
    assert "Traceback" not in result.err
    assert "is live" not in result.out


async def test_an_occupied_port_leaves_no_private_server_behind() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="livetally-test-") as folder,
        socket.create_server(("127.0.0.1", 0)) as occupant,
    ):
        port = occupant.getsockname()[1]
        result = await command(data_dir=folder, port=port)
        assert result.code == 1
        assert str(port) in result.err
        assert "in use" in result.err
        commands = []
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                commands.append(process.read_bytes())
            except (FileNotFoundError, ProcessLookupError):
                continue
        assert not [line for line in commands if os.fsencode(folder) in line]
