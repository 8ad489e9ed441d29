"""`POST /v1/models/{name}/predict`: pictures in whatever form they are posted, detections or the drawn picture back.

Pure. What a picture may be is picture_gate.py's.
Invariants: a picture that is refused does not disturb the others of its request; whatever the body is, only
InferoxyError is raised.
"""

import base64
import binascii
import re
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl

import msgspec
import numpy as np
from msgspec import UNSET, Raw, Struct, UnsetType

from bridges import picture_gate
from bridges.requests import TIMEOUT_LIMIT_US, Options, check_options
from bridges.rest import json_numbers, multipart
from inferoxy.config import LimitSettings
from inferoxy.errors import Code, InferoxyError, InvalidRequest, PayloadTooLarge
from inferoxy.messages import Sequence, Tensor

RAW_TYPES = frozenset({"", "application/octet-stream", "image/jpeg", "image/jpg", "image/png", "image/webp"})
ACCEPTED = "image/jpeg, image/png, image/webp, application/octet-stream, multipart/form-data or application/json"
MAX_QUERY_FIELDS = 200
MAX_TIMEOUT_MS = TIMEOUT_LIMIT_US // 1_000

_INTEGER = re.compile(r"[+-]?\d{1,18}")
_NUMBER = re.compile(r"[+-]?(\d{1,30}\.?\d{0,30}|\.\d{1,30})([eE][+-]?\d{1,3})?")
_SEQUENCE_NUMBER = re.compile(r"[1-9]\d{0,19}")
_WORDS = {"true": True, "false": False}
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,")


class Posted(NamedTuple):
    """One picture of a request, ready to send."""

    tensor: Tensor
    frame: Any

    @property
    def size(self) -> dict[str, int]:
        """Its sides in pixels."""
        return {"width": self.tensor.shape[1], "height": self.tensor.shape[0]}


class Pictures(NamedTuple):
    """What a body holds. `is_list` tells that the answer is a list, of one element perhaps."""

    items: list[Posted | InferoxyError]
    parameters: dict[str, Any]
    is_list: bool


class _Body(Struct, forbid_unknown_fields=True):
    image: Raw | UnsetType = UNSET
    images: list[Raw] | UnsetType = UNSET
    parameters: dict[str, Any] = {}


_DECODER = msgspec.json.Decoder(_Body)
_TEXT = msgspec.json.Decoder(str)


def read_query(query: bytes) -> tuple[Options, dict[str, Any]]:
    """The query string as (how to serve the request, parameters for the model).

    `timeout_ms`, `priority`, `version`, `sequence_id`, `sequence_start` and `sequence_end` are ours; everything else
    goes to the model, numbers and true/false as such, a repeated field as a list.

    Raises:
        InvalidRequest: One of ours is out of range or no number.
    """
    if not query:
        return Options(), {}
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError as exc:
        raise InvalidRequest(f"query: {exc}") from exc
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    timeout_ms = _typed(_single(found, "timeout_ms", "0"))
    if isinstance(timeout_ms, bool | str) or not 0 <= timeout_ms <= MAX_TIMEOUT_MS:
        raise InvalidRequest(f"timeout_ms: expected 0..{MAX_TIMEOUT_MS} milliseconds, found {str(timeout_ms)[:40]}")
    priority = _typed(_single(found, "priority", "0"))
    if type(priority) is not int:
        raise InvalidRequest(f"priority: expected an integer, found {str(priority)[:40]!r}")
    version = _single(found, "version", "")
    options = check_options(Options(version, int(timeout_ms * 1e3), priority, _sequence(found)))
    parameters = {k: [_typed(v) for v in vs] if len(vs) > 1 else _typed(vs[0]) for k, vs in found.items()}
    return options, parameters


