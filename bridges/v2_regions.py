"""System shared memory that clients have registered, and the tensors in it.

Read and written by file offset, never mapped: an object that its owner cuts short gives an error, not a signal.
Registrations are this process's: those of one bridge are not known to another, and end with it.
Invariant: nothing outside the registered window is read or written, and nothing outside the folder of POSIX shared
memory is opened.

Source: Triton's extension "system shared memory".
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bridges.requests import TEXT_LIMIT
from inferoxy.config import Settings, split_address
from inferoxy.errors import Code, InferoxyError, InvalidRequest, PayloadTooLarge

FOLDER = Path("/dev/shm")  # where POSIX shared memory lies
MAX_REGIONS = 4_096
_KEY = re.compile(r"/?([^/\0]{1,255})")
_LIMIT = 2**63 - 1


class Place(NamedTuple):
    """Where a tensor lies, in bytes from the beginning of a region's window."""

    region: str
    size: int
    offset: int


class Region(NamedTuple):
    """A registered window of a shared-memory object, in bytes."""

    name: str
    key: str
    offset: int
    byte_size: int


def place_of(what: str, parameters: Mapping[str, Any]) -> Place | None:
    """The place that a tensor's parameters name, or None.

    Args:
        what: The tensor, for messages.
        parameters: Its parameters, as plain values.

    Raises:
        InvalidRequest: One of the three parameters is missing or not of its type.
    """
    region = parameters.get("shared_memory_region")
    size, offset = parameters.get("shared_memory_byte_size"), parameters.get("shared_memory_offset", 0)
    if region is None:
        if size is not None:
            raise InvalidRequest(f"{what}: expected shared_memory_region with shared_memory_byte_size, found none")
        return None
    if not isinstance(region, str):
        raise InvalidRequest(f"{what}: expected the name of a shared_memory_region, found {repr(region)[:80]}")
    if size is None:
        raise InvalidRequest(f"{what}: expected shared_memory_byte_size with shared_memory_region, found none")
    return Place(
        region, _number(f"{what}: shared_memory_byte_size", size), _number(f"{what}: shared_memory_offset", offset)
    )


def regions_for(settings: Settings, address: str) -> "Regions":
    """An empty table for a bridge, with what its clients may do.

    Whoever may name shared memory may read and write any object there that the bridge's user may, so unless a setting
    says otherwise only programs of this machine may.

    Args:
        settings: Of the whole stack.
        address: HOST:PORT that the bridge listens on.
    """
    host = split_address(address)[0]
    is_local = host in ("localhost", "::1") or host.startswith("127.")
    allowed = settings.v2.shared_memory
    return Regions(is_local if allowed is None else allowed, int(settings.limits.body_mib * 2**20))


