"""The cache in a Redis that is away, slow, full, someone else's, or not to be trusted with a reply."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from actors.cache.contract import Entry, Verdict
from actors.cache.errors import CacheUnavailable
from actors.cache.in_redis import InRedis
from actors.cache.server import parse

SECOND = timedelta(seconds=1)
START = datetime(2026, 11, 24, 9, tzinfo=UTC)
SECRET = "hunter2"
TIMEOUT_S = 1.0
HASH = "postlude:cache:answer"


def connect(url, **options):
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return InRedis(parse(f"{url}?{query}" if query else url))


def take(cache, task="one", at=START, *, wanted=None):
    return cache.take("answer", task=task, wanted=wanted, now=at, lease=10 * SECOND)


def keep(cache, value='"value"', at=START):
    return cache.keep("answer", value, task="one", since=at)


@pytest.fixture
def cache(redis_server):
    return connect(redis_server.url)


# Which Redis


def test_an_entry_is_one_hash_that_does_not_expire(cache, redis_server):
    take(cache)
    keep(cache)

    assert redis_server.client.keys() == [HASH]
    assert redis_server.client.hgetall(HASH) == {"value": '"value"', "as_of": "1795510800000000"}
    assert redis_server.client.ttl(HASH) == -1


@pytest.mark.parametrize("other", ["/1", "/0?prefix=shop:"])
def test_two_installations_that_share_a_redis_do_not_share_values(cache, redis_server, other):
    shop = connect(f"redis://127.0.0.1:{redis_server.port}{other}")
    take(cache)
    keep(cache)

    assert shop.get("answer", START) == Entry()
    assert take(shop, "two") is Verdict.LOAD


def test_a_unix_socket_leads_there_as_well(cache, redis_server):
    take(connect(f"unix://{redis_server.socket}"))

    assert cache.get("answer", START).loading


def test_tls_is_spoken_with_a_certificate_that_is_trusted_only(own_redis, tmp_path):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("TLS is tested with a certificate that the openssl command makes; install it")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=cache"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", key, "-out", certificate]
    subprocess.run([openssl, *make, *names, *files], check=True, capture_output=True)
    port = free_port()
    ours = ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-auth-clients", "no"]
    own_redis("--tls-port", str(port), *ours, "--tls-ca-cert-file", certificate)
    url = f"rediss://127.0.0.1:{port}"

    assert take(connect(url, ssl_ca_certs=certificate)) is Verdict.LOAD
    with pytest.raises(CacheUnavailable, match=r"certificate.*verify failed.*POSTLUDE_CACHE_URL"):
        connect(url).get("answer", START)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


# Refusals


def operations(cache):
    """Every operation that writes."""
    at = {"task": "one", "since": START}
    return {
        "take": lambda: take(cache),
        "keep": lambda: cache.keep("answer", '"new"', **at),
        "fail": lambda: cache.fail("answer", "no", **at, now=START),
        "ask": lambda: cache.ask("answer", now=START, pause=SECOND),
    }


def test_a_redis_that_is_not_there_is_named_with_what_to_do():
    cache = connect(f"redis://ann:{SECRET}@127.0.0.1:{free_port()}/3")

    for operate in [lambda: cache.get("answer", START), *operations(cache).values()]:
        with pytest.raises(
            CacheUnavailable, match=r"redis://127.*database 3: .*refused; bring"
        ) as e:
            operate()
        assert SECRET not in str(e.value)
        # The frames of the library hold the password.
        assert (e.value.__cause__, e.value.__suppress_context__) == (None, True)


@pytest.mark.parametrize("operation", ["get", "take"])
def test_a_redis_that_does_not_answer_costs_its_timeout_once(redis_server, operation):
    cache = connect(redis_server.url, socket_timeout=TIMEOUT_S)
    take(cache)
    operate = {"get": lambda: cache.get("answer", START), **operations(cache)}[operation]
    redis_server.pause()

    for _ in range(2):  # over a connection that is there, and over a new one
        began = time.monotonic()
        with pytest.raises(CacheUnavailable, match=r"Timeout.*; bring it back"):
            operate()
        assert TIMEOUT_S <= time.monotonic() - began < 2 * TIMEOUT_S

    redis_server.resume()
    assert isinstance(cache.get("answer", START), Entry)


def test_a_redis_that_takes_no_connection_costs_its_timeout_once():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        cache = connect(f"redis://127.0.0.1:{port}", socket_connect_timeout=TIMEOUT_S)
        began = time.monotonic()
        with pytest.raises(CacheUnavailable, match="Timeout connecting to server"):
            cache.get("answer", START)
        assert TIMEOUT_S <= time.monotonic() - began < 2 * TIMEOUT_S
        for each in waiting:
            each.close()


def test_a_full_redis_is_read_but_changes_nothing(own_redis):
    server = own_redis()
    cache = connect(server.url)
    take(cache)
    keep(cache, '"old"')
    cache.take("answer", task="one", wanted=None, now=START + SECOND, lease=SECOND)
    cache.take(
        "answer", task="two", wanted=START + 2 * SECOND, now=START + 2 * SECOND, lease=SECOND
    )
    before = server.client.hgetall(HASH)
    assert before["wanted"]
    server.client.config_set("maxmemory", 1)

    at = {"task": "one", "since": START + SECOND}
    for refused in (
        lambda: cache.take("answer", task="one", wanted=None, now=START + 3 * SECOND, lease=SECOND),
        lambda: cache.keep("answer", '"new"', **at),
        lambda: cache.fail("answer", "no", **at, now=START),
        lambda: cache.ask("answer", now=START, pause=SECOND),
    ):
        with pytest.raises(CacheUnavailable, match=r"maxmemory.*more memory"):
            refused()

    assert cache.get("answer", START).value == "old"
    assert server.client.hgetall(HASH) == before


def test_a_replica_is_read_but_not_written(redis_server, own_redis, cache):
    take(cache)
    keep(cache)
    replica = own_redis("--replicaof", f"127.0.0.1 {redis_server.port}")
    read = connect(replica.url)
    until(lambda: read.get("answer", START).value == "value")

    with pytest.raises(CacheUnavailable, match=r"name the primary in POSTLUDE_CACHE_URL"):
        read.ask("answer", now=START, pause=SECOND)


def until(look):
    deadline = time.monotonic() + 30
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("login", [f":{SECRET}@", f"ann:{SECRET}@", ""])
def test_a_wrong_password_is_said_and_not_shown(own_redis, login):
    server = own_redis("--requirepass", "right")
    cache = connect(f"redis://{login}127.0.0.1:{server.port}")

    with pytest.raises(CacheUnavailable, match="correct the user and password") as caught:
        cache.get("answer", START)

    assert SECRET not in str(caught.value)


def test_a_user_needs_the_rights_that_are_documented_and_no_others(own_redis):
    server = own_redis("--user", "default", "on", "nopass", "~*", "&*", "+@all")
    rights = ["~postlude:cache:*", "+@hash", "+evalsha", "+script|load", "+select", "+ping"]
    server.client.execute_command("ACL", "SETUSER", "ann", "on", ">right", *rights)
    url = f"redis://ann:right@127.0.0.1:{server.port}"
    cache = connect(f"{url}/1")
    assert take(cache) is Verdict.LOAD
    assert keep(cache) is None
    cache.fail("answer", "no", task="one", since=START, now=START)
    assert cache.ask("answer", now=START, pause=SECOND)
    assert cache.get("answer", START).value == "value"

    with pytest.raises(CacheUnavailable, match="or the user's ACL"):
        connect(f"{url}?prefix=shop:").get("answer", START)


@pytest.mark.parametrize(
    "command",
    [
        ("SET", HASH, "text"),
        ("HSET", HASH, "as_of", "yesterday"),
        ("HSET", HASH, "as_of", "9" * 30),
        ("HSET", HASH, "value", "{"),
        ("HSET", HASH, "value", b"\xff"),
    ],
)
def test_what_somebody_else_wrote_there_is_named(cache, redis_server, command):
    redis_server.client.execute_command(*command)

    with pytest.raises(CacheUnavailable, match=r"postlude:cache:answer is not an entry.*delete it"):
        cache.get("answer", START)


# Interruptions


def test_a_redis_that_was_restarted_is_used_without_a_fault(cache, redis_server):
    take(cache)
    redis_server.stop()
    redis_server.start()

    assert cache.get("answer", START) == Entry()
    assert take(cache, "two") is Verdict.LOAD, "its lease and the script are gone, too"


def test_whoever_lost_the_lease_in_a_restart_leaves_no_value(cache, redis_server):
    take(cache)
    redis_server.client.flushall()
    take(cache, "two")

    assert keep(cache) is None
    assert cache.get("answer", START) == Entry(loading=True)


def test_a_connection_that_was_closed_is_made_anew(cache, redis_server):
    take(cache)
    redis_server.client.client_kill_filter(_type="normal", skipme=True)

    assert take(cache, "two") is Verdict.UNDER_WAY


@contextmanager
def deaf(port):
    """Pass everything on to ``port``, but break the connection instead of answering one EVALSHA."""
    listener = socket.create_server(("127.0.0.1", 0))
    cut = []

    def serve(client):
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            while request := client.recv(1 << 20):
                server.sendall(request)
                reply = server.recv(1 << 20)
                if b"EVALSHA" in request and b"NOSCRIPT" not in reply and not cut:
                    cut.append(reply)
                    return
                client.sendall(reply)

    def accept():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], cut
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_a_lease_whose_confirmation_was_lost_is_ours(redis_server, cache):
    with deaf(redis_server.port) as (port, cut):
        assert take(connect(f"redis://127.0.0.1:{port}")) is Verdict.LOAD

    assert cut == [b"$4\r\nload\r\n"]
    assert take(cache, "two") is Verdict.UNDER_WAY


def test_a_wish_is_heard_though_the_first_answer_was_lost(redis_server, cache):
    take(cache)
    take(cache, "two", START + SECOND, wanted=START + SECOND)

    with deaf(redis_server.port) as (port, cut):
        assert keep(connect(f"redis://127.0.0.1:{port}")) == START + SECOND

    assert len(cut) == 1
    assert cache.get("answer", START).value == "value"
