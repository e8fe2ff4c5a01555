"""The person on whose behalf a request runs."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple


class Viewer(NamedTuple):
    """A person with a valid session.

    Attributes:
        user_id: the id exactly as the auth server writes it.
        session_expires_at: when the session ends, in UTC.
    """

    user_id: str
    session_expires_at: datetime
