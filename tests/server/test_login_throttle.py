"""Failed logins are few: per account, per address, over all instances."""

from typing import Any

import aiohttp
import pytest

from tests.registering import (
    LOGIN,
    PASSWORD,
    REGISTER,
    WRONG,
    carrying,
    failed,
    instances,
    log_in,
    made,
    nobody,
    registered,
    throttled,
    together,
    wish,
)
from tests.serving import serving

pytestmark = pytest.mark.usefixtures("quiet")


def at(address: str) -> dict[str, Any]:
    """Options of a request from `address`."""
    return {"headers": {"X-Forwarded-For": address}}


# --- an account ---------------------------------------------------------------------------


async def test_after_10_failures_an_account_is_throttled_by_default(stores: dict[str, Any]) -> None:
    async with serving(**stores) as served, aiohttp.ClientSession(served.url) as http:
        await registered(http)
        await registered(http, "bob")
        failed(*await together(*(log_in(http, "ada", WRONG) for _ in range(10))))
        throttled(await log_in(http, "ada", WRONG), await log_in(http, "ada"))
        (await log_in(http, "bob")).ok()


async def test_an_account_counts_under_all_its_names_at_both_doors_of_two_instances(
    stores: dict[str, Any],
) -> None:
    async with instances(stores, 2) as (one, two):
        await registered(one)
        body = {"email": "ADA@example.com", "password": WRONG}
        failed(
            *await together(
                log_in(one, "ada", WRONG),
                log_in(two, "ADA", WRONG),
                nobody(two).post("/api/auth/login", body),
            )
        )
        for http in (one, two):
            for name in ("ada", "Ada", "ada@example.com", "Ada@Example.com"):
                throttled(await log_in(http, name))
            body = {"email": "ada@example.com", "password": PASSWORD}
            throttled(*await together(*(nobody(http).post(path, body) for path in LOGIN)))


async def test_addresses_do_not_help_against_an_accounts_limit(stores: dict[str, Any]) -> None:
    async with instances(stores) as (http,):
        await registered(http)
        failed(
            *await together(*(log_in(http, "ada", WRONG, **at(f"192.0.2.{n}")) for n in range(3)))
        )
        throttled(await log_in(http, "ada", **at("192.0.2.99")))


async def test_somebody_unknown_is_throttled_like_an_account_under_all_ways_to_write_the_name(
    stores: dict[str, Any],
) -> None:
    """Or else it would show who is known: the names of an account count as one."""
    async with instances(stores) as (http,):
        for known in (True, False):
            name, kin = (
                ("bob", ["BOB", "b0b", "\uff42ob"])
                if known
                else (
                    "zoo",
                    ["ZOO", "z00", "\uff5aoo"],
                )
            )
            if known:
                await registered(http, name)
            failed(*await together(*(log_in(http, name, WRONG) for _ in range(3))))
            throttled(*await together(*(log_in(http, one, WRONG) for one in [name, *kin])))
            mail = f"{name}x@example.com"
            if known:
                await registered(http, "another", email=mail)
            failed(*await together(*(log_in(http, mail, WRONG) for _ in range(3))))
            others = [mail.upper(), "\uff42" + mail[1:] if known else "\uff5a" + mail[1:]]
            throttled(*await together(*(log_in(http, one, WRONG) for one in [mail, *others])))


async def test_successful_logins_do_not_count(stores: dict[str, Any]) -> None:
    async with instances(stores, login_failures_per_address=3) as (http,):
        await registered(http)
        for answer in [await log_in(http, "ada") for _ in range(8)]:
            answer.ok()
        failed(*await together(*(log_in(http, "ada", WRONG) for _ in range(2))))
        for answer in [await log_in(http, "ada") for _ in range(4)]:
            answer.ok()
        failed(await log_in(http, "ada", WRONG))
        throttled(await log_in(http, "ada"))


async def test_a_crowd_that_guesses_at_once_gets_no_more_tries(stores: dict[str, Any]) -> None:
    async with instances(stores, 2) as clients:
        await registered(clients[0])
        answers = await together(
            *(log_in(http, "ada", WRONG) for http in clients for _ in range(10))
        )
        codes = sorted(answer.status for answer in answers)
        assert codes == [401] * 3 + [429] * 17


