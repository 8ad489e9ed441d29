"""Shared-memory tensors: slots in mapped files that the writer of a request owns and its readers map.

A bridge owns an Arena: it receives bodies straight into slots, and gives instances slots to write large outputs into.
An instance holds an ArenaView: it maps the segments that headers name and reads and writes in place. Nothing is shared
between processes but the bytes: only the owner allocates and releases, so no lock crosses a process.
Segments lie in one folder per model, so that an instance can be shown its own model's and no other's.

Invariants: a slot is either free, or owned by exactly one request; a slot that somebody unaccounted for may still
touch is retired: never handed out again, and its segment file is unlinked as soon as its other slots are free, so that
a late reader or writer touches memory that nobody else looks at. Offsets are multiples of ALIGNMENT.
"""

import bisect
import ctypes
import fcntl
import hashlib
import math
import mmap
import os
import re
import secrets
from collections import OrderedDict, deque
from pathlib import Path

from inferoxy.errors import InvalidRequest
from inferoxy.messages import Slot

ALIGNMENT = 64  # bytes; a cache line, and what vector instructions like
SLOT_MIN_BYTES = 65_536  # smaller tensors travel in frames
SEGMENT_BYTES = 32 << 20  # a segment holds as many slots of its class as fit here, at least one
SPARE_SEGMENTS = 1  # free segments of a class that are kept for the next burst
MAPPED_AT_MOST = 256  # segments a view keeps mapped
_PAGE = mmap.PAGESIZE
_SEGMENT_NAME = re.compile(r"[0-9a-f]{16}/[0-9a-f-]{1,40}\.[0-9]{1,12}")

# Four classes to each doubling: at most a fifth of a slot is wasted.
SIZE_CLASSES: tuple[int, ...] = tuple(
    (SLOT_MIN_BYTES << power) * quarter // 4 for power in range(16) for quarter in (4, 5, 6, 7)
)


def arena_root(data_dir: Path, stack: str) -> Path:
    """The folder of a stack's segments: under /dev/shm where there is one, else in the data directory."""
    shm = Path("/dev/shm")
    if shm.is_dir() and os.access(shm, os.W_OK):
        return shm / f"inferoxy-{stack}"
    return data_dir / "run" / "arena"


def model_folder(root: Path, model: str) -> Path:
    """The folder of one model's segments."""
    return root / hashlib.sha256(model.encode()).hexdigest()[:16]


def size_class(size: int) -> int:
    """The smallest class that holds `size` bytes; the size itself, in whole pages, beyond the largest class."""
    at = bisect.bisect_left(SIZE_CLASSES, size)
    return SIZE_CLASSES[at] if at < len(SIZE_CLASSES) else math.ceil(size / _PAGE) * _PAGE


class OwnedSlot:
    """A slot while a request owns it. `view` is its memory, from `address` on, `slot` what a header says of it."""

    __slots__ = ("address", "segment", "slot", "view")

    def __init__(self, segment: "Segment", slot: Slot) -> None:
        self.segment = segment
        self.slot = slot
        self.view = segment.view[slot.offset : slot.offset + slot.size]
        self.address = segment.address + slot.offset


class Segment:
    """One mapped file of equal slots; `key` is its model and slot size."""

    __slots__ = ("address", "free", "is_closing", "key", "map", "name", "path", "size", "used", "view")

    def __init__(self, path: Path, key: tuple[str, int], count: int) -> None:
        self.path = path
        self.key = key
        self.name = f"{path.parent.name}/{path.name}"
        self.size = key[1] * count
        self.used = 0
        self.is_closing = False
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # Reserve the memory now: a full /dev/shm must fail here, not as SIGBUS in the middle of a request.
            os.posix_fallocate(fd, 0, self.size)
            os.fchmod(fd, 0o666)  # a container's user must map it; who sees the model's folder decides who may
            self.map = mmap.mmap(fd, self.size)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(fd)
        self.view = memoryview(self.map)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        self.free: deque[int] = deque(range(0, self.size, key[1]))

    def close(self) -> None:
        """Unlink the file; its memory goes when the last mapping does."""
        self.path.unlink(missing_ok=True)
        try:
            self.view.release()
            self.map.close()
        except BufferError:
            pass  # somebody still looks at a slot; the mapping ends with that view


