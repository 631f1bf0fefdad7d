"""What is sent to the database, as Django's connection saw it, and what its commits waited for."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection
from django.test.utils import CaptureQueriesContext

#: What a commit of an outcome's row was to wait for, as the database saw it.
WATCH = """
    CREATE TABLE commits (number serial, state text, synchronous text, transaction bigint);
    CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO commits (state, synchronous, transaction)
        VALUES (NEW.state, current_setting('synchronous_commit'), txid_current());
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER watch AFTER INSERT OR UPDATE ON tasks_app_outcome
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION watch();
"""
UNWATCH = "DROP TRIGGER watch ON tasks_app_outcome; DROP FUNCTION watch; DROP TABLE commits;"


@contextmanager
def verbs() -> Iterator[list[str]]:
    """Collect the first word of all that is sent to the database in the block."""
    seen: list[str] = []
    with CaptureQueriesContext(connection) as captured:
        yield seen
    seen += [query["sql"].split(maxsplit=1)[0] for query in captured.captured_queries]


@contextmanager
def watched() -> Iterator[list[tuple[str, str, int]]]:
    """Collect state, setting and transaction of every commit that touched an outcome's row."""
    commits: list[tuple[str, str, int]] = []
    with connection.cursor() as cursor:
        cursor.execute(WATCH)
        try:
            yield commits
            cursor.execute("SELECT state, synchronous, transaction FROM commits ORDER BY number")
            commits += cursor.fetchall()
        finally:
            cursor.execute(UNWATCH)
