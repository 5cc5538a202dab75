"""The store's copy in SQLite: what a kill -9 leaves is what the next start finds."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.objects.resources import Obj

_SCHEMA = """
PRAGMA journal_mode=WAL;
PRAGMA synchronous=NORMAL;
CREATE TABLE IF NOT EXISTS objects (
    resource TEXT, namespace TEXT, name TEXT, body BLOB, PRIMARY KEY (resource, namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER);
INSERT OR IGNORE INTO counter VALUES (1, 1);
"""


class Disk:
    """One database file, or memory alone when `path` is None."""

    def __init__(self, path: Path | None) -> None:
        self._db = sqlite3.connect(path if path is not None else ":memory:", isolation_level=None)
        self._db.executescript(_SCHEMA)

    def version(self) -> int:
        found: tuple[int] = self._db.execute("SELECT version FROM counter").fetchone()
        return found[0]

    def keep_only(self, resources: tuple[str, ...]) -> None:
        """Forget objects of kinds that an older version served."""
        marks = ", ".join("?" * len(resources))
        self._db.execute(f"DELETE FROM objects WHERE resource NOT IN ({marks})", resources)

    def objects(self) -> Iterator[tuple[str, str, str, Obj, bytes]]:
        """(resource, namespace, name, object, its JSON) of everything stored."""
        for resource, namespace, name, body in self._db.execute("SELECT * FROM objects"):
            yield resource, namespace, name, json.loads(body), body

    def write(self, resource: str, key: tuple[str, str], body: bytes | None, version: int) -> None:
        """Put (or, for None, remove) one object and move the counter, both or neither.

        ApiError 500 when that is impossible: the disk is full, or cannot be written.
        """
        try:
            self._db.execute("BEGIN")
            if body is None:
                self._db.execute(
                    "DELETE FROM objects WHERE (resource, namespace, name) = (?, ?, ?)",
                    (resource, *key),
                )
            else:
                self._db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?)", (resource, *key, body))
            self._db.execute("UPDATE counter SET version = ?", (version,))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            text = f"Internal error occurred: the sandbox's state cannot be written: {error}"
            raise ApiError(500, "InternalError", text) from error

    def close(self) -> None:
        self._db.close()