class Arena:
    """The segments of one owner process. Not thread-safe: one loop owns it.

    Args:
        root: The stack's arena folder.
        limit_bytes: Most memory that all segments of this owner may take.
    """

    def __init__(self, root: Path, limit_bytes: int) -> None:
        self.root = root
        self.limit_bytes = limit_bytes
        self.owner = f"{os.getpid()}-{secrets.token_hex(4)}"
        self.bytes = 0
        self.refused = 0
        self._number = 0
        self._segments: dict[str, Segment] = {}
        self._open: dict[tuple[str, int], dict[str, Segment]] = {}  # those with free slots
        self._folders: set[Path] = set()
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(0o711)
        self._lock = os.open(root / f"{self.owner}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def take(self, model: str, size: int) -> OwnedSlot | None:
        """A slot of `size` bytes for this model, or None when the arena is full: send the bytes in frames then.

        Its content is whatever was there before.
        """
        key = (model, size_class(size))
        open_segments = self._open.get(key)
        if open_segments:
            segment = next(reversed(open_segments.values()))
        else:
            grown = self._grow(key)
            if grown is None:
                self.refused += 1
                return None
            segment = grown
        offset = segment.free.pop()  # the slot released last: its pages are warm
        if not segment.free:
            del self._open[key][segment.name]
        segment.used += 1
        return OwnedSlot(segment, Slot(segment.name, offset, size))

    def release(self, slot: OwnedSlot) -> None:
        """Nobody reads or writes this slot any more."""
        segment = slot.segment
        segment.used -= 1
        if segment.is_closing:
            self._drop_if_unused(segment)
            return
        segment.free.append(slot.slot.offset)
        open_segments = self._open.setdefault(segment.key, {})
        open_segments[segment.name] = segment
        if not segment.used and sum(not s.used for s in open_segments.values()) > SPARE_SEGMENTS:
            self._drop(segment)

    def retire(self, slot: OwnedSlot) -> None:
        """Somebody unaccounted for may still touch this slot: never hand it out again, and give up its segment."""
        segment = slot.segment
        segment.used -= 1
        segment.is_closing = True
        self._open.get(segment.key, {}).pop(segment.name, None)
        self._drop_if_unused(segment)

    def usage(self) -> dict[str, int]:
        """For `inferoxy status`: bytes taken from the system and in used slots, slots in use, takes refused."""
        segments = self._segments.values()
        return {
            "bytes": self.bytes,
            "limit_bytes": self.limit_bytes,
            "used_bytes": sum(s.used * s.key[1] for s in segments),
            "used_slots": sum(s.used for s in segments),
            "segments": len(segments),
            "refused": self.refused,
        }

    def close(self) -> None:
        """Unlink everything of this owner."""
        for segment in list(self._segments.values()):
            self._drop(segment)
        (self.root / f"{self.owner}.lock").unlink(missing_ok=True)
        os.close(self._lock)
        for folder in [*self._folders, self.root]:
            try:
                folder.rmdir()
            except OSError:
                pass  # another owner's segments are in it

    def _grow(self, key: tuple[str, int]) -> Segment | None:
        model, slot_bytes = key
        count = max(1, SEGMENT_BYTES // slot_bytes)
        if self.bytes + slot_bytes * count > self.limit_bytes:
            for spare in [s for s in self._segments.values() if not s.used]:
                self._drop(spare)
            count = min(count, (self.limit_bytes - self.bytes) // slot_bytes)
            if count < 1:
                return None
        folder = model_folder(self.root, model)
        self._number += 1
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._folders.add(folder)
            segment = Segment(folder / f"{self.owner}.{self._number}", key, count)
        except OSError:
            return None  # /dev/shm is full
        self._segments[segment.name] = segment
        self._open.setdefault(key, {})[segment.name] = segment
        self.bytes += segment.size
        return segment

    def _drop_if_unused(self, segment: Segment) -> None:
        if not segment.used:
            self._drop(segment)

    def _drop(self, segment: Segment) -> None:
        self._segments.pop(segment.name, None)
        self._open.get(segment.key, {}).pop(segment.name, None)
        self.bytes -= segment.size
        segment.close()


class ArenaView:
    """The segments of others, mapped on first use.

    Args:
        root: The stack's arena folder, or the place where a container sees its model's part of it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._maps: OrderedDict[str, memoryview] = OrderedDict()

    def open(self, slot: Slot) -> memoryview:
        """The slot's memory, writable; it stays valid as long as it is referenced.

        Raises:
            InvalidRequest: No such segment, or the slot is not inside it.
        """
        mapped = self._maps.get(slot.segment)
        if mapped is None:
            mapped = self._map(slot.segment)
        else:
            self._maps.move_to_end(slot.segment)
        if slot.offset < 0 or slot.size < 0 or slot.offset + slot.size > len(mapped):
            raise InvalidRequest(
                f"slot: expected one inside {slot.segment} of {len(mapped)} bytes, "
                f"found {slot.size} bytes at {slot.offset}"
            )
        return mapped[slot.offset : slot.offset + slot.size]

    def _map(self, name: str) -> memoryview:
        if not _SEGMENT_NAME.fullmatch(name):
            raise InvalidRequest(f"slot: {name!r} is not the name of a segment")
        try:
            fd = os.open(self.root / name, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as exc:
            raise InvalidRequest(f"slot: segment {name} cannot be mapped: {exc.strerror}") from exc
        try:
            mapped = memoryview(mmap.mmap(fd, 0))
        finally:
            os.close(fd)
        self._forget_unlinked()
        self._maps[name] = mapped
        return mapped

    def _forget_unlinked(self) -> None:
        """Let go of segments whose owner has given them up; views still in use keep their memory."""
        for name in [n for n in self._maps if not (self.root / n).exists()]:
            del self._maps[name]
        while len(self._maps) >= MAPPED_AT_MOST:
            self._maps.popitem(last=False)


class SlotWriter:
    """Lays pieces of data into one slot, one behind the other, each aligned."""

    def __init__(self, slot: Slot, memory: memoryview) -> None:
        self._slot = slot
        self._memory = memory
        self._used = -slot.offset % ALIGNMENT

    def put(self, data: bytes | memoryview) -> Slot | None:
        """Copy the data in; where it lies now, or None when it does not fit any more."""
        start = self._used
        end = start + len(data)
        if end > len(self._memory):
            return None
        self._memory[start:end] = data
        self._used = end + (-end % ALIGNMENT)
        return Slot(self._slot.segment, self._slot.offset + start, len(data))


def reclaim(root: Path) -> int:
    """Unlink the segments of owners that have died; returns how many files went."""
    dead, gone = set(), 0
    for lock in root.glob("*.lock"):
        try:
            fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # it lives
        else:
            dead.add(lock.stem)
            lock.unlink(missing_ok=True)
        finally:
            os.close(fd)
    for segment in root.glob("*/*"):
        if segment.name.partition(".")[0] in dead:
            segment.unlink(missing_ok=True)
            gone += 1
    return gone
