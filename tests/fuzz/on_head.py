"""The headers of HTTP requests on the hot path, with small bodies behind them."""

from random import Random

from bridges.rest.head import HeadReader
from inferoxy.errors import InvalidRequest
from tests.fuzz.mutations import TEXTS, mutate_bytes, mutate_parts
from tests.fuzz.rest import Rest
from tests.fuzz.target import Input

BODY = b'{"inputs":[{"name":"IN","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}'
LINES = (
    b"Host: a", b"Content-Type: application/json", b"Content-Length: %d" % len(BODY), b"Content-Length: -1",
    b"Content-Length: 99999999999999999999", b"Content-Length: 0x10", b"Content-Length: 1, 1",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"Expect: 100-continue", b"Connection: close",
    b"Connection: Upgrade", b"Upgrade: h2c", b"X-Request-Id: abc", b"X-Request-Id: a\tb", b"X-Request-Id: \xff\xfe",
    b"Inference-Header-Content-Length: %d" % len(BODY),
    b"Inference-Header-Content-Length: 99999999999999999999", b"Accept: image/jpeg", b": empty", b"a" * 9_000 + b": b",
    b"Content-Encoding: gzip", b" folded: yes", b"no colon", b"Content-Type: multipart/form-data; boundary=",
)  # fmt: skip
TARGETS = (
    b"/v2/models/rows/infer", b"/v2/models/rows/versions/1/infer", b"/v1/models/picture/predict?confidence=0.5",
    b"/v2/models/%00/infer", b"/v2/models/../infer", b"*", b"http://a/v2/models/rows/infer",
    b"/v2/models/rows/infer?#a",
    b"/v1/models/picture/predict?" + b"a=1&" * 300,
)  # fmt: skip
GOOD = LINES[:3]


class Heads:
    """A header block, and the request that it begins."""

    name = "http headers"

    def __init__(self) -> None:
        self._rest = Rest()
        self._reader = HeadReader(self._rest.handlers, 1 << 26)

    def make(self, chance: Random) -> Input:
        """See Target."""
        method = b"POST" if chance.random() < 0.9 else chance.choice((b"GET", b"PRI", b"post", b"POST ", b"\x16\x03"))
        target = chance.choice(TARGETS[:3]) if chance.random() < 0.7 else chance.choice(TARGETS)
        if chance.random() < 0.2:
            text = chance.choice(TEXTS).encode("utf-8", "surrogatepass")
            target = mutate_bytes(target, chance, [text, *TARGETS])
        version = b"HTTP/1.1" if chance.random() < 0.9 else chance.choice((b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.10", b""))
        lines = list(GOOD)
        for _ in range(chance.choice((0, 0, 1, 1, 2))):
            lines.insert(chance.randint(0, len(lines)), chance.choice(LINES))
        if chance.random() < 0.2:
            lines = mutate_parts(lines, chance)
        block = b"\r\n".join([b" ".join((method, target, version)), *lines, b"", b""])
        return [mutate_bytes(block, chance, LINES) if chance.random() < 0.4 else block, BODY]

    def run(self, given: Input) -> None:
        """See Target. What the hot path does not take is uvicorn's, and counts as refused."""
        block, body = given
        head = self._reader.read(block)
        if head is None:
            raise InvalidRequest("left to uvicorn")
        self._rest.answer(head.start(memoryview(body), "r-1"))
