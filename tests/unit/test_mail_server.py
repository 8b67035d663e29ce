"""What POSTLUDE_MAIL_URL may say, and that its password never shows."""

from __future__ import annotations

import traceback
from datetime import timedelta

import pytest

from actors.mail.maildir import Maildir
from actors.mail.server import Security, Server, parse
from actors.mail.smtp import Smtp
from actors.mail.transport import check, transport
from postlude.errors import SettingsError
from postlude.settings import load


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example.com", Server("mail.example.com", 25, Security.NONE)),
        ("smtp://[::1]:2525/", Server("::1", 2525, Security.NONE)),
        ("smtps://mail.example.com", Server("mail.example.com", 465, Security.TLS)),
        ("smtp+starttls://mail.example.com", Server("mail.example.com", 587, Security.STARTTLS)),
        ("SMTP://Mail.Example.com:26", Server("mail.example.com", 26, Security.NONE)),
        ("smtps://bücher.example", Server("xn--bcher-kva.example", 465, Security.TLS)),
        (
            "smtps://ann%40example.com:p%40ss%2Fw%3Ard@mail.example.com:4650?timeout=1m",
            Server(
                "mail.example.com",
                4650,
                Security.TLS,
                "ann@example.com",
                "p@ss/w:rd",
                timedelta(minutes=1),
            ),
        ),
    ],
)
def test_a_url_names_a_server(url, expected):
    assert parse(url) == expected


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]"])
def test_a_password_may_go_to_this_machine_in_plain_text(host):
    assert parse(f"smtp://ann:secret@{host}").security is Security.NONE


@pytest.mark.parametrize("host", ["mail.example.com", "10.0.0.1", "localhost.example.com"])
def test_a_password_never_goes_to_another_machine_in_plain_text(host):
    server = parse(f"smtp://ann:secret@{host}")

    assert server.security is Security.STARTTLS
    assert server.port == 25


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://ann:hunter2@mail.example.com", "scheme"),
        ("mail.example.com:25", "scheme"),
        ("smtp://", "host or port"),
        ("smtp://:hunter2@mail.example.com", "user without a password"),
        ("smtp://ann@mail.example.com", "user without a password"),
        ("smtp://ann:hunter2@mail.example.com:smtp", "host or port"),
        ("smtp://ann:hunter2@mail.example.com:99999", "host or port"),
        ("smtp://ann:hunter2@mail.example.com:0", "host or port"),
        ("smtp://ann:hunter2/x@mail.example.com", "host or port"),
        ("smtp://ann:1/hunter2@mail.example.com", "follows the port"),
        ("smtp://ann:1#hunter2@mail.example.com", "follows the port"),
        ("smtp://ann:1?hunter2@mail.example.com", "options"),
        ("smtp://ann:hunter2@mail.example.com/inbox", "follows the port"),
        ("smtp://ann:hunter2%C3%A9@mail.example.com", "ASCII"),
        ("smtp://ann:hunter2@" + "ä" * 70 + ".example", "host or port"),
        ("smtp://[::1:hunter2", "host or port"),
        ("smtp://ann:hunter2@mail.example.com?timeout=soon", "timeout"),
        ("smtp://ann:hunter2@mail.example.com?timeout=0", "timeout"),
        ("smtp://ann:hunter2@mail.example.com?tls=off", "unknown option"),
        ("smtp://ann:hunter2@mail.example.com?ca=/no/such/hunter2", "ca names no file"),
    ],
)
def test_a_bad_url_names_the_setting_and_never_shows_the_password(url, fault):
    with pytest.raises(SettingsError, match="POSTLUDE_MAIL_URL") as caught:
        parse(url)

    assert fault in str(caught.value)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_the_password_does_not_show_in_the_server_either():
    assert "hunter2" not in repr(Smtp(parse("smtps://ann:hunter2@mail.example.com")))


def test_the_transport_is_the_server_if_one_is_set_and_a_maildir_otherwise(tmp_path):
    assert transport(load(data_dir=tmp_path)) == Maildir(tmp_path / "mail")
    assert transport(load(mail_url="smtp://mail.example.com")) == Smtp(
        Server("mail.example.com", 25, Security.NONE)
    )


def test_settings_with_which_no_mail_could_go_are_refused_at_boot(tmp_path):
    check(load(data_dir=tmp_path))

    with pytest.raises(SettingsError, match="POSTLUDE_MAIL_URL"):
        check(load(mail_url="ftp://mail.example.com"))
    with pytest.raises(SettingsError, match="POSTLUDE_MAIL_FROM"):
        check(load(mail_from="nobody"))