class Regions:
    """The regions that clients of one bridge have registered.

    Args:
        is_allowed: Whether clients may register any.
        limit_bytes: Most bytes that one request may have there.
    """

    def __init__(self, is_allowed: bool, limit_bytes: int = _LIMIT) -> None:
        self._is_allowed = is_allowed
        self._limit_bytes = limit_bytes
        self._open: dict[str, tuple[Region, int]] = {}

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Open a shared-memory object and remember a window of it under a name.

        Raises:
            InvalidRequest: There is no such object, or the window does not fit it.
            InferoxyError: ALREADY_EXISTS, there is a region of this name; UNSUPPORTED, there may be none.
        """
        if not self._is_allowed:
            why = "shared memory: not allowed on this server; the setting v2.shared_memory allows it"
            raise InferoxyError(why, Code.UNSUPPORTED)
        what = f"shared memory region {name[:TEXT_LIMIT]!r}"
        if not 0 < len(name) <= TEXT_LIMIT:
            raise InvalidRequest(f"region: expected a name of 1..{TEXT_LIMIT} characters, found {len(name)}")
        if name in self._open:
            raise InferoxyError(f"{what} already exists", Code.ALREADY_EXISTS)
        if len(self._open) >= MAX_REGIONS:
            raise InvalidRequest(f"{what}: expected at most {MAX_REGIONS} regions, found as many already")
        offset, byte_size = _number(f"{what}: offset", offset), _number(f"{what}: byte_size", byte_size)
        if not byte_size:
            raise InvalidRequest(f"{what}: expected a byte_size above 0, found 0")
        file = _open(what, key)
        size = os.fstat(file).st_size
        if offset + byte_size > size:
            os.close(file)
            raise InvalidRequest(
                f"{what}: expected offset and byte_size within the {size} bytes of {key[:80]!r}, "
                f"found {offset} and {byte_size}"
            )
        self._open[name] = (Region(name, key, offset, byte_size), file)

    def unregister(self, name: str = "") -> None:
        """Forget a region, or all; one that is not there is no error."""
        for known in [name] if name else list(self._open):
            found = self._open.pop(known, None)
            if found is not None:
                os.close(found[1])

    def status(self, name: str = "") -> list[Region]:
        """A region, or all.

        Raises:
            InvalidRequest: There is none of this name.
        """
        if not name:
            return [region for region, _ in self._open.values()]
        return [self._find(name)[0]]

    def read(self, place: Place, before: int = 0) -> memoryview:
        """A tensor's bytes as they are now.

        Args:
            place: Where.
            before: Bytes that the request's other tensors have in regions.

        Raises:
            InvalidRequest: No such region, or the place is not within it or no longer within the object.
            PayloadTooLarge: It is too much for one request.
        """
        file, at = self._locate(place)
        if before + place.size > self._limit_bytes:
            raise PayloadTooLarge(
                f"shared memory: expected at most {self._limit_bytes} bytes in one request, found {before + place.size}"
            )
        data = np.empty(place.size, np.uint8).data
        done = 0
        while done < place.size:
            count = os.preadv(file, [data[done:]], at + done)
            if not count:
                raise InvalidRequest(
                    f"shared memory region {place.region!r}: expected {place.size} bytes at {place.offset}, "
                    f"found {done}: the object was cut short"
                )
            done += count
        return data.toreadonly()

    def check(self, place: Place, size: int, what: str) -> None:
        """See whether a tensor fits its place.

        Raises:
            InvalidRequest: It does not, or `read` would not find the place.
        """
        file, at = self._locate(place)
        if size > place.size:
            raise InvalidRequest(f"{what}: expected a shared_memory_byte_size of at least {size}, found {place.size}")
        if at + size > os.fstat(file).st_size:
            raise InvalidRequest(f"{what}: shared memory region {place.region!r} was cut short")

    def write(self, place: Place, data: memoryview) -> None:
        """Put a tensor's bytes where `check` found room for them.

        Raises:
            InvalidRequest: The region went in between, or may only be read.
        """
        file, at = self._locate(place)
        try:
            while data:
                count = os.pwrite(file, data, at)
                data, at = data[count:], at + count
        except OSError as exc:
            raise InvalidRequest(f"shared memory region {place.region!r}: cannot be written: {exc.strerror}") from exc

    def _locate(self, place: Place) -> tuple[int, int]:
        region, file = self._find(place.region)
        if place.offset + place.size > region.byte_size:
            raise InvalidRequest(
                f"shared memory region {region.name!r}: expected offset and size within its {region.byte_size} bytes, "
                f"found {place.offset} and {place.size}"
            )
        return file, region.offset + place.offset

    def _find(self, name: str) -> tuple[Region, int]:
        found = self._open.get(name)
        if found is None:
            raise InvalidRequest(f"Unable to find shared memory region: {name[:TEXT_LIMIT]!r} is not registered")
        return found


def _open(what: str, key: str) -> int:
    match = _KEY.fullmatch(key)
    if match is None or match[1] in (".", ".."):
        raise InvalidRequest(f"{what}: expected the name of a POSIX shared-memory object as key, found {key[:80]!r}")
    path = FOLDER / match[1]
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe of that name must not block
    try:
        try:
            file = os.open(path, os.O_RDWR | flags)
        except PermissionError:
            file = os.open(path, os.O_RDONLY | flags)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not a file name"
        raise InvalidRequest(f"{what}: Unable to open shared memory object {key[:80]!r}: {reason}") from exc
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise InvalidRequest(f"{what}: expected {key[:80]!r} to be a shared-memory object, found something else")
    return file


def _number(what: str, found: Any) -> int:
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= _LIMIT:
        raise InvalidRequest(f"{what}: expected an integer of 0..2^63-1, found {repr(found)[:80]}")
    return found
