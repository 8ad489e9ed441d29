"""The REST bridge without its connections: its handlers, and what becomes of their exchanges."""

import os
import re
import zlib

import msgspec

from bridges.rest.answers import HttpAnswer
from bridges.rest.exchange import Exchange, Outcome
from bridges.rest.handlers import Handlers
from bridges.rest.v2_body import HEADER_LENGTH
from bridges.v2_regions import FOLDER, Regions
from inferoxy.errors import Code, InferoxyError, error_from
from tests.fuzz.world import LIMITS, Fault, World

REGION_BYTES = 64
_LINE = re.compile(rb"[a-z0-9-]+: [\x20-\x7e]*\r\n")
_STRICT = msgspec.json.Decoder()


class Rest:
    """Handlers with all the world behind them."""

    def __init__(self) -> None:
        self.world = World()
        self.handlers = Handlers(self.world.models, lambda: True, LIMITS, make_regions())

    def answer(self, exchange: Exchange) -> HttpAnswer | None:
        """Send the exchange's requests and make its answer; None when a request has to wait.

        Raises:
            InferoxyError: The answer is an error.
            Fault: The answer is not as HTTP has it.
        """
        outcomes: list[Outcome] = []
        for call in exchange.calls:
            if isinstance(call, InferoxyError):
                outcomes.append(call)
                continue
            answers = self.world.serve(*call)
            if not answers or not answers[-1].response.final:
                return None
            response = answers[-1].response
            outcomes.append(error_from(response.code, response.error) if response.code else answers)
        answer = exchange.finish(outcomes)
        check(answer)
        if exchange.pack is not None:
            _check_packed(exchange.pack(answer), answer)
        if answer.status >= 500:
            raise Fault(f"answered {answer.status}: {bytes(answer.parts[0])[:300]!r}")
        if answer.status != 200:
            raise InferoxyError(f"answered {answer.status}", Code.INVALID_REQUEST)
        return answer


def make_regions() -> Regions:
    """Shared memory with one region `r`, whose object nobody else can find any more."""
    key = f"inferoxy-fuzz-{os.getpid()}"
    path = FOLDER / key
    path.write_bytes(bytes(REGION_BYTES))
    try:
        regions = Regions(is_allowed=True)
        regions.register("r", key, 0, REGION_BYTES)
    finally:
        path.unlink()
    return regions


def _check_packed(packed: HttpAnswer, plain: HttpAnswer) -> None:
    body = b"".join(packed.parts)
    if int(dict(packed.headers)[b"content-length"]) != len(body):
        raise Fault("a compressed answer is not as long as its Content-Length")
    if zlib.decompress(body, zlib.MAX_WBITS | 32) != b"".join(plain.parts):
        raise Fault("a compressed answer is another one")


def check(answer: HttpAnswer) -> None:
    """Raise Fault unless an answer's headers are lines and its body is as long as they say, and JSON where they say."""
    rest = _LINE.sub(b"", answer.lines)
    if rest:
        raise Fault(f"answered with a header that is no line: {rest[:200]!r}")
    headers = dict(answer.headers)
    body = b"".join(answer.parts)
    if int(headers[b"content-length"]) != len(body):
        raise Fault(f"answered {len(body)} bytes with Content-Length {headers[b'content-length']!r}")
    head = body[: int(headers.get(HEADER_LENGTH, len(body)))]
    if not headers[b"content-type"].startswith(b"image/"):
        try:
            _STRICT.decode(head)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise Fault(f"answered what is no JSON ({exc}): {head[:200]!r}") from exc