async def test_registering_and_guests_are_not_held_up_by_failures(stores: dict[str, Any]) -> None:
    async with instances(stores, login_failures_per_address=2) as (http,):
        failed(*await together(*(log_in(http, "ada", WRONG) for _ in range(2))))
        throttled(await log_in(http, "bob", WRONG))
        for n, path in enumerate(REGISTER):
            made(await nobody(http).post(path, wish(f"ada{n}")))
        made(await nobody(http).post("/api/auth/guest", {"deviceId": "phone"}))


async def test_a_wrong_current_password_counts_as_a_failed_login(stores: dict[str, Any]) -> None:
    async with instances(stores) as (http,):
        token = (await registered(http))["token"]
        body = {"currentPassword": WRONG, "newPassword": "new-secret"}
        path = "/api/auth/password"
        failed(
            *await together(*(nobody(http).post(path, body, **carrying(token)) for _ in range(3)))
        )
        throttled(await nobody(http).post(path, body, **carrying(token)), await log_in(http, "ada"))
        # who is in stays in
        (await nobody(http).get("/api/auth/me", **carrying(token))).ok()


async def test_what_is_refused_for_its_form_is_no_failure(stores: dict[str, Any]) -> None:
    async with instances(stores, login_failures_per_address=1) as (http,):
        await registered(http)
        for _ in range(5):
            answer = await nobody(http).post("/auth/login", {"username": "ada", "password": 5})
            answer.problem(400, "invalid_type")
        (await log_in(http, "ada")).ok()


async def test_a_limit_of_0_is_none(stores: dict[str, Any]) -> None:
    async with instances(stores, login_failures_per_account=0) as (http,):
        await registered(http)
        failed(*await together(*(log_in(http, "ada", WRONG) for _ in range(15))))
        (await log_in(http, "ada")).ok()


# --- an address ---------------------------------------------------------------------------


async def from_addresses(stores: dict[str, Any], addresses: list[str], others: list[str]) -> None:
    """Failures at `addresses` are counted together, and not those at `others`."""
    limits = {"login_failures_per_account": 0, "login_failures_per_address": len(addresses)}
    async with instances(stores, 2, **limits) as (one, two):
        await registered(one)
        failed(
            *await together(
                *(
                    log_in((one, two)[n % 2], f"bob{n}", WRONG, **at(address))
                    for n, address in enumerate(addresses)
                )
            )
        )
        for address in addresses:
            throttled(await log_in(one, "ada", **at(address)))
            throttled(await log_in(two, "carol", **at(address)))
        for address in others:
            (await log_in(one, "ada", **at(address))).ok()


async def test_an_address_is_throttled_whoever_it_tries(stores: dict[str, Any]) -> None:
    await from_addresses(stores, ["192.0.2.1"] * 3, ["192.0.2.2", "2001:db8::1"])


async def test_an_ipv6_network_of_64_bits_is_one_address(stores: dict[str, Any]) -> None:
    addresses = ["2001:db8:0:1::1", "2001:DB8:0:1:ffff::2", "2001:db8::1:0:0:0:3"]
    await from_addresses(stores, addresses, ["2001:db8:0:2::1", "2001:db8:1:1::1", "192.0.2.1"])


async def test_ipv4_addresses_written_as_ipv6_are_ipv4_addresses(stores: dict[str, Any]) -> None:
    """Or else all who come over IPv4 to a socket of both kinds would be one address."""
    addresses = ["::ffff:192.0.2.1", "192.0.2.1", "::FFFF:c000:201"]
    await from_addresses(
        stores, addresses, ["::ffff:192.0.2.2", "192.0.2.3", "::ffff:198.51.100.1"]
    )


async def test_an_address_with_a_zone_is_an_address(stores: dict[str, Any]) -> None:
    await from_addresses(stores, ["fe80::1%eth0", "fe80::2%eth0"], ["2001:db8::1"])
