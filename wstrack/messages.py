"""What may be shown to people: no password that stands in an address, and no character that a terminal obeys."""

from __future__ import annotations

import logging
import re
from urllib.parse import parse_qsl, quote, quote_plus, unquote, unquote_plus

__all__ = ["printable", "without_secrets"]

_USER = re.compile(r"(?<=://)[^\s@]*(?:@[^\s@/?]*)*@")  # a password may hold "/" and "@"
# Control characters, ends of lines that few programs know, those that turn the direction of writing, and halves of
# surrogate pairs.
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_OPTIONS = re.compile(r"(://[^\s?#'\"]*)\?[^\s'\"]*")


def without_secrets(text: str, address: str = "") -> str:
    """A text without the user, the password and the options of any address in it, and without those of `address`.

    Example:
        >>> without_secrets("cannot reach postgresql://me:my/secret@db/runs?password=x", "postgresql://me:my/secret@db")
        'cannot reach postgresql://***@db/runs?***'
    """
    text = _OPTIONS.sub(r"\1?***", _USER.sub("***@", text))
    for secret in sorted(_secrets_of(address), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _secrets_of(address: str) -> set[str]:
    """Every way in which a password or an option of an address may be written in a message.

    Example:
        >>> "my secret" in _secrets_of("postgresql://me:my%20secret@db/runs")
        True
    """
    found: set[str] = set()
    rest = address.partition("://")[2]
    user, at, _ = rest.rpartition("@")
    if at and ":" in user:
        found.add(user.partition(":")[2])
    for _, value in parse_qsl(rest.partition("?")[2]):
        found.add(value)
        # What ODBC is told stands in one option: DRIVER=...;UID=...;PWD=...
        found.update(part.partition("=")[2] for part in value.split(";") if "=" in part)
    # A short option is no secret, and would blot out half of the message; a password of any length is one.
    found = {each for each in found if len(each) > 5} | ({user.partition(":")[2]} if at and ":" in user else set())
    forms = {form(each) for each in found for form in (str, unquote, unquote_plus, quote, quote_plus)}
    return (forms | {quote(each, safe="") for each in found}) - {""}


def printable(text: str) -> str:
    r"""A text in which control characters, but for ends of lines and tabs, are written out.

    Example:
        >>> printable("layer \x1b[31mred\x1b[0m\r\n")
        'layer \\x1b[31mred\\x1b[0m\\r\n'
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class _Shown(logging.Filter):
    """Makes what wstrack logs fit to be shown, whatever handlers there are."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = printable(without_secrets(record.getMessage())), ()
        return True


logging.getLogger("wstrack").addFilter(_Shown())
