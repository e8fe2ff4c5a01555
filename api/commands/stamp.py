"""`twofold stamp`: note which migrations a database has, without running any."""

from __future__ import annotations

from api.commands.database import read_database
from api.commands.migrate import one_sentence, set_up_logging
from persistence import migrations


def stamp(revision: str) -> None:
    """Set the revision of the database in ``DATABASE_URL``, in the schema ``DATABASE_SCHEMA``.

    For tables that were restored without it, as `twofold migrate` says.

    Args:
        revision: of a migration, or ``head`` for the newest one.

    Raises:
        CommandError: a variable is missing or invalid, there is no such revision, or the database
            cannot be reached.
    """
    set_up_logging()
    url, schema = read_database()
    with one_sentence("stamped"):
        stamped = migrations.stamp(url, revision, schema)
    print(f"The revision of the schema is {stamped}.")
