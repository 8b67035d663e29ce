"""The shop's own tests: no worker, no ledger, no file but the book."""

from datetime import UTC, datetime

import pytest
import shop

from postlude.errors import BadArguments
from postlude.testing import inline

ORDER = {"number": 7, "email": "ada@example.com", "placed_at": "2026-11-24T09:00:00Z"}


def test_an_order_is_charged_and_packed_after_the_response(client, book):
    with inline() as tasks:
        response = client.post("/orders", json=ORDER)

    assert response.status_code == 202
    assert [(task.actor, task.error) for task in tasks.ran] == [
        ("water_the_plants", None),
        ("charge", None),
        ("pack", None),
    ]
    assert [task.id for task in tasks.ran[1:]] == list(response.json().values())
    assert tasks.ran[1].arguments["order"].placed_at == datetime(2026, 11, 24, 9, tzinfo=UTC)
    assert tasks.ran[1].result == "ada@example.com has paid"
    assert sorted(book()) == ["charged 7 of 2026", "ding", "packed 7", "packing 7", "watered"]


def test_a_refused_order_leaves_nothing_to_do(client):
    with inline() as tasks:
        assert client.post("/orders/refused", json=ORDER).status_code == 409

    assert tasks.ran == []


def test_a_closed_bank_is_an_error_that_a_worker_would_try_again(client, book):
    (shop.BOOKS / "bank is closed").touch()

    with inline(raise_errors=False) as tasks:
        client.post("/orders", json=ORDER)

    assert [type(task.error) for task in tasks.ran] == [type(None), shop.BankClosed, type(None)]
    assert shop.charge.options["max_retries"] == 10


def test_a_wrong_argument_is_refused_where_it_is_given():
    with pytest.raises(BadArguments, match="email"):
        shop.charge.send({"number": 7, "email": "nobody"})


def test_what_runs_at_night_runs_by_day_too(book):
    with inline() as tasks:
        shop.water_the_plants.send()
        shop.close_the_books.send("today")

    assert tasks.ran[1].result == "today: 1 lines"
