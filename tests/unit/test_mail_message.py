"""What a mail says, and that nothing else can be made to say it."""

from __future__ import annotations

from datetime import UTC, datetime
from email import message_from_bytes, policy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from actors.mail import address
from actors.mail.attachment import Attachment
from actors.mail.errors import BadMail, MailRefused
from actors.mail.message import Draft, compose
from postlude.errors import SettingsError

NOW = datetime(2027, 1, 31, 12, 30, tzinfo=UTC)
TASK = "0194bd3c-1111-7000-8000-000000000001"
printable = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])
# Pieces that header writers and readers stumble over.
awkward = st.lists(
    st.sampled_from(
        [
            *'"\\()<>,;=é 😀.a',
            *("=?utf-8?q?x?=", "=?", "?=", "%41", "utf-8''x", "\u00a0", "  "),
            *("word", "x" * 80, "日本語" * 30),
        ]
    ),
    max_size=12,
).map("".join)
runs = st.lists(
    st.tuples(st.sampled_from([" ", "\u00a0", "a", "é", "日", "😀"]), st.integers(1, 40)),
    max_size=12,
).map(lambda pairs: "".join(character * count for character, count in pairs))
lines = st.text(printable, max_size=200) | awkward | runs


def written(draft, *, mail_from="Postlude <postlude@example.com>", linesep="\r\n", task_id=TASK):
    """Compose the mail, write it out and read it back as its receiver does."""
    mail = compose(draft, task_id=task_id, mail_from=mail_from, now=NOW)
    return message_from_bytes(mail.as_bytes(linesep=linesep), policy=policy.default)


def text_of(part):
    return part.get_content().replace("\r\n", "\n")


def test_a_mail_has_sender_recipient_date_and_text():
    mail = written(Draft("ann@example.com", "Your order is on its way.\n"))

    assert mail["From"] == "Postlude <postlude@example.com>"
    assert mail["To"] == "ann@example.com"
    assert mail["Subject"] == "Notification"
    assert mail["Date"].datetime == NOW
    assert mail["Auto-Submitted"] == "auto-generated"
    assert text_of(mail) == "Your order is on its way.\n"


def test_the_same_task_always_has_the_same_message_id():
    draft = Draft("ann@example.com", "Hello")

    first = compose(draft, task_id=TASK, mail_from="postlude@example.com", now=NOW)
    second = compose(draft, task_id=TASK, mail_from="postlude@example.com", now=datetime.now(UTC))

    assert first.message_id == second.message_id == f"<{TASK}@example.com>"


@pytest.mark.parametrize("task_id", ["../../etc/passwd", "a:2,S", "a b>", "..", "ä\r\nBcc: x"])
def test_an_odd_task_id_makes_a_harmless_message_id_and_file_name(task_id):
    mail = compose(Draft("a@b.cd", "Hi"), task_id=task_id, mail_from="x@y.zz", now=NOW)

    assert set(mail.key).isdisjoint("/:. >\r\n")
    assert written(Draft("a@b.cd", "Hi"), task_id=task_id)["Bcc"] is None


@pytest.mark.parametrize("text", ["Grüße " * 50, "=" * 2000, "one line\0"])
def test_text_has_the_line_ends_of_where_it_is_written(text):
    mail = compose(Draft("a@b.cd", f"{text}\nend"), task_id=TASK, mail_from="x@y.zz", now=NOW)

    in_a_file = message_from_bytes(mail.as_bytes(linesep="\n"), policy=policy.default)

    assert in_a_file.get_content() == f"{text}\nend\n"
    assert b"\0" not in mail.as_bytes(linesep="\r\n")


def test_a_long_link_stays_in_one_piece():
    link = "https://example.com/confirm?token=" + "x" * 500

    mail = compose(Draft("a@b.cd", link), task_id=TASK, mail_from="x@y.zz", now=NOW)

    assert link.encode() in mail.as_bytes(linesep="\n")


