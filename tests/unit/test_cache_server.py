"""What POSTLUDE_CACHE_URL may say, and what is said about the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from actors.cache import server, store
from postlude.cli.settings import effective
from postlude.errors import SettingsError
from postlude.settings import load

ROOT = Path(__file__).parents[2]
SECRET = "hunter2"


def options(url):
    defaults = {
        "db": 0,
        "username": None,
        "password": None,
        "socket_timeout": server.TIMEOUT_S,
        "socket_connect_timeout": server.TIMEOUT_S,
    }
    return {k: v for k, v in server.parse(url).options.items() if defaults.get(k, ...) != v}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache", {"host": "cache", "port": 6379}),
        ("redis://cache:7000/3", {"host": "cache", "port": 7000, "db": 3}),
        ("redis://cache/1?db=2", {"host": "cache", "port": 6379, "db": 2}),
        ("redis://[::1]:7000", {"host": "::1", "port": 7000}),
        (
            "rediss://:p%40s%2Fs@cache",
            {"host": "cache", "port": 6379, "password": "p@s/s"},
        ),
        (
            "redis://ann%40b:x@cache",
            {"host": "cache", "port": 6379, "username": "ann@b", "password": "x"},
        ),
        ("unix:///run/redis.sock", {"path": "/run/redis.sock"}),
        ("unix:///a%20b?db=1&password=x", {"path": "/a b", "db": 1, "password": "x"}),
        ("unix://ann:x@/a?db=1", {"path": "/a", "db": 1, "username": "ann", "password": "x"}),
        (
            "redis://cache?socket_timeout=0.5&socket_connect_timeout=9",
            {"host": "cache", "port": 6379, "socket_timeout": 0.5, "socket_connect_timeout": 9},
        ),
    ],
)
def test_a_url_is_read_as_redis_py_reads_it(url, expected):
    assert options(url) == expected


def test_two_installations_share_a_database_by_prefixes():
    assert server.parse("redis://cache").prefix == "postlude:cache:"
    assert server.parse("redis://cache?prefix=shop:").prefix == "shop:"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (f"rediss://ann:{SECRET}@cache:7/3", "rediss://cache:7, database 3"),
        (f"redis://:{SECRET}@[::1]", "redis://[::1]:6379, database 0"),
        (f"unix:///a?password={SECRET}", "unix:///a, database 0"),
    ],
)
def test_what_is_shown_of_a_server_has_no_password(url, name):
    chosen = server.parse(url)

    assert chosen.name == name
    assert SECRET not in repr(chosen)
    assert SECRET not in repr(load(cache_url=url))
    assert SECRET not in effective(load(cache_url=url))["POSTLUDE_CACHE_URL"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (SECRET, "scheme"),
        (f"http://{SECRET}", "scheme"),
        (f"REDIS://{SECRET}", "scheme"),
        ("redis://", "host"),
        (f"redis://:{SECRET}@", "host"),
        (f"redis://:{SECRET}@cache:port", "host, port"),
        (f"redis://:{SECRET}@cache:0", "host, port"),
        (f"redis://:{SECRET}@cache:70000", "host, port"),
        (f"redis://:/{SECRET}@cache", "host, port"),
        (f"redis://:{SECRET}@cache..lan", "host, port"),
        (f"redis://:#{SECRET}@cache", "host, port"),
        (f"redis://ann:x@cache/0#{SECRET}", "%23"),
        (f"redis://ann:x@cache/ {SECRET}", "%20"),
        (f"redis://{SECRET}@cache", "user without a password"),
        (f"redis://cache/{SECRET}", "database is not a number"),
        ("redis://cache/-1", "database is not a number"),
        ("redis://cache/0/1", "database is not a number"),
        (f"redis://cache?db={SECRET}", "database is not a number"),
        (f"redis://cache?{SECRET}=1", "unknown option; known: db, prefix"),
        (f"redis://cache?{SECRET}", "options make no sense"),
        ("redis://cache?ssl_ca_certs=/", "unknown option"),
        ("redis://cache?prefix=", "prefix"),
        ("redis://cache?prefix=a%20b", "prefix"),
        (f"redis://cache?prefix={'x' * 101}", "prefix"),
        (f"redis://cache?socket_timeout={SECRET}", "seconds"),
        ("redis://cache?socket_timeout=0", "seconds"),
        ("redis://cache?socket_timeout=nan", "seconds"),
        ("redis://cache?socket_connect_timeout=61", "seconds"),
        (f"rediss://cache?ssl_ca_certs=/{SECRET}", "ssl_ca_certs names no file"),
        ("unix://", "absolute path"),
        ("unix:///", "absolute path"),
        (f"unix://{SECRET}/redis.sock", "absolute path"),
    ],
)
def test_nonsense_is_refused_by_the_name_of_the_setting_and_not_repeated(url, words):
    with pytest.raises(SettingsError, match=r"POSTLUDE_CACHE_URL: .*redis://.*unset") as caught:
        store.check(load(cache_url=url))

    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


def test_the_cache_in_the_ledger_needs_no_setting():
    store.check(load(cache_url=""))


def run(code, url, **variables):
    environment = os.environ | {"POSTLUDE_CACHE_URL": url} | variables
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "start",
    [
        "import actors",
        "from api import create_app",
        "import runpy; runpy.run_module('scheduler', run_name='__main__')",
    ],
)
def test_nonsense_stops_the_process(start, tmp_path):
    done = run(start, f"redis://a:{SECRET}@b:c", POSTLUDE_DATA_DIR=str(tmp_path))

    assert done.returncode != 0
    assert "POSTLUDE_CACHE_URL: " in done.stderr
    assert SECRET not in done.stderr


def test_without_the_library_the_process_stops_and_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['redis'] = None; import actors"
    done = run(code, f"redis://a:{SECRET}@b", POSTLUDE_DATA_DIR=str(tmp_path))

    assert done.returncode != 0
    assert "POSTLUDE_CACHE_URL: the library for Redis is not installed" in done.stderr
    assert "pip install" in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.parametrize(("url", "loaded"), [("", "False"), ("redis://nowhere.invalid", "True")])
def test_the_library_is_loaded_only_where_it_is_needed_and_nobody_connects(url, loaded, tmp_path):
    done = run(
        "import sys; from api import create_app; print('redis' in sys.modules)",
        url,
        POSTLUDE_DATA_DIR=str(tmp_path),
    )

    assert (done.stdout.strip(), done.returncode) == (loaded, 0), done.stderr
