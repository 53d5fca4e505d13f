"""Password of a storage's URL: replaced wherever the URL is written or shown."""

import re

HIDDEN = "***"
"""What stands in place of a password."""
# In the part before the host, a password goes from the first colon to the last @, so that one with an @ in it, which no
# driver accepts, is hidden as a whole too. SQLAlchemy lets it contain slashes and question marks.
_USERINFO = re.compile(r"^([\w+.-]+://[^:/@?]*):([^@]*(?:@[^/?@]*)*)@(?=[^/?@]*(?:[/?]|$))", re.DOTALL)
_PARAMETER = re.compile(r"([?&][^=&]*(?:passw|pwd|secret|token)[^=&]*=)([^&]*)", re.IGNORECASE)


def without_password(url: str) -> str:
    """The URL with `HIDDEN` in place of its password, also of one among the parameters; unchanged without any.

    Examples:
        >>> without_password("postgresql+psycopg://ada:secret@db.example/nas")
        'postgresql+psycopg://ada:***@db.example/nas'
        >>> without_password("sqlite:///study.db")
        'sqlite:///study.db'
    """
    return _PARAMETER.sub(rf"\g<1>{HIDDEN}", _USERINFO.sub(rf"\g<1>:{HIDDEN}@", url))


def passwords_in(url: str) -> list[str]:
    """The passwords that `without_password` replaces, as they are written; empty ones are left out."""
    before_host = _USERINFO.match(url)
    found = [before_host[2]] if before_host else []
    return [p for p in (*found, *(m[2] for m in _PARAMETER.finditer(url))) if p and p != HIDDEN]
