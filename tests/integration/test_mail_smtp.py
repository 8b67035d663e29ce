"""Mail through a real server: what it says decides between delivered, refused and tried again."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from contextlib import contextmanager
from datetime import UTC, datetime
from email import message_from_bytes, policy

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from actors.mail.errors import MailDeferred, MailRefused
from actors.mail.message import Draft, compose
from actors.mail.server import parse
from actors.mail.smtp import Smtp

TASK = "0194bd3c-1111-7000-8000-000000000001"


class Inbox:
    """What the server has accepted, and what it says to those who hand mail in."""

    def __init__(self, **replies):
        self.envelopes = []
        self.quits = 0
        self.replies = replies

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if "rcpt" in self.replies:
            return self.replies["rcpt"]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        if "data" in self.replies:
            return self.replies["data"]
        self.envelopes.append(envelope)
        if "hang up after data" in self.replies:
            server.transport.abort()
        return "250 OK"

    async def handle_QUIT(self, server, session, envelope):  # noqa: N802
        self.quits += 1
        if "hang up at quit" in self.replies:
            server.transport.abort()
        return self.replies.get("quit", "221 Bye")

    @property
    def messages(self):
        return [message_from_bytes(e.content, policy=policy.default) for e in self.envelopes]


class Server(Controller):
    """A server on a port that the system chose."""

    def _trigger_server(self):
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@contextmanager
def serving(inbox, **options):
    server = Server(inbox, hostname="127.0.0.1", port=0, **options)
    server.start()
    try:
        yield server.port
    finally:
        server.stop()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """Make a certificate for 127.0.0.1, signed by itself, in one file with its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("TLS is tested with a certificate that the openssl command makes; install it")
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    arguments = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    subprocess.run([openssl, *arguments, *names, *files], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


@pytest.fixture(scope="session")
def tls(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def only_ann(server, session, envelope, mechanism, credentials):
    known = (credentials.login, credentials.password) == (b"ann", b"p@ss/word")
    return AuthResult(success=known, handled=False)


def mail(to="ben@example.com", **what):
    draft = Draft(to, **{"text": "Hello", **what})
    return compose(draft, task_id=TASK, mail_from="Postlude <a@example.com>", now=datetime.now(UTC))


def deliver(url, message=None):
    Smtp(parse(url)).deliver(message or mail())


def test_a_mail_reaches_the_server_whole():
    inbox = Inbox()
    text = "Grüße\n.a dot at the start\n" + "long " * 400 + "\n日本語"

    with serving(inbox) as port:
        deliver(
            f"smtp://127.0.0.1:{port}", mail(text=text, subject="Schöne Grüße", html="<b>ü</b>")
        )

    (envelope,), (message,) = inbox.envelopes, inbox.messages
    assert (envelope.mail_from, envelope.rcpt_tos) == ("a@example.com", ["ben@example.com"])
    assert message["Subject"] == "Schöne Grüße"
    assert message["Message-ID"] == f"<{TASK}@example.com>"
    assert message.get_body(["plain"]).get_content().replace("\r\n", "\n") == text + "\n"
    assert envelope.content.isascii()
    assert inbox.quits == 1


def test_a_second_run_of_the_same_task_carries_the_same_message_id():
    inbox = Inbox()

    with serving(inbox) as port:
        deliver(f"smtp://127.0.0.1:{port}", mail())
        deliver(f"smtp://127.0.0.1:{port}", mail())

    first, second = inbox.messages
    assert first["Message-ID"] == second["Message-ID"]


def test_starttls_protects_mail_and_password(certificate, tls):
    inbox = Inbox()
    options = {"authenticator": only_ann, "auth_required": True, "require_starttls": True}

    with serving(inbox, tls_context=tls, **options) as port:
        host = f"ann:p%40ss%2Fword@127.0.0.1:{port}?ca={certificate}"
        deliver(f"smtp+starttls://{host}")

    assert len(inbox.envelopes) == 1


def test_smtps_protects_mail_and_password(certificate, tls):
    inbox = Inbox()
    # aiosmtpd takes only STARTTLS for TLS when it decides whether to offer AUTH.
    options = {"authenticator": only_ann, "auth_require_tls": False}

    with serving(inbox, ssl_context=tls, **options) as port:
        deliver(f"smtps://ann:p%40ss%2Fword@127.0.0.1:{port}?ca={certificate}")

    assert len(inbox.envelopes) == 1


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
def test_a_certificate_that_nobody_vouches_for_is_not_trusted(tls, scheme):
    inbox = Inbox()
    options = {"ssl_context": tls} if scheme == "smtps" else {"tls_context": tls}

    with (
        serving(inbox, **options) as port,
        pytest.raises(MailDeferred, match="certificate verify failed"),
    ):
        deliver(f"{scheme}://127.0.0.1:{port}")

    assert inbox.envelopes == []


def test_a_server_without_starttls_gets_nothing_when_the_url_asks_for_it():
    inbox = Inbox()

    with serving(inbox) as port, pytest.raises(MailDeferred, match="STARTTLS"):
        deliver(f"smtp+starttls://127.0.0.1:{port}")

    assert inbox.envelopes == []


def test_a_password_goes_in_plain_text_to_this_machine_only():
    inbox = Inbox()

    with serving(inbox, authenticator=only_ann, auth_require_tls=False) as port:
        deliver(f"smtp://ann:p%40ss%2Fword@127.0.0.1:{port}")

    assert len(inbox.envelopes) == 1


def test_a_wrong_password_is_refused_and_not_shown():
    options = {"authenticator": only_ann, "auth_require_tls": False}

    with serving(Inbox(), **options) as port, pytest.raises(MailRefused, match="535") as caught:
        deliver(f"smtp://ann:hunter2@127.0.0.1:{port}")

    assert "hunter2" not in str(caught.value)


def test_a_password_for_a_server_that_wants_none_is_tried_again():
    with serving(Inbox()) as port, pytest.raises(MailDeferred, match="AUTH"):
        deliver(f"smtp://ann:secret@127.0.0.1:{port}")


@pytest.mark.parametrize("step", ["rcpt", "data"])
def test_5xx_is_refused_for_good(step):
    inbox = Inbox(**{step: "550 5.7.1 no such thing here"})

    with serving(inbox) as port, pytest.raises(MailRefused, match=r"550 5\.7\.1 no such thing"):
        deliver(f"smtp://127.0.0.1:{port}")


@pytest.mark.parametrize("step", ["rcpt", "data"])
@pytest.mark.parametrize("reply", ["451 4.7.1 greylisted", "421 4.3.2 shutting down"])
def test_4xx_is_tried_again(step, reply):
    inbox = Inbox(**{step: reply})

    with serving(inbox) as port, pytest.raises(MailDeferred, match=reply):
        deliver(f"smtp://127.0.0.1:{port}")


def test_a_mail_larger_than_the_server_takes_is_refused():
    inbox = Inbox()

    with serving(inbox, data_size_limit=2000) as port, pytest.raises(MailRefused, match="552"):
        deliver(f"smtp://127.0.0.1:{port}", mail(text="x" * 3000))


def test_an_address_that_is_not_ascii_goes_to_a_server_that_can_take_it():
    inbox = Inbox()

    with serving(inbox) as port:
        deliver(f"smtp://127.0.0.1:{port}", mail("jörg@exämple.de", subject="Grüße"))

    (envelope,), (message,) = inbox.envelopes, inbox.messages
    assert envelope.smtp_utf8
    assert envelope.rcpt_tos == ["jörg@xn--exmple-cua.de"]
    assert (message["To"], message["Subject"]) == ("jörg@xn--exmple-cua.de", "Grüße")


def test_an_address_that_is_not_ascii_is_refused_where_the_server_cannot_take_it():
    inbox = Inbox()

    with (
        serving(inbox, enable_SMTPUTF8=False) as port,
        pytest.raises(MailRefused, match="SMTPUTF8"),
    ):
        deliver(f"smtp://127.0.0.1:{port}", mail("jörg@example.com"))

    assert inbox.envelopes == []


def test_a_host_that_is_not_ascii_needs_no_special_server():
    inbox = Inbox()

    with serving(inbox, enable_SMTPUTF8=False) as port:
        deliver(f"smtp://127.0.0.1:{port}", mail("ann@exämple.de"))

    assert inbox.envelopes[0].rcpt_tos == ["ann@xn--exmple-cua.de"]


@pytest.mark.parametrize("fault", [{"quit": "451 not now"}, {"hang up at quit": True}])
def test_a_goodbye_that_fails_does_not_send_the_mail_twice(fault):
    inbox = Inbox(**fault)

    with serving(inbox) as port:
        deliver(f"smtp://127.0.0.1:{port}")

    assert len(inbox.envelopes) == inbox.quits == 1


def test_a_reply_that_never_comes_leaves_it_open_and_the_mail_is_tried_again():
    inbox = Inbox(**{"hang up after data": True})

    with serving(inbox) as port, pytest.raises(MailDeferred):
        deliver(f"smtp://127.0.0.1:{port}")


def test_a_server_that_is_not_there_is_tried_again():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(MailDeferred, match=rf"127.0.0.1:{port} .* Connection refused"):
        deliver(f"smtp://127.0.0.1:{port}")


@pytest.mark.parametrize("scheme", ["smtp", "smtps", "smtp+starttls"])
def test_a_server_that_never_answers_is_left_after_the_timeout(scheme):
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(MailDeferred, match="timed out"),
    ):
        deliver(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}?timeout=100ms")
