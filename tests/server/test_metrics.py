"""GET /metrics: a page that Prometheus reads, with names that dashboards rely on."""

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.clients_py import joined
from tests.rest import Api
from tests.serving import Served

pytestmark = pytest.mark.usefixtures("quiet")

NAMES = {
    "livetally_sockets": "gauge",
    "livetally_joined_sockets": "gauge",
    "livetally_sockets_closed": "counter",
    "livetally_events": "counter",
    "livetally_refusals": "counter",
    "livetally_coalesced_frames": "counter",
    "livetally_commit_seconds": "histogram",
    "livetally_commit_batch_changes": "histogram",
    "livetally_commit_overtaken": "counter",
    "livetally_commit_queue": "gauge",
    "livetally_redis_published": "counter",
    "livetally_redis_publish_lost": "counter",
    "livetally_redis_received": "counter",
    "livetally_redis_subscriptions": "gauge",
    "livetally_redis_echo_seconds": "histogram",
    "livetally_reconciled": "counter",
    "livetally_watches": "gauge",
    "livetally_presence_edges": "counter",
    "livetally_http_requests": "counter",
    "livetally_http_seconds": "histogram",
    "livetally_event_loop_lag_seconds": "gauge",
}


async def scrape(api: Api) -> dict[str, Metric]:
    answer = await api.get("/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return {family.name: family for family in text_string_to_metric_families(answer.raw.decode())}


def value(families: dict[str, Metric], sample: str, **labels: str) -> float:
    """The one sample with these labels; 0.0 when there is none."""
    found = [
        s.value
        for family in families.values()
        for s in family.samples
        if s.name == sample and labels.items() <= s.labels.items()
    ]
    return sum(found)


async def test_the_page_parses_and_has_the_documented_names(api: Api) -> None:
    families = await scrape(api)
    kinds = {name: families[name].type for name in NAMES if name in families}
    assert kinds == NAMES
    assert all(families[name].documentation for name in NAMES)
    assert {"process_resident_memory_bytes", "process_cpu_seconds"} <= families.keys()


async def test_requests_are_counted_by_route_and_never_by_path(api: Api) -> None:
    for user in ("ada", "bob", "carol", "x" * 200):
        await api.get(f"/api/users/{user}/stats")
    for n in range(5):
        await api.get(f"/nowhere/{n}")
    families = await scrape(api)
    routes = {s.labels["route"] for s in families["livetally_http_requests"].samples}
    assert routes <= {"/api/users/{userId}/stats", "none", "/metrics"}
    requests = "livetally_http_requests_total"
    stats = "/api/users/{userId}/stats"
    assert value(families, requests, route=stats, status="200") == 1
    assert value(families, requests, route=stats, status="403") == 2
    assert value(families, requests, route="none", status="404", method="GET") == 5
    assert value(families, "livetally_http_seconds_count", route=stats) == 4


async def test_sockets_and_changes_are_counted(served: Served, api: Api) -> None:
    async with joined(served.url) as phone, joined(served.url):
        await phone.call("user:clientUpdate", {"xp": 1})
        await phone.call("user:clientUpdate", {"gold": 1})
        await phone.call("presence:watch", {"userIds": ["bob", "carol"]})
        await api.patch(xp=1)
        families = await scrape(api)
        assert value(families, "livetally_sockets") == 2
        assert value(families, "livetally_joined_sockets") == 2
        assert value(families, "livetally_events_total", event="user:clientUpdate") == 2
        assert value(families, "livetally_refusals_total", code="unknown_field") == 1
        assert value(families, "livetally_commit_seconds_count") == 2
        assert value(families, "livetally_presence_edges_total", edge="on") == 1


async def test_watches_are_counted_once_per_socket(served: Served, api: Api) -> None:
    async with joined(served.url, "ada") as phone, joined(served.url, "bob") as tablet:
        await phone.call("presence:watch", {"userIds": ["carol", "dan"]})
        await tablet.call("presence:watch", {"userIds": ["carol"]})
        assert value(await scrape(api), "livetally_watches") == 3
        await phone.call("presence:unwatch", {"userIds": ["dan"]})
        assert value(await scrape(api), "livetally_watches") == 2


async def test_what_clients_make_up_never_becomes_a_label(served: Served, api: Api) -> None:
    secret = "made-up-by-a-client"
    async with joined(served.url, secret) as phone:
        await phone.call(f"event:{secret}", {secret: secret})
        await phone.call("user:clientUpdate", {secret: 1})
        await phone.call("presence:watch", {"userIds": [f"{secret}-friend"]})
    await api.get(f"/{secret}")
    assert secret.encode() not in (await api.get("/metrics")).raw