def read_end(name: str, query: bytes) -> Options:
    """The options of a request that only ends a sequence.

    Args:
        name: The sequence's id, as the path has it.
        query: May hold `version`, `timeout_ms` and `priority`.

    Raises:
        InvalidRequest: There is anything else in it, or one is out of range.
    """
    options, others = read_query(query)
    if others or options.sequence is not None:
        found = next(iter(others), "sequence_id")
        raise InvalidRequest(f"query: expected version, timeout_ms or priority, found {found[:80]!r}")
    return check_options(options._replace(sequence=Sequence(_sequence_id(name), end=True)))


def step_options(options: Options, is_first: bool, is_last: bool) -> Options:
    """The options of one of several pictures: only the first one starts their sequence, only the last one ends it."""
    step = options.sequence
    if step is None or (is_first and is_last):
        return options
    return options._replace(sequence=Sequence(step.id, step.start and is_first, step.end and is_last))


def wanted_picture(accept: bytes) -> Literal["", "jpeg", "png"]:
    """The encoding in which an Accept header wants the drawn picture; empty: JSON is wanted."""
    accept = accept.lower()
    if b"image/" not in accept:
        return ""
    ranked: list[tuple[float, int, str]] = []
    for place, item in enumerate(accept.decode("latin-1").split(",")):
        media, _, rest = item.partition(";")
        quality = re.search(r"(?:^|;)\s*q=([01](?:\.\d{0,3})?)\s*(?:;|$)", rest)
        ranked.append((-float(quality[1]) if quality else -1.0, place, media.strip()))
    for quality_, _, media in sorted(ranked):
        if quality_ < 0:
            if media in ("application/json", "application/*", "*/*"):
                return ""
            if media in ("image/jpeg", "image/jpg", "image/*"):
                return "jpeg"
            if media == "image/png":
                return "png"
    return ""


def read_pictures(content_type: bytes, body: memoryview, limits: LimitSettings) -> Pictures:
    """The pictures in a body.

    Raises:
        InferoxyError: The content type is none of ours, the body is malformed, or its only picture is refused.
    """
    media = content_type.partition(b";")[0].strip().decode("latin-1").lower()
    if media in RAW_TYPES:
        return Pictures([_encoded(body, limits, "picture")], {}, is_list=False)
    if media == "multipart/form-data":
        return _from_form(multipart.split(body, multipart.boundary_of(content_type)), limits)
    if media == "application/json" or media.endswith("+json"):
        return _from_json(body, limits)
    raise InferoxyError(f"Content-Type: expected {ACCEPTED}, found {media[:80]}", Code.UNSUPPORTED_MEDIA_TYPE)


def _from_form(parts: list[multipart.Part], limits: LimitSettings) -> Pictures:
    """Files are pictures, whatever their field is called; fields that are not files are parameters."""
    items: list[Posted | InferoxyError] = []
    parameters: dict[str, Any] = {}
    are_files = [p.filename is not None or p.content_type in RAW_TYPES - {""} for p in parts]
    _check_count(sum(are_files), limits)
    for part, is_file in zip(parts, are_files, strict=True):
        if not is_file:
            parameters[part.name] = _typed(part.data.decode("utf-8", "replace"))
            continue
        what = f"file {(part.filename or part.name)[:100]!r}"
        if part.content_type not in RAW_TYPES:
            why = f"{what}: expected {picture_gate.FORMATS}, found Content-Type {part.content_type[:80]}"
            items.append(InferoxyError(why, Code.UNSUPPORTED_MEDIA_TYPE))
        else:
            items.append(_attempt(_encoded, memoryview(part.data), limits, what))
    if not items:
        raise InvalidRequest("body: expected at least one file with a picture, found none")
    return Pictures(items, parameters, is_list=True)


def _from_json(body: memoryview, limits: LimitSettings) -> Pictures:
    try:
        found = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        hint = "; tensors are posted to /v2/models/{name}/infer" if "`inputs`" in str(exc) else ""
        raise InvalidRequest(f"body: expected {{'image': …}} or {{'images': […]}} as JSON ({exc}){hint}") from exc
    if found.image is not UNSET and found.images is not UNSET:
        raise InvalidRequest("body: expected one of image and images, found both")
    if found.image is not UNSET:
        return Pictures([_one(found.image, limits, "image")], found.parameters, is_list=False)
    if found.images is UNSET:
        raise InvalidRequest("body: expected one of image and images, found neither")
    _check_count(len(found.images), limits)
    if not found.images:
        raise InvalidRequest("images: expected at least one, found none")
    items = [_attempt(_one, value, limits, f"images[{at}]") for at, value in enumerate(found.images)]
    return Pictures(items, found.parameters, is_list=True)


