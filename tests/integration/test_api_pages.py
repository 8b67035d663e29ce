"""What people see first: the pages, and the OpenAPI document behind them."""

import json
import re
from html.parser import HTMLParser

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from api import create_app
from api.security import SENDER_ROUTES
from postlude.settings import load

BASE = "http://127.0.0.1:8123"


def client_of(base=BASE, **chosen):
    settings = load(**chosen)
    return TestClient(create_app(settings), base_url=base, client=("127.0.0.1", 4711))


@pytest.fixture(scope="module")
def document():
    return client_of().get("/openapi.json").json()


def operations(document):
    for path, by_method in document["paths"].items():
        for method, operation in by_method.items():
            yield method, path, operation


# Pages


class Links(HTMLParser):
    """Collects what a browser would load or follow, and whether every tag is closed."""

    VOID = frozenset({"meta", "link", "br"})

    def __init__(self, html):
        super().__init__()
        self.loaded, self.followed, self.open = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.loaded += [
            given[name] for name in ("src", "srcset", "data", "action") if name in given
        ]
        if "href" in given:
            (self.followed if tag == "a" else self.loaded).append(given["href"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_loads_nothing_from_elsewhere(path):
    response = client_of().get(path)

    assert response.headers["content-type"].startswith("text/html")
    links = Links(response.text)
    assert links.loaded == ["data:,"]
    assert links.open == []
    assert not re.search(r"@import|url\(|<script", response.text)
    assert "//" not in re.sub(rf"{BASE}|http://127\.0\.0\.1:8000", "", response.text)
    assert response.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_every_link_of_a_page_leads_somewhere(path):
    client = client_of()

    for link in Links(client.get(path).text).followed:
        assert client.options(f"/{link.lstrip('./')}").status_code == 204, link


def test_the_examples_have_the_address_that_the_page_was_asked_under():
    assert f"'{BASE}/send-notification/" in client_of().get("/").text
    assert "'http://localhost/send-notification/" in client_of("http://localhost").get("/").text


def test_an_address_that_a_shell_would_not_take_is_not_shown():
    client = client_of(api_keys=(SecretStr("viewer:0123456789abcdef"),), host="10.0.0.1", port=81)
    headers = {"host": "x'; rm -rf ~ #<script>", "x-api-key": "0123456789abcdef"}

    html = client.get("/", headers=headers).text

    assert "rm -rf" not in html
    assert "http://10.0.0.1:81/send-notification/" in html


def test_the_list_of_routes_shows_each_with_an_example(document):
    html = client_of().get("/docs").text

    for method, path, operation in operations(document):
        assert f"<span class='method'>{method.upper()}</span>{path}</h3>" in html
        assert f"id='{operation['operationId']}'" in html
    assert "ada@example.com?message=Your+order" in html
    assert "-d &#x27;{&quot;args&quot;: {&quot;email&quot;" in html


# The document


def test_the_document_is_openapi_3_1_and_every_reference_resolves(document):
    assert document["openapi"].startswith("3.1")
    text = json.dumps(document)
    schemas = document["components"]["schemas"]
    assert set(re.findall(r"#/components/schemas/([\w-]+)", text)) == schemas.keys()
    assert set(re.findall(r'"\$ref": "(?!#/components/schemas/)([^"]+)', text)) == set()


def test_operation_ids_are_stable(document):
    assert {o["operationId"]: f"{m.upper()} {p}" for m, p, o in operations(document)} == {
        "send_notification": "POST /send-notification/{email}",
        "upload_file": "POST /files",
        "get_file": "GET /files/{id}",
        "record_events": "POST /events",
        "get_summary": "GET /analytics/summary",
        "get_cached": "GET /cache/{key}",
        "refresh_cached": "POST /cache/{key}/refresh",
        "list_tasks": "GET /v1/tasks",
        "get_task": "GET /v1/tasks/{task_id}",
        "cancel_task": "POST /v1/tasks/{task_id}/cancel",
        "retry_task": "POST /v1/tasks/{task_id}/retry",
        "list_actors": "GET /v1/actors",
        "get_actor": "GET /v1/actors/{name}",
        "add_task": "POST /v1/actors/{name}/tasks",
        "get_liveness": "GET /livez",
        "get_readiness": "GET /readyz",
    }


def test_every_error_of_every_route_is_described_as_a_problem(document):
    assert "HTTPValidationError" not in json.dumps(document)
    for _, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if status < "400":
                continue  # a success, or a 304 without a body
            assert list(response["content"]) == ["application/problem+json"], (path, status)
            assert response["description"].startswith("`"), (path, status)
        assert {"403", "500"} <= operation["responses"].keys()


def test_every_success_has_a_schema_with_an_example(document):
    for _, path, operation in operations(document):
        [status] = [s for s in operation["responses"] if s < "300"]
        content = operation["responses"][status]["content"]["application/json"]
        name = content["schema"]["$ref"].rpartition("/")[2]
        assert document["components"]["schemas"][name]["examples"], path
        assert operation["responses"][status]["description"] != "Successful Response", path


def test_every_parameter_and_body_is_described_with_an_example(document):
    optional = {"actor", "queue", "cursor", "if-none-match"}
    for _, path, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            assert parameter["description"], (path, parameter)
            assert parameter["name"] in optional or parameter["schema"]["examples"], parameter
        if "requestBody" in operation:
            [content] = operation["requestBody"]["content"].values()
            assert content["examples"], path


def test_examples_fit_their_schemas(document):
    from api import resources  # the models whose examples these are
    from api.routes.v1.actors import NewTask

    models = {cls.__name__: cls for cls in vars(resources).values() if isinstance(cls, type)}
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", ()) if name in models else ():
            models[name].model_validate(example)
    body = document["paths"]["/v1/actors/{name}/tasks"]["post"]["requestBody"]
    for example in body["content"]["application/json"]["examples"].values():
        NewTask.model_validate(example["value"])


def test_roles_and_keys_are_described(document):
    roles = {f"{m.upper()} {p}": o.get("x-postlude-role") for m, p, o in operations(document)}

    assert {key for key, role in roles.items() if role == "sender"} == {
        f"POST {path}" for path in SENDER_ROUTES
    }
    assert roles["GET /v1/tasks"] == "viewer"
    assert roles["GET /livez"] is None
    assert document["paths"]["/livez"]["get"]["security"] == []
    assert document["paths"]["/v1/tasks"]["get"]["security"] == [{"bearer": []}, {"key": []}, {}]
    assert document["components"]["securitySchemes"].keys() == {"bearer", "key"}


def test_keys_guard_the_pages_too():
    client = client_of(api_keys=(SecretStr("viewer:0123456789abcdef"),))

    for path in ("/", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"x-api-key": "0123456789abcdef"}).status_code == 200


def test_where_there_are_keys_the_description_leaves_no_way_without():
    client = client_of(api_keys=(SecretStr("viewer:0123456789abcdef"),))
    paths = client.get("/openapi.json", headers={"x-api-key": "0123456789abcdef"}).json()["paths"]

    assert paths["/v1/tasks"]["get"]["security"] == [{"bearer": []}, {"key": []}]
    assert paths["/livez"]["get"]["security"] == []
