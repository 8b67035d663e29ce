"""Settings: every bad value is refused by the name of its variable, and no secret is ever shown."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from postlude import settings as module
from postlude.errors import SettingsError
from postlude.settings import Settings, load

SECRET = "hunter2"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in os.environ:
        if name.startswith("POSTLUDE_") or name == "PORT":
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POSTLUDE_PORT", "eighty"),
        ("POSTLUDE_PORT", "65536"),
        ("POSTLUDE_PORT", "-1"),
        ("POSTLUDE_WORKERS", "0"),
        ("POSTLUDE_WORKERS", "2.5"),
        ("POSTLUDE_WORKER_THREADS", "1025"),
        ("POSTLUDE_WRITE_QUEUE", "0"),
        ("POSTLUDE_ARGUMENT_LIMIT", "12"),
        ("POSTLUDE_RESULT_LIMIT", "1KB"),
        ("POSTLUDE_BODY_LIMIT", "-5"),
        ("POSTLUDE_LOG_FORMAT", "xml"),
        ("POSTLUDE_LOG_LEVEL", "loud"),
        ("POSTLUDE_ALLOW_UNSAFE_SQLITE", "perhaps"),
        ("POSTLUDE_HEARTBEAT", "often"),
        ("POSTLUDE_HEARTBEAT", "0s"),
        ("POSTLUDE_HEARTBEAT", "-1s"),
        ("POSTLUDE_LEASE", "1s"),
        ("POSTLUDE_LEASE", "99999d"),
        ("POSTLUDE_WRITE_TIMEOUT", "5 seconds"),
        ("POSTLUDE_WRITE_TIMEOUT", "0"),
        ("POSTLUDE_SHUTDOWN_TIMEOUT", "soon"),
        ("POSTLUDE_KEEP_SUCCEEDED", "for ever"),
        ("POSTLUDE_KEEP_FAILED", "-1d"),
        ("POSTLUDE_DATABASE_URL", "mysql://localhost/x"),
        ("POSTLUDE_DATABASE_URL", "postlude.db"),
        ("POSTLUDE_DATABASE_URL", "sqlite:///"),
        ("POSTLUDE_DATABASE_URL", "sqlite:///:memory:"),
        ("POSTLUDE_BROKER_URL", "redis://localhost"),
        ("POSTLUDE_BROKER_URL", "localhost:5672"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(monkeypatch, name, value):
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError, match=name):
        load()


def test_all_bad_values_are_named_at_once(monkeypatch):
    for name, value in (("WORKERS", "0"), ("LOG_LEVEL", "loud"), ("HEARTBEAT", "often")):
        monkeypatch.setenv(f"POSTLUDE_{name}", value)

    with pytest.raises(SettingsError) as caught:
        load()

    assert [part.split(":")[0] for part in str(caught.value).split("; ")[:3]] == [
        "POSTLUDE_WORKERS",
        "POSTLUDE_LOG_LEVEL",
        "POSTLUDE_HEARTBEAT",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"mysql://me:{SECRET}@localhost/x"),
        ("BROKER_URL", f"redis://me:{SECRET}@localhost"),
        ("LOG_LEVEL", SECRET),
        ("WORKERS", SECRET),
    ],
)
def test_a_refusal_does_not_repeat_what_may_be_secret(monkeypatch, name, value):
    monkeypatch.setenv("POSTLUDE_MAIL_URL", f"smtp://me:{SECRET}@localhost")
    monkeypatch.setenv("POSTLUDE_API_KEYS", f"viewer:{SECRET}")
    monkeypatch.setenv(f"POSTLUDE_{name}", value)

    with pytest.raises(SettingsError) as caught:
        load()

    assert SECRET not in str(caught.value) + repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_keys_and_mail_servers_do_not_show_their_secrets():
    settings = load(mail_url=f"smtp://me:{SECRET}@localhost", api_keys=f"viewer:{SECRET},sender:b")

    assert SECRET not in repr(settings) + str(settings) + settings.model_dump_json()
    assert [key.get_secret_value() for key in settings.api_keys] == [f"viewer:{SECRET}", "sender:b"]


def test_addresses_with_passwords_are_not_part_of_what_a_debugger_shows():
    address = f"me:{SECRET}@localhost"
    settings = load(broker_url=f"amqp://{address}/", database_url=f"postgres://{address}/x")

    assert SECRET not in repr(settings) + str(settings)
    assert SECRET in settings.ledger_url + settings.broker_url


def test_port_is_read_too_and_our_own_variable_wins(monkeypatch):
    monkeypatch.setenv("PORT", "9000")
    alone = load().port
    monkeypatch.setenv("POSTLUDE_PORT", "9001")

    assert (alone, load().port, load(port=0).port) == (9000, 9001, 0)


def test_an_empty_variable_counts_as_unset(monkeypatch):
    monkeypatch.setenv("POSTLUDE_PORT", "")
    monkeypatch.setenv("POSTLUDE_LEASE", "")

    assert (load().port, load().lease) == (8000, timedelta(seconds=5))


@pytest.mark.parametrize("prefix", ["postgres://", "postgresql://", "postgresql+psycopg://"])
def test_every_spelling_of_postgresql_is_understood(prefix):
    assert load(database_url=f"{prefix}me@host/db").ledger_url == "postgresql+psycopg://me@host/db"


def test_the_ledger_lies_in_the_data_folder_which_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTLUDE_DATA_DIR", "some/../where")

    settings = load()

    assert settings.data_dir == tmp_path / "where"
    assert settings.ledger_url == f"sqlite:///{tmp_path}/where/postlude.db"
    assert load(data_dir=Path("~")).data_dir == Path.home()


def test_a_database_of_ones_own_wins_over_the_folder():
    assert load(database_url="sqlite:////x/y.db").ledger_url == "sqlite:////x/y.db"


def test_all_processes_mean_the_same_file_wherever_they_were_started(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    assert load(database_url="sqlite:///x y.db").ledger_url == f"sqlite:///{tmp_path}/x%20y.db"


def test_lists_are_separated_by_commas(monkeypatch):
    monkeypatch.setenv("POSTLUDE_ACTORS", " billing.actors, ,shop ")

    assert load().actors == ("billing.actors", "shop")


def test_retention_is_a_duration_or_never(monkeypatch):
    monkeypatch.setenv("POSTLUDE_KEEP_SUCCEEDED", "never")
    monkeypatch.setenv("POSTLUDE_KEEP_FAILED", "30d")

    settings = load()

    assert (settings.keep_succeeded, settings.keep_failed) == ("never", timedelta(days=30))
    assert settings.keep_cancelled == timedelta(days=7)


def test_settings_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        load().port = 1


def test_an_override_that_does_not_exist_is_refused():
    with pytest.raises(SettingsError, match="POSTLUDE_HARTBEAT"):
        load(hartbeat="1s")


def test_settings_are_read_once(monkeypatch):
    module.settings.cache_clear()
    first = module.settings()
    monkeypatch.setenv("POSTLUDE_PORT", "1234")

    assert module.settings() is first
    module.settings.cache_clear()


def test_every_setting_says_what_it_means():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
