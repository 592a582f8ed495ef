"""Who is answered."""

import asyncio
import socket

import httpx
import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from edgekeeper.server import guard
from edgekeeper.server.guard import Guard

HERE = "http://127.0.0.1:8780"


def ask(
    path: str = "/api/v1/jobs",
    *,
    method: str = "GET",
    token: str | None = None,
    names: tuple[str, ...] | None = ("127.0.0.1", "localhost", "[::1]"),
    **headers: str,
) -> httpx.Response:
    guarded = Guard(app=PlainTextResponse("answered"), names=names, token=token)

    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(app=guarded)
        async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.request(method, path, headers=sent)

    return asyncio.run(request())


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8780", "localhost:1", "localhost", "[::1]:8780", "[::1]"]
)
def test_names_of_this_machine_are_answered(host: str) -> None:
    assert ask(host=host).text == "answered"


@pytest.mark.parametrize(
    "host",
    ["evil.example:8780", "evil.example", "127.0.0.1.evil.example:80", "127.0.0.1@evil", "", ":80"],
)
def test_a_name_that_was_bound_to_this_machine_is_not_answered(host: str) -> None:
    # DNS rebinding: a page of evil.example whose name now resolves to 127.0.0.1
    assert ask(host=host).status_code == 421
    assert ask(host=host, origin=f"http://{host}").status_code == 421


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "https://127.0.0.1:8780"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"},
    ],
)
def test_another_page_can_neither_read_nor_post(method: str, headers: dict[str, str]) -> None:
    assert ask(method=method, **headers).status_code == 403


def test_our_page_and_programs_are_answered() -> None:
    own = {"origin": HERE, "sec_fetch_site": "same-origin"}
    for headers in ({}, own, {"sec_fetch_site": "none"}):
        assert ask(method="POST", **headers).text == "answered"
    # A link on another page may open the page, which does nothing by itself.
    assert ask("/", sec_fetch_site="cross-site", sec_fetch_mode="navigate").text == "answered"


def test_with_a_token_only_who_shows_it_is_answered() -> None:
    with_token = {"token": "s3cret", "names": None}
    for headers in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Basic s3cret"},
        {"authorization": "Bearer "},
        {"cookie": "edgekeeper=wrong"},
        {"cookie": "other=s3cret"},
    ):
        assert ask(**with_token, **headers).status_code == 401, headers
    assert ask("/api/v1/jobs?token=s3cret", **with_token).status_code == 401
    assert ask("/?token=wrong", **with_token).status_code == 401
    for headers in ({"authorization": "bearer s3cret"}, {"cookie": "a=b; edgekeeper=s3cret"}):
        assert ask(**with_token, **headers).text == "answered"
    answer = ask("/?token=s3cret", **with_token)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "edgekeeper=s3cret" in cookie and "httponly" in cookie and "samesite=strict" in cookie


def test_a_token_does_not_open_the_server_to_other_pages() -> None:
    answer = ask(token="t", names=None, cookie="edgekeeper=t", origin="http://evil.example")
    assert answer.status_code == 403


def test_every_answer_says_what_a_browser_may_do_with_it() -> None:
    for answer in (ask(), ask(host="evil.example")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "http" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers


def test_a_connection_that_asks_nothing_whole_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "PATIENCE_WITH_HEADERS", 0.2)

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(1)  # longer than the patience with headers
        await PlainTextResponse("answered")(scope, receive, send)

    async def ends() -> list[bytes]:
        config = uvicorn.Config(
            answered, http=guard.ImpatientProtocol, lifespan="off", log_level="warning"
        )
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            port = listening.getsockname()[1]
            got = []
            whole = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
            for sent in (b"", b"GET / HTTP/1.1\r\nHost:", whole, whole + whole[:9]):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(sent)
                got.append(await asyncio.wait_for(reader.read(), 20))
                writer.close()
            server.should_exit = True
            await serving
        return got

    *silent, once, half = asyncio.run(ends())
    assert silent == [b"", b""]
    assert once.endswith(b"answered") and half.endswith(b"answered")


def test_a_page_behind_a_proxy_with_tls_may_post() -> None:
    own = {"origin": HERE.replace("http:", "https:"), "sec_fetch_site": "same-origin"}
    assert ask(method="POST", names=None, **own).text == "answered"
    assert ask(method="POST", names=None, origin="https://evil.example").status_code == 403
