"""
Plans that PostgreSQL keeps for a statement, on a connection that is busy with it.

Reading and planning a statement of every run costs PostgreSQL more than some of them cost it to
run. A prepared statement's plan is made once, but one that was made while a table was small reads
that from end to end when it is large. So a statement is prepared only where it ran often within a
second, its plan is made without sequential scans, and five seconds later it is sent in full again.
An ANALYZE in between lets PostgreSQL plan as it likes, until then.

SQL's PREPARE and EXECUTE are used, with values that the client binds. A prepared statement is the
session's: no rollback undoes it, and a pooler that gives each transaction another session loses
it. Nothing here writes: a crash, or a statement that is missing, leaves no more than a plan.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from django.db import Error as DatabaseFailure

from tasks_app.transience import PlanLost

logger = logging.getLogger(__name__)

#: What libpq says of a connection on which no transaction is open.
IDLE = 0

#: A connection is busy with a statement that it ran more often than this within a second.
OFTEN, WITHIN = 20, 1.0

#: Seconds for which a plan is used.
KEPT = 5.0

#: PostgreSQL: invalid_sql_statement_name, duplicate_prepared_statement. Another session answered.
OTHER_SESSION = frozenset({"26000", "42P05"})
#: PostgreSQL: feature_not_supported, which it says where a column's type was changed since.
CHANGED = frozenset({"0A000"})

#: Makes the plan that the sixth execution would make, and makes it take an index. PostgreSQL
#: compares its cost with those of the first five, to which it adds that of planning them.
PLANNING = """
    SET LOCAL plan_cache_mode = force_generic_plan;
    SET LOCAL enable_seqscan = off;
    SET LOCAL enable_bitmapscan = off;
    EXPLAIN (COSTS OFF) EXECUTE {name} ({nulls})
"""

#: Set once another session was met: this process prepares nothing any more.
met_another_session = threading.Event()


class Statement:
    """
    A statement with numbered parameters, and what is sent to prepare and to run it.

    Args:
        text: The statement; `$1` and so on wherever an execution brings a value.
        types: PostgreSQL's types of these values.
    """

    def __init__(self, text: str, types: Sequence[str]) -> None:
        declared = ", ".join(types)
        digest = hashlib.sha256(f"{declared}\n{text}".encode()).hexdigest()
        # Another version's statement has another name.
        self.name = f"tasks_app_{digest[:16]}"
        self.preparing = f"PREPARE {self.name} ({declared}) AS {text};"
        self.planning = PLANNING.format(name=self.name, nulls=", ".join(["NULL"] * len(types)))
        self.executing = f"EXECUTE {self.name} ({', '.join(['%s'] * len(types))})"


class _Use:
    """What one connection knows of one statement."""

    def __init__(self) -> None:
        self.began, self.times = 0.0, 0
        self.kept_until = 0.0
        self.is_prepared = False
        self.is_given_up = False

    def is_frequent(self, now: float) -> bool:
        """Count one more use; return whether there were many within a second."""
        if now - self.began > WITHIN:
            self.began, self.times = now, 0
        self.times += 1
        return self.times > OFTEN

    def forget(self) -> None:
        """Count anew before the statement is prepared again."""
        self.times, self.kept_until = 0, 0.0


#: Of each of the driver's connections, the statements that it ran.
_uses: WeakKeyDictionary[Any, dict[str, _Use]] = WeakKeyDictionary()


def are_possible(connection: Any) -> bool:
    """
    Tell whether statements may be prepared on a connection that is open.

    Not where Django was told of a pooler by DISABLE_SERVER_SIDE_CURSORS, not where this process has
    met another session, and not where the server binds values, which EXECUTE does not take.
    """
    return (
        not met_another_session.is_set()
        # psycopg 3 alone has a `pgconn`.
        and hasattr(connection.connection, "pgconn")
        and not connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
        and not connection.features.uses_server_side_binding
    )


def execute(
    connection: Any, cursor: Any, statement: Statement, values: Callable[[], Sequence[Any]]
) -> bool:
    """
    Run a statement by its kept plan, and return whether it ran: if not, it has to be sent in full.

    Raises:
        PlanLost: the session does not have it, and the transaction, which has ended with that, is
            to be run again. Outside a transaction nothing is raised.
    """
    driver = connection.connection
    use = _uses.setdefault(driver, {}).setdefault(statement.name, _Use())
    is_alone = driver.autocommit and driver.pgconn.transaction_status == IDLE
    try:
        if not _is_kept(use, cursor, statement, is_alone=is_alone):
            return False
        cursor.execute(statement.executing, values())
    except DatabaseFailure as error:
        if not _is_lost(error):
            raise
        use.forget()
        if is_alone:
            return False
        raise PlanLost(str(error)) from error.__cause__
    return True


def _is_kept(use: _Use, cursor: Any, statement: Statement, *, is_alone: bool) -> bool:
    """Return whether the session has the statement with a young plan; make it, if it is time."""
    now = time.monotonic()
    if now < use.kept_until:
        return True
    if use.kept_until:
        use.forget()
    if use.is_given_up or not use.is_frequent(now):
        return False
    _prepare(use, cursor, statement, is_alone=is_alone)
    use.kept_until = now + KEPT
    return True


def _prepare(use: _Use, cursor: Any, statement: Statement, *, is_alone: bool) -> None:
    """
    Prepare a statement and make its plan, in one round trip that leaves no setting behind.

    Several statements in one string are a transaction of their own, unless one is open.
    """
    replaced = f"DEALLOCATE {statement.name}; " if use.is_prepared else ""
    planning = statement.planning if is_alone else _undone(statement.planning)
    # Should that fail half-way, nobody knows whether the session has it.
    use.is_given_up = True
    cursor.execute(f"{replaced}{statement.preparing} {planning}")
    use.is_given_up, use.is_prepared = False, True


def _undone(text: str) -> str:
    """Return what takes back the settings within a transaction; what is prepared stays."""
    name = "tasks_app_plan"
    return f"SAVEPOINT {name}; {text}; ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}"


def _is_lost(error: DatabaseFailure) -> bool:
    """Tell whether PostgreSQL refused what was prepared; prepare no more if it was elsewhere."""
    sqlstate = getattr(error.__cause__, "sqlstate", None)
    if sqlstate in OTHER_SESSION and not met_another_session.is_set():
        met_another_session.set()
        logger.warning(
            "A prepared statement is not where it was made: is there a pooler that shares sessions?"
            " This process prepares none any more; set DISABLE_SERVER_SIDE_CURSORS in DATABASES."
        )
    return sqlstate in OTHER_SESSION or sqlstate in CHANGED
