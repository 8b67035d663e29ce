"""``@cron`` and ``@every`` above an actor."""

from datetime import timedelta

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker

from postlude.errors import BadSchedule
from postlude.schedules import declare
from postlude.schedules.declare import cron, declarations, every


@pytest.fixture
def broker(monkeypatch):
    monkeypatch.setattr(declare, "_declared", {})
    broker = StubBroker(middleware=[])
    yield broker
    broker.close()


def make(broker, name="tidy"):
    @dramatiq.actor(broker=broker, actor_name=name)
    def actor(folder="all", depth=1):
        pass

    return actor


def test_a_decorator_returns_the_actor_and_notes_the_schedule(broker):
    actor = make(broker)

    assert cron("0 3 * * *", timezone="Europe/Berlin")(actor) is actor

    (declared,) = declarations()
    assert declared.id == "tidy"
    assert declared.actor is actor
    assert declared.trigger == '{"cron": "0 3 * * *"}'
    assert declared.timezone == "Europe/Berlin"
    assert declared.misfire == "latest"
    assert declared.misfire_window == timedelta(days=1)


def test_it_stands_above_the_actor_decorator(broker):
    @every("5m", first="10s")
    @dramatiq.actor(broker=broker)
    def refresh():
        pass

    (declared,) = declarations()
    assert declared.trigger == '{"every": "5m", "first": "10s"}'
    assert refresh.actor_name == "refresh"


def test_one_actor_may_have_several_schedules_with_arguments(broker):
    actor = make(broker)

    every("1h", args=["tmp"])(cron("0 3 * * *", id="nightly", kwargs={"depth": 3})(actor))

    assert {each.id: (each.args, dict(each.kwargs)) for each in declarations()} == {
        "nightly": ((), {"depth": 3}),
        "tidy": (("tmp",), {}),
    }


@pytest.mark.parametrize(
    ("decorator", "complaint"),
    [
        (cron("0 3 * *"), "'0 3 * *' has 4 fields"),
        (cron("0 3 * * *", timezone="Europe/Atlantis"), "no time zone 'Europe/Atlantis'"),
        (every("now and then"), "'now and then' is not a duration"),
        (every("5m", misfire="forget"), "no misfire policy 'forget'; known: skip, latest, all"),
        (every("5m", misfire_window="long"), "'long' is not a duration"),
        (every("5m", args=[1, 2, 3]), "too many positional arguments"),
        (every("5m", kwargs={"colour": "red"}), "unexpected keyword argument 'colour'"),
    ],
)
def test_a_bad_declaration_is_an_error_that_names_the_actor(broker, decorator, complaint):
    with pytest.raises(BadSchedule) as caught:
        decorator(make(broker))

    assert "actor 'tidy'" in str(caught.value)
    assert complaint in str(caught.value)
    assert declarations() == ()


def test_below_the_actor_decorator_it_says_where_it_belongs(broker):
    with pytest.raises(BadSchedule, match=r"above @dramatiq\.actor"):
        dramatiq.actor(broker=broker)(cron("0 3 * * *")(lambda: None))


def test_two_schedules_of_one_name_are_refused(broker):
    actor = make(broker)
    every("5m")(actor)

    with pytest.raises(BadSchedule, match="with id="):
        every("1h")(actor)
    with pytest.raises(BadSchedule, match="has a schedule 'tidy' already"):
        every("1h", id="tidy")(make(broker, "other"))


def test_a_module_that_is_imported_anew_replaces_its_declaration(broker):
    every("5m")(make(broker))
    other = StubBroker(middleware=[])

    every("6m")(make(other))

    assert [each.trigger for each in declarations()] == ['{"every": "6m"}']
    other.close()
