"""The registry in one SQLite file; the only module that imports sqlite3.

Invariants: every save is one transaction in a write-ahead log, so a killed process leaves the last whole registry;
a file of a newer layout is refused, never rewritten.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec

from inferoxy.messages import ModelSpec
from model_manager.registry import Override, Registry
from model_manager.stores.base import StoreUnavailable

LAYOUT = 1
BUSY_TIMEOUT_S = 5.0
_TABLES = """
CREATE TABLE file_models (position INTEGER PRIMARY KEY, spec BLOB NOT NULL);
CREATE TABLE overrides (position INTEGER PRIMARY KEY, change BLOB NOT NULL);
"""


class SqliteStore:
    """A Store. May be called from any thread, by one at a time."""

    def __init__(self, path: Path) -> None:
        """Open the file, which is made when missing.

        Raises:
            StoreUnavailable: It cannot be opened, is no registry or was written by a newer version.
        """
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as exc:
            raise StoreUnavailable(f"registry {path}: cannot be opened: {exc}") from exc
        try:
            self._prepare()
        except (sqlite3.Error, StoreUnavailable) as exc:
            self._database.close()
            raise StoreUnavailable(f"registry {path}: {exc}; move it away to start with an empty one") from exc

    def load(self) -> Registry:
        """See Store."""
        try:
            with closing(self._database.cursor()) as cursor:
                file = cursor.execute("SELECT spec FROM file_models ORDER BY position").fetchall()
                overrides = cursor.execute("SELECT change FROM overrides ORDER BY position").fetchall()
            return Registry(
                tuple(msgspec.json.decode(row[0], type=ModelSpec) for row in file),
                tuple(msgspec.json.decode(row[0], type=Override) for row in overrides),
            )
        except (sqlite3.Error, msgspec.DecodeError) as exc:
            raise StoreUnavailable(f"registry {self._path}: cannot be read: {exc}") from exc

    def save(self, registry: Registry) -> None:
        """See Store."""
        file = [(at, msgspec.json.encode(spec)) for at, spec in enumerate(registry.file)]
        overrides = [(at, msgspec.json.encode(change)) for at, change in enumerate(registry.overrides)]
        try:
            with closing(self._database.cursor()) as cursor:
                cursor.execute("BEGIN IMMEDIATE")
                try:
                    cursor.execute("DELETE FROM file_models")
                    cursor.executemany("INSERT INTO file_models VALUES (?, ?)", file)
                    cursor.execute("DELETE FROM overrides")
                    cursor.executemany("INSERT INTO overrides VALUES (?, ?)", overrides)
                except BaseException:
                    cursor.execute("ROLLBACK")
                    raise
                cursor.execute("COMMIT")
        except sqlite3.Error as exc:
            raise StoreUnavailable(f"registry {self._path}: cannot be written: {exc}") from exc

    def close(self) -> None:
        """See Store."""
        self._database.close()

    def _prepare(self) -> None:
        with closing(self._database.cursor()) as cursor:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
            layout = cursor.execute("PRAGMA user_version").fetchone()[0]
            if layout == 0:
                cursor.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {LAYOUT}; COMMIT;")
            elif layout != LAYOUT:
                raise StoreUnavailable(f"expected layout {LAYOUT}, found {layout}")
