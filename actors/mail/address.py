"""Mail addresses, as headers and SMTP take them: ASCII wherever the address has such a form."""

from __future__ import annotations

import re
import unicodedata
from email.headerregistry import Address
from email.utils import getaddresses
from typing import Annotated

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator

from actors.mail.errors import BadMail
from postlude.errors import SettingsError

_HOST = re.compile(
    r"(?!.{254})(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*", re.IGNORECASE
)
_ENCODED_WORD = re.compile(r"=\?[^?]*\?[bq]\?[^?]*\?=", re.IGNORECASE)
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})


def one_line(text: str) -> str:
    """Return ``text`` if it fits one header; raise BadMail if a line break could begin another."""
    if any(unicodedata.category(character) in _UNPRINTABLE for character in text):
        message = "a header takes one line of text, without control characters"
        raise BadMail(message)
    return text


def unencoded(text: str) -> str:
    """Return ``text`` if it is one line that means what it says; raise BadMail if it does not.

    An encoded word ("=?…?=") can hold a line break. Mail programs decode it, and so does Python
    when it writes a header.
    """
    if _ENCODED_WORD.search(text):
        message = "this takes plain text, not what is encoded already ('=?…?=')"
        raise BadMail(message)
    return one_line(text)


Line = Annotated[str, AfterValidator(one_line)]
"""Text for a header: one line, any language, no control characters."""


def recipient(address: str) -> Address:
    """Return ``address`` ("name@host", no display name) in parts; raise BadMail if it is none."""
    return _parse("", address)


def sender(setting: str) -> Address:
    """Return what POSTLUDE_MAIL_FROM says, "name@host" or "Display Name <name@host>", in parts.

    Raises SettingsError, naming the variable, for anything else.
    """
    found = getaddresses([setting])
    if len(found) != 1:
        message = f"POSTLUDE_MAIL_FROM: {setting!r} is not one mail address"
        raise SettingsError(message)
    ((display_name, address),) = found
    try:
        return _parse(unencoded(display_name), address)
    except BadMail as error:
        message = f"POSTLUDE_MAIL_FROM: {error}"
        raise SettingsError(message) from None


def needs_utf8(address: Address) -> bool:
    """Say whether only servers with SMTPUTF8 can take ``address``: its local part is not ASCII."""
    return not address.username.isascii()


def _parse(display_name: str, address: str) -> Address:
    local, _, host = unencoded(address).rpartition("@")
    # email-validator refuses reserved names such as "localhost", where mail for this machine or for
    # a test goes. A plain host name is judged here, everything else by the library.
    plain = _HOST.fullmatch(host)
    try:
        valid = validate_email(
            f"{local}@example.com" if plain else address, check_deliverability=False
        )
    except EmailNotValidError as error:
        message = f"{address!r} is not a mail address: {error}"
        raise BadMail(message) from None
    return Address(
        display_name, valid.local_part or "", host if plain else valid.ascii_domain or ""
    )
