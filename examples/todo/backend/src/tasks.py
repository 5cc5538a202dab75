"""Tasks in one SQLite file: the only module that knows SQL."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

FILE = Path(os.environ.get("SQLITE_FILE", "/app/data/todo.db"))
FIELDS = ("title", "description", "completed", "priority")

SCHEMA = """
CREATE TABLE IF NOT EXISTS task (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    title       TEXT    NOT NULL,
    description TEXT,
    completed   INTEGER NOT NULL DEFAULT 0,
    priority    TEXT    NOT NULL DEFAULT 'medium',
    user_id     TEXT    NOT NULL,
    created_at  TEXT    NOT NULL,
    updated_at  TEXT    NOT NULL
)
"""

# The file lives as long as its pod; a new pod starts with these instead of an empty page.
FIRST_TASKS = (
    ("Edit backend/src/greeting.py", "Save it and look at the top of this page", "high"),
    ("Edit frontend/src/page.js", "The other service, the other image", "medium"),
    ("Look at :9100/metrics", "Each stage of each trip is timed there", "low"),
)


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    """One connection for one request; commits at the end, rolls back on an error."""
    connection = sqlite3.connect(FILE, timeout=5)
    connection.row_factory = sqlite3.Row
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def prepare() -> None:
    """Make the file and the table, and put the first tasks in if the file is new."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    with database() as db:
        db.execute(SCHEMA)
        if db.execute("SELECT count(*) FROM task").fetchone()[0] == 0:
            now = _now()
            db.executemany(
                "INSERT INTO task (title, description, priority, user_id, created_at, updated_at)"
                " VALUES (?, ?, ?, 'demo', ?, ?)",
                [(*task, now, now) for task in FIRST_TASKS],
            )


def all_of(user_id: str) -> list[dict[str, Any]]:
    with database() as db:
        rows = db.execute("SELECT * FROM task WHERE user_id = ? ORDER BY id", (user_id,))
        return [_task(row) for row in rows]


def one(user_id: str, task_id: int) -> dict[str, Any] | None:
    with database() as db:
        row = db.execute(
            "SELECT * FROM task WHERE id = ? AND user_id = ?", (task_id, user_id)
        ).fetchone()
        return _task(row) if row else None


def add(user_id: str, values: dict[str, Any]) -> dict[str, Any]:
    now = _now()
    with database() as db:
        row = db.execute(
            "INSERT INTO task (title, description, completed, priority, user_id, created_at, updated_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING *",
            (*(values[field] for field in FIELDS), user_id, now, now),
        ).fetchone()
        return _task(row)


def change(user_id: str, task_id: int, values: dict[str, Any]) -> dict[str, Any] | None:
    """Set the given fields (a subset of FIELDS); None if the user has no such task."""
    assert set(values) <= set(FIELDS)
    columns = ", ".join(f"{field} = ?" for field in (*values, "updated_at"))
    with database() as db:
        row = db.execute(
            f"UPDATE task SET {columns} WHERE id = ? AND user_id = ? RETURNING *",
            (*values.values(), _now(), task_id, user_id),
        ).fetchone()
        return _task(row) if row else None


def remove(user_id: str, task_id: int) -> bool:
    with database() as db:
        done = db.execute("DELETE FROM task WHERE id = ? AND user_id = ?", (task_id, user_id))
        return done.rowcount == 1


def _task(row: sqlite3.Row) -> dict[str, Any]:
    return {**dict(row), "completed": bool(row["completed"])}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()