def test_html_comes_as_an_alternative_to_the_text():
    mail = written(Draft("ann@example.com", "Grüße", html="<p>Grüße</p>"))

    assert mail.get_content_type() == "multipart/alternative"
    assert text_of(mail.get_body(["plain"])).strip() == "Grüße"
    assert text_of(mail.get_body(["html"])).strip() == "<p>Grüße</p>"


def test_attachments_keep_their_bytes_name_and_type():
    files = [
        Attachment(name="Übersicht März.pdf", content=bytes(range(256)), type="application/pdf"),
        Attachment(name="empty", content=b""),
    ]

    mail = written(Draft("ann@example.com", "See below", html="<b>See</b>", attachments=files))

    found = list(mail.iter_attachments())
    assert [part.get_filename() for part in found] == ["Übersicht März.pdf", "empty"]
    assert [part.get_content() for part in found] == [bytes(range(256)), b""]
    assert [part.get_content_type() for part in found] == [
        "application/pdf",
        "application/octet-stream",
    ]


@settings(deadline=None)
@given(subject=lines)
def test_any_subject_arrives_as_written(subject):
    mail = written(Draft("ann@example.com", "Hi", subject=subject))

    assert mail["Subject"] == subject.strip()
    assert mail.keys() == written(Draft("ann@example.com", "Hi")).keys()


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=300) | awkward)
def test_any_text_arrives_as_written_in_lines_that_every_server_takes(text):
    mail = compose(
        Draft("a@example.com", text, html=text), task_id=TASK, mail_from="b@c.de", now=NOW
    )
    wire = mail.as_bytes(linesep="\r\n")
    received = message_from_bytes(wire, policy=policy.default)

    expected = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
    assert text_of(received.get_body(["plain"])).rstrip("\n") == expected
    assert text_of(received.get_body(["html"])).rstrip("\n") == expected
    assert wire.isascii()
    assert b"\n" not in wire.replace(b"\r\n", b"")
    assert max(map(len, wire.split(b"\r\n"))) <= 998


@settings(deadline=None)
@given(name=lines)
def test_any_file_name_arrives_as_written_or_is_refused(name):
    try:
        file = Attachment(name=name, content=b"x")
    except ValidationError:
        assert not name.strip() or len(name) > 255 or {"/", "\\"} & set(name) or "=?" in name
    else:
        (part,) = written(Draft("a@example.com", "Hi", attachments=[file])).iter_attachments()
        # Not get_filename(): it takes quotes off that belong to the name.
        assert part["Content-Disposition"].params["filename"] == name.strip()


@pytest.mark.parametrize(
    "subject", ["Hi\nBcc: eve@example.com", "Hi\r\n\r\nbody", "a\x00b", "a\u2028b", "\ud800"]
)
def test_a_line_break_in_the_subject_is_refused_for_good(subject):
    with pytest.raises(BadMail, match="one line"):
        written(Draft("ann@example.com", "Hi", subject=subject))
    with pytest.raises(ValidationError, match="one line"):
        TypeAdapter(address.Line).validate_python(subject)

    assert issubclass(BadMail, MailRefused)


@pytest.mark.parametrize(
    "subject", ["=?utf-8?q?Hi=0D=0ABcc:_eve=40example.com?=", "a" * 3000, "日本語 " * 300]
)
def test_an_odd_subject_is_written_in_lines_that_every_server_takes(subject):
    mail = compose(Draft("a@b.cd", "", subject=subject), task_id=TASK, mail_from="x@y.zz", now=NOW)
    wire = mail.as_bytes(linesep="\r\n")

    assert message_from_bytes(wire, policy=policy.default)["Subject"] == subject.strip()
    assert max(map(len, wire.split(b"\r\n"))) <= 78
    assert mail.content["Subject"] == subject.strip()


