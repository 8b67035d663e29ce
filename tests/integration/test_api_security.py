"""Strangers are kept out: only this machine is served, or whoever shows a key of the right role."""

import asyncio

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from api import problems
from api.edge import Edge
from api.security import SENDER_ROUTES, Keys, Role, Strangers, is_loopback, required_role
from postlude.errors import SettingsError

VIEWER, SENDER, OPERATOR = "viewer-secret-0000", "sender-secret-0000", "öperator-secret-00"
KEYS = (f"viewer:{VIEWER}", f"sender:{SENDER}", f"operator:{OPERATOR}")


def small_app(*keys):
    app = FastAPI(redirect_slashes=False)
    app.add_middleware(Strangers, keys=Keys([SecretStr(key) for key in keys]))
    app.add_middleware(Edge)
    problems.install(app)

    @app.get("/thing")
    @app.get("/livez")
    @app.post("/thing")
    @app.post("/send-notification/{email}")
    @app.post("/v1/actors/{name}/tasks")
    def thing():
        return "served"

    return app


def client_of(app, *, peer="127.0.0.1", host="127.0.0.1:8000"):
    return TestClient(app, base_url=f"http://{host}", client=(peer, 4711))


def refused(response, code):
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == code
    return response.json()


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST:80", "[::1]:8000", "127.0.0.2"]
)
def test_this_machine_is_served_without_keys(peer, host):
    response = client_of(small_app(), peer=peer, host=host).get("/thing")

    assert response.json() == "served"


@pytest.mark.parametrize(
    "peer", ["10.0.0.7", "192.168.1.2", "::ffff:10.0.0.7", "fe80::1", "testclient"]
)
def test_other_machines_are_told_how_to_set_keys(peer):
    response = client_of(small_app(), peer=peer).get("/thing")

    assert response.status_code == 403
    assert "POSTLUDE_API_KEYS" in refused(response, "stranger")["detail"]


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.localhost",
        "0.0.0.0",
        "2130706433",
        "127.1",
        "[::2]",
        "127.0.0.1@evil.example",
        "127.0.0.1:80:80",
        "",
    ],
)
def test_a_name_that_somebody_pointed_at_this_machine_is_refused(host):
    response = client_of(small_app()).get("/thing", headers={"host": host})

    assert response.status_code == 403
    refused(response, "stranger")


@pytest.mark.parametrize("headers", [[], [(b"host", b"localhost"), (b"host", b"evil.example")]])
def test_a_missing_or_a_second_foreign_host_is_refused(headers):
    assert call(small_app(), client=("127.0.0.1", 1), headers=headers) == 403


def test_a_peer_without_an_address_is_a_stranger():
    assert call(small_app(), client=None, headers=[(b"host", b"localhost")]) == 403


def test_a_peer_without_an_address_may_show_a_key():
    headers = [(b"host", b"evil.example"), (b"x-api-key", VIEWER.encode())]

    assert call(small_app(*KEYS), client=None, headers=headers) == 200