def _attempt(read: Any, value: Any, limits: LimitSettings, what: str) -> Posted | InferoxyError:
    try:
        posted: Posted = read(value, limits, what)
    except InferoxyError as exc:
        return exc
    return posted


def _one(value: Raw, limits: LimitSettings, what: str) -> Posted:
    """A picture in JSON: base64 of an encoded one, or rows of [red, green, blue]."""
    text = bytes(value).lstrip()
    if text.startswith(b"["):
        return _array(text, limits, what)
    if not text.startswith(b'"'):
        raise InvalidRequest(f"{what}: expected base64 or nested lists, found {text[:20].decode('utf-8', 'replace')}")
    try:
        encoded = _TEXT.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise InvalidRequest(f"{what}: expected base64 of a {picture_gate.FORMATS} file ({exc})") from exc
    prefix = _DATA_URL.match(encoded)
    try:
        data = base64.b64decode(encoded[prefix.end() :] if prefix else encoded, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidRequest(f"{what}: expected base64 of a {picture_gate.FORMATS} file ({exc})") from exc
    return _encoded(memoryview(data), limits, what)


def _array(text: bytes, limits: LimitSettings, what: str) -> Posted:
    try:
        array = json_numbers.read(text)
    except InvalidRequest as exc:
        raise InvalidRequest(f"{what}: expected [height][width][3] integers ({exc.message})") from exc
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype.kind not in "iu":
        raise InvalidRequest(
            f"{what}: expected [height][width][3] integers, found shape {list(array.shape)} of {array.dtype.name[:20]}"
        )
    if array.dtype != np.uint8:
        raise InvalidRequest(f"{what}: expected 0..255, found {array.min()}..{array.max()}")
    height, width, _ = array.shape
    picture_gate.check_size(width, height, limits, what)
    return Posted(Tensor("", "UINT8", (height, width, 3)), array.reshape(-1).data)


def _encoded(data: memoryview, limits: LimitSettings, what: str) -> Posted:
    return Posted(picture_gate.examine(data, limits, what).tensor(), data)


def _check_count(found: int, limits: LimitSettings) -> None:
    if found > limits.pictures_per_request:
        raise PayloadTooLarge(f"pictures: expected at most {limits.pictures_per_request} in one request, found {found}")


def _sequence(found: dict[str, list[str]]) -> Sequence | None:
    sequence_id = _single(found, "sequence_id", "")
    flags: dict[str, bool] = {}
    for name in ("sequence_start", "sequence_end"):
        flag = _typed(_single(found, name, "false"))
        if not isinstance(flag, bool):
            raise InvalidRequest(f"{name}: expected true or false, found {str(flag)[:40]!r}")
        flags[name] = flag
    if sequence_id:
        return Sequence(_sequence_id(sequence_id), flags["sequence_start"], flags["sequence_end"])
    if any(flags.values()):
        raise InvalidRequest("sequence_id: expected with sequence_start or sequence_end, found none")
    return None


def _sequence_id(text: str) -> int | str:
    """An id in a URL: a number where it looks like one, as in JSON."""
    is_number = _SEQUENCE_NUMBER.fullmatch(text) and int(text) < 2**64
    return int(text) if is_number else text


def _single(found: dict[str, list[str]], name: str, default: str) -> str:
    values = found.pop(name, [default])
    if len(values) > 1:
        raise InvalidRequest(f"{name}: expected once, found {len(values)} times")
    return values[0]


def _typed(text: str) -> Any:
    """A number or true/false where the text is one; else the text."""
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    return _WORDS.get(text.lower(), text)
