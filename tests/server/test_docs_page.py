"""/docs: a page of our own files only, with a fixed table of what it consists of."""

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from server.docs import FILES, WEB
from tests.rest import Api, http_request, raw_http
from tests.serving import Served, serving

pytestmark = pytest.mark.usefixtures("quiet")

ROOT = Path(__file__).parents[2]
VENDORED = WEB / "vendor/swagger-ui"
PARTS = ["/docs/docs.js", "/docs/docs.css", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"]
TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}


@pytest.fixture
def nobody(http: aiohttp.ClientSession) -> Api:
    return Api(http, None)


def test_the_vendored_files_are_the_published_ones() -> None:
    readme = (VENDORED / "README.md").read_text()
    listed = dict(re.findall(r"^\| `([^`]+)` \| `([0-9a-f]{64})` \|$", readme, re.MULTILINE))
    sums = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in VENDORED.iterdir()
        if file.name != "README.md"
    }
    assert sums == listed
    assert sums.keys() == {
        "swagger-ui-bundle.js",
        "swagger-ui-bundle.js.LICENSE.txt",
        "swagger-ui.css",
        "LICENSE",
        "NOTICE",
    }


def test_the_wheel_has_the_page() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert WEB.name in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert WEB.parent == ROOT


async def test_the_page_names_only_our_own_files_and_all_of_them(nobody: Api) -> None:
    page = await nobody.get("/docs")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    named = re.findall(r'(?:src|href)="([^"]*)"', page.raw.decode())
    assert {f"/{name}" for name in named} == {*PARTS, "/openapi.json", "/data:,"}
    for path in ("/openapi.json", *PARTS):
        assert (await nobody.get(path)).status == 200


async def test_nothing_on_the_page_is_inline_or_from_elsewhere(nobody: Api) -> None:
    page = (await nobody.get("/docs")).raw.decode()
    assert re.search(r"<style|style=| on\w+=|://", page) is None
    assert re.findall(r"<script[^>]*>([^<]*)</script>", page) == ["", ""]
    assert "://" not in (await nobody.get("/docs/docs.js")).raw.decode()
    assert "url(" not in (await nobody.get("/docs/docs.css")).raw.decode()


async def test_swaggers_outside_validator_is_off(nobody: Api) -> None:
    assert b"validatorUrl: null" in (await nobody.get("/docs/docs.js")).raw


@pytest.mark.parametrize("path", ["/docs", *PARTS])
async def test_the_browser_is_told_to_trust_nothing_else(nobody: Api, path: str) -> None:
    headers = (await nobody.get(path)).headers
    rules = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
    assert rules == {
        "default-src": "'none'",
        "script-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "style-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("path", PARTS)
async def test_a_part_comes_whole_and_with_its_type(nobody: Api, path: str) -> None:
    name = path.rpartition("/")[2]
    answer = await nobody.get(path)
    assert answer.headers["Content-Type"] == TYPES[Path(name).suffix]
    assert answer.raw == (WEB / FILES[name][0]).read_bytes()


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", *PARTS])
async def test_who_has_it_is_not_sent_it_again(nobody: Api, path: str) -> None:
    first = await nobody.get(path)
    assert first.headers["Cache-Control"] == "public, max-age=300"
    etag = first.headers["ETag"]
    for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = await nobody.get(path, headers={"If-None-Match": given})
        assert (again.status, again.raw, again.headers["ETag"]) == (304, b"", etag)
    changed = await nobody.get(path, headers={"If-None-Match": '"other"'})
    assert changed.raw == first.raw


@pytest.mark.parametrize(
    "target",
    [
        "/docs/",
        "/docs/index.html",
        "/docs/README.md",
        "/docs/LICENSE",
        "/docs/DOCS.JS",
        "/docs/docs.js/",
        "/docs/docs.js%00",
        "/docs/./docs.js",
        "/docs//docs.js",
        "/docs/../pyproject.toml",
        "/docs/%2e%2e",
        "/docs/%2e%2e%2f%2e%2e%2fpyproject.toml",
        "/docs/..%2fvendor%2fswagger-ui%2fLICENSE",
        "/docs/..%5c..%5cpyproject.toml",
        "/docs/%252e%252e%252fpyproject.toml",
        "/docs/%2fetc%2fpasswd",
        "/docs/docs%2fdocs.js",
        "/docs/vendor/swagger-ui/LICENSE",
    ],
)
async def test_there_is_nothing_besides(served: Served, target: str) -> None:
    answer = await raw_http(served.url, http_request(f"GET {target}"))
    answer.problem(404, "not_found")


async def test_it_needs_no_token_and_is_not_counted(stores: dict[str, Any]) -> None:
    async with (
        serving(**stores, rate_limit_per_minute=1) as server,
        aiohttp.ClientSession(server.url) as session,
    ):
        for _ in range(3):
            for path in ("/docs", "/docs/docs.js", "/openapi.json"):
                assert (await Api(session, None).get(path)).status == 200