@pytest.mark.parametrize(
    "header",
    [
        "Forwarded",
        "Via",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded",
        "X-Real-IP",
        "CF-Connecting-IP",
        "True-Client-IP",
    ],
)
def test_a_proxy_on_this_machine_does_not_open_it_to_the_world(header):
    response = client_of(small_app()).get("/thing", headers={header: "127.0.0.1"})

    assert response.status_code == 403
    assert header.lower() in refused(response, "stranger")["detail"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://127.0.0.1.evil.example"}, 403),
        ({"origin": "http://localhost@evil.example"}, 403),
        ({"origin": "http://[::1"}, 403),
        ({"origin": "file://localhost"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:3000"}, 200),
        ({"origin": "http://[::1]:8000"}, 200),
    ],
)
def test_pages_of_other_sites_cannot_use_a_browser_on_this_machine(headers, status):
    response = client_of(small_app()).post("/thing", headers=headers)

    assert response.status_code == status


def test_livez_is_for_this_machine_only_while_no_keys_are_set():
    assert client_of(small_app(), peer="10.0.0.7").get("/livez").status_code == 403
    assert client_of(small_app(*KEYS), peer="10.0.0.7").get("/livez").status_code == 200


@pytest.mark.parametrize(
    ("secret", "method", "path", "status"),
    [
        (VIEWER, "GET", "/thing", 200),
        (VIEWER, "HEAD", "/thing", 200),
        (VIEWER, "OPTIONS", "/thing", 204),
        (VIEWER, "GET", "/nothing", 404),
        (VIEWER, "POST", "/thing", 403),
        (VIEWER, "POST", "/send-notification/ada@example.com", 403),
        (SENDER, "GET", "/thing", 200),
        (SENDER, "POST", "/send-notification/ada@example.com", 200),
        (SENDER, "POST", "/v1/actors/tidy/tasks", 200),
        (SENDER, "POST", "/v1/actors/tidy/tasks/", 403),
        (SENDER, "POST", "/thing", 403),
        (SENDER, "DELETE", "/v1/actors/tidy/tasks", 403),
        (OPERATOR, "POST", "/thing", 200),
        (OPERATOR, "POST", "/v1/actors/tidy/tasks", 200),
        (OPERATOR, "DELETE", "/thing", 405),
    ],
)
def test_a_key_opens_what_its_role_may_do_from_anywhere(secret, method, path, status):
    client = client_of(small_app(*KEYS), peer="10.0.0.7", host="postlude.example")

    response = client.request(method, path, headers={"authorization": b"Bearer " + secret.encode()})

    assert response.status_code == status
    if status == 403:
        assert "role" in refused(response, "forbidden")["detail"]


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": VIEWER},
        {"authorization": f"bearer {VIEWER}"},
        {"authorization": f"Bearer  {VIEWER} "},
        {"authorization": "Basic dXNlcjpwYXNz", "x-api-key": VIEWER},
    ],
)
def test_a_key_may_be_shown_in_two_ways(headers):
    assert client_of(small_app(*KEYS)).get("/thing", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-api-key": ""},
        {"x-api-key": VIEWER + "x"},
        {"x-api-key": f"viewer:{VIEWER}"},
        {"authorization": VIEWER},
        {"authorization": f"Basic {VIEWER}"},
        {"authorization": "Bearer"},
        {"authorization": b"Bearer \xff\xfe"},
        {"authorization": "Bearer wrong-wrong-wrong-wrong", "x-api-key": VIEWER},
    ],
)
def test_without_a_known_key_the_answer_is_401_even_on_this_machine(headers):
    response = client_of(small_app(*KEYS)).get("/thing", headers=headers)

    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    refused(response, "unauthorized")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("hunter2-hunter2-hunter2", "entry 2"),
        ("admin:hunter2-hunter2-hunter2", "entry 2"),
        ("operator:hunter2", "at least 16"),
        ("operator:", "entry 2"),
        (f"operator:{VIEWER}", "repeats"),
    ],
)
def test_a_key_that_makes_no_sense_is_named_without_its_secret(entry, said):
    with pytest.raises(SettingsError) as caught:
        Keys([SecretStr(KEYS[0]), SecretStr(entry)])

    assert "POSTLUDE_API_KEYS" in str(caught.value)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert VIEWER not in str(caught.value)


def test_a_websocket_is_closed_before_it_is_accepted():
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(small_app()({"type": "websocket", "path": "/", "headers": []}, None, send))

    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_a_sender_may_only_post_to_the_routes_that_are_named():
    assert {required_role("POST", path) for path in SENDER_ROUTES} == {Role.SENDER}
    assert required_role("POST", "/v1/tasks/retry") is Role.OPERATOR
    assert required_role("PUT", SENDER_ROUTES[0]) is Role.OPERATOR


@pytest.mark.parametrize("name", ["", "::", "0.0.0.0", "127.0.0.1 ", "127.0.0.1\n", "localhost\0"])
def test_odd_names_are_not_this_machine(name):
    assert not is_loopback(name)


def call(app, *, client, headers):
    """Call ``app`` as a server would, where no HTTP client would say such a thing."""
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/thing",
        "raw_path": b"/thing",
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": client,
        "server": ("127.0.0.1", 8000),
    }
    statuses = []

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        statuses.append(message.get("status"))

    asyncio.run(app(scope, receive, send))
    return statuses[0]