@pytest.mark.parametrize(
    "to",
    [
        "",
        "ann",
        "@example.com",
        "ann@",
        "ann@exa mple.com",
        "ann@-x.com",
        "ann@" + "x" * 64 + ".com",
        "ann@example.com\nBcc: eve@example.com",
        "ann@example.com, eve@example.com",
        "Ann <ann@example.com>",
        "=?utf-8?q?eve=40example.com=0D=0A?=@example.com",
    ],
)
def test_what_is_no_address_is_refused_for_good(to):
    with pytest.raises(BadMail):
        written(Draft(to, "Hi"))


@pytest.mark.parametrize(
    ("to", "on_the_wire"),
    [
        ("ann@example.com", "ann@example.com"),
        ("root@localhost", "root@localhost"),
        ("ann@straße.example", "ann@xn--strae-oqa.example"),
        ("用户@例え.jp", "用户@xn--r8jz45g.jp"),
        ("o'neil+news=x@example.com", "o'neil+news=x@example.com"),
    ],
)
def test_a_host_is_written_in_ascii_and_a_name_as_it_is(to, on_the_wire):
    mail = written(Draft(to, "Hi"))

    assert mail["To"] == on_the_wire


def test_only_a_name_that_is_not_ascii_needs_smtputf8():
    def needs(to):
        return compose(Draft(to, "Hi"), task_id=TASK, mail_from="a@b.cd", now=NOW).needs_utf8

    assert needs("jörg@example.com")
    assert not needs("ann@exämple.com")


@pytest.mark.parametrize("to", ["jörg@example.com", "ann@example.com"])
def test_headers_are_utf8_only_where_an_address_needs_it(to):
    mail_from = "Käthe <kaethe@example.com>"

    mail = compose(Draft(to, "Hi"), task_id=TASK, mail_from=mail_from, now=NOW)

    assert f"To: {to}\r\n".encode() in mail.as_bytes(linesep="\r\n")
    assert ("Käthe".encode() in mail.as_bytes(linesep="\r\n")) is (not to.isascii())


@pytest.mark.parametrize("mail_from", ["postlude", "a@b.cd\nBcc: x@y.zz", "", "a@b.cd, e@f.gh"])
def test_a_bad_sender_names_the_setting(mail_from):
    with pytest.raises(SettingsError, match="POSTLUDE_MAIL_FROM"):
        written(Draft("ann@example.com", "Hi"), mail_from=mail_from)


def test_the_sender_may_have_a_name_in_any_language():
    mail = written(
        Draft("ann@example.com", "Hi"), mail_from='"Müller, Söhne" <büro@müller.example>'
    )

    assert mail["From"] == '"Müller, Söhne" <büro@xn--mller-kva.example>'


def test_half_a_character_in_the_text_is_refused():
    with pytest.raises(BadMail, match="valid Unicode"):
        written(Draft("ann@example.com", "a\ud83db"))


def test_an_attachment_is_base64_in_json_and_bytes_in_python():
    file = Attachment(name="a.bin", content=b"\xff\x00", type="image/png")

    assert file.model_dump_json() == '{"name":"a.bin","content":"/wA=","type":"image/png"}'
    assert Attachment.model_validate_json(file.model_dump_json()) == file
    assert Attachment.model_validate(file.model_dump(mode="json")) == file
    assert Attachment.model_json_schema()["properties"]["content"] == {
        "contentEncoding": "base64",
        "title": "Content",
        "type": "string",
    }


@pytest.mark.parametrize(
    "fault",
    [
        {"content": "not base64!"},
        {"content": 3},
        {"name": "../../etc/passwd"},
        {"name": "a\r\nX: y"},
        {"name": " "},
        {"name": "n" * 256},
        {"type": "pdf"},
        {"type": "text/plain; charset=utf-8"},
        {"type": "text/plain\r\nX: y"},
        {"type": "Multipart/mixed"},
        {"type": "message/rfc822"},
        {"size": 3},
    ],
)
def test_a_faulty_attachment_is_refused_at_the_door(fault):
    with pytest.raises(ValidationError) as caught:
        Attachment.model_validate({"name": "a", "content": b"x"} | fault)

    assert caught.value.error_count() == 1
