"""Claims about the embedded registry store."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from inferoxy.messages import ModelSpec, Scale
from model_manager.registry import Registry
from model_manager.stores.base import StoreUnavailable
from model_manager.stores.sqlite_store import SqliteStore

REGISTRY = (
    Registry()
    .with_file([ModelSpec(name="a", address="x", instances=Scale(1, 2)), ModelSpec(name="b", address="y")])
    .with_spec(ModelSpec(name="c", artifact="/m.onnx", options={"k": [1, 2.5, None]}, source="admin"))
    .without("b")
)

# Saves registries of 1, 2, 3, … models until it is killed.
_WRITER = """
import sys
from pathlib import Path
from inferoxy.messages import ModelSpec
from model_manager.registry import Registry
from model_manager.stores.sqlite_store import SqliteStore
store = SqliteStore(Path(sys.argv[1]))
for count in range(1, 10_000):
    store.save(Registry(tuple(ModelSpec(name=f"m{n}", address="x", batch_size=count) for n in range(count))))
    print(count, flush=True)
"""


def test_a_saved_registry_is_loaded_by_the_next_process(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "r.sqlite3")) as store:
        assert store.load() == Registry()
        store.save(REGISTRY)
    with closing(SqliteStore(tmp_path / "r.sqlite3")) as store:
        assert store.load() == REGISTRY
        store.save(Registry())
        assert store.load() == Registry()


def test_the_folder_is_made_when_missing(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "deep" / "er" / "r.sqlite3").close()
    assert (tmp_path / "deep" / "er" / "r.sqlite3").exists()


def test_a_writer_killed_at_any_moment_leaves_the_last_whole_registry(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite3"
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    with writer.stdout:
        for _ in range(40):
            said = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        last = max([said, *map(int, writer.stdout.read().split())])
    writer.wait()
    with closing(SqliteStore(path)) as store:
        models = store.load().models
    assert len(models) in (last, last + 1)  # a save that was done but not yet announced counts
    assert {m.batch_size for m in models} == {len(models)}


def test_a_file_that_is_no_registry_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite3"
    path.write_bytes(b"not a database at all, but long enough to look at" * 50)
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match="move it away to start with an empty one"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_registry_of_a_newer_layout_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite3"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreUnavailable, match="expected layout 1, found 99"):
        SqliteStore(path)


def test_a_locked_database_fails_the_save_and_keeps_the_last_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_manager.stores.sqlite_store.BUSY_TIMEOUT_S", 0.05)
    path = tmp_path / "r.sqlite3"
    with closing(SqliteStore(path)) as store, closing(sqlite3.connect(path)) as other:
        store.save(REGISTRY)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="cannot be written"):
            store.save(Registry())
        other.rollback()
        assert store.load() == REGISTRY
