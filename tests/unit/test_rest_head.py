"""Which requests the REST hot path takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.models import ModelIndex
from bridges.rest.handlers import Handlers
from bridges.rest.head import MAX_KEPT, HeadReader
from inferoxy import messages as m
from inferoxy.config import LimitSettings
from inferoxy.errors import InferoxyError
from tests.unit.pictures import encoded

JPEG = encoded("JPEG", 64, 48)


@pytest.fixture(scope="module")
def reader() -> HeadReader:
    models = ModelIndex()
    models.update(m.Models(revision=1, models=[m.ModelView(m.ModelSpec(name="p"))], complete=True))
    return HeadReader(Handlers(models, lambda: True, LimitSettings()), 1_000)


def block(*lines: str, target: str = "/v1/models/p/predict", first: str = "POST {} HTTP/1.1") -> bytes:
    return "\r\n".join([first.format(target), "Host: x", *(lines or ("Content-Length: 5",)), "", ""]).encode()


@pytest.mark.parametrize(
    "target",
    [
        "/v1/models/p/predict",
        "/v1/models/p-1.x_y/predict",
        "/v1/models/p/predict?confidence=0.5&name=a%20b",
        "/v1/models/p/predict?",
        "/v2/models/p/infer",
        "/v2/models/p/versions/2/infer",
        "/v2/models/p/infer?x",
    ],
)
def test_plain_inference_posts_are_taken(reader: HeadReader, target: str) -> None:
    head = reader.read(block(target=target))
    assert head is not None
    assert (head.length, head.keeps_alive) == (5, True)
    assert head.headers[b"host"] == b"x"


@pytest.mark.parametrize(
    "target",
    [
        "/", "/v1/models", "/v1/models/p", "/v2/models/p/ready", "/v1/models/p/predict/", "/v1/models/p%2Fq/predict",
        "/v1/models/%70/predict", "/v1/models//predict", "/v1/models/a/b/predict", "http://x/v1/models/p/predict",
        "/v1/models/p/predict#a", "/v1/models/p/predict?a#b", "//v1/models/p/predict", "/V1/models/p/predict",
    ],
)  # fmt: skip
def test_other_targets_are_not(reader: HeadReader, target: str) -> None:
    assert reader.read(block(target=target)) is None


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Type: image/jpeg"],
        ["Content-Length: 1001"],
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: x"],
        ["Content-Length: -5"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked"],
        ["Content-Length: 5", "Content-Encoding: gzip"],
        ["Content-Length: 5", "Expect: 100-continue"],
        ["Content-Length: 5", "Upgrade: websocket"],
        ["Content-Length: 5", "Connection: Upgrade", "Upgrade: websocket"],
        ["Content-Length: 5", "Connection: keep-alive, x"],
        ["Content-Length: 5", "Connection: close", "Connection: keep-alive"],
        ["Content-Length: 5", "bad header"],
        ["Content-Length: 5", " folded: x"],
        ["Content-Length: 5", "X: a\nb"],
    ],
)
def test_unusual_headers_are_not_taken(reader: HeadReader, lines: list[str]) -> None:
    assert reader.read(block(*lines)) is None


@pytest.mark.parametrize(
    "first", ["GET {} HTTP/1.1", "POST {} HTTP/1.0", "POST {} HTTP/2.0", "post {} HTTP/1.1", "POST {}"]
)
def test_only_http_1_1_posts_are_taken(reader: HeadReader, first: str) -> None:
    assert reader.read(block(first=first)) is None


@pytest.mark.parametrize(
    ("value", "keeps"), [("close", False), ("Close", False), ("keep-alive", True), ("Keep-Alive", True)]
)
def test_connection_header_says_whether_it_stays(reader: HeadReader, value: str, keeps: bool) -> None:
    head = reader.read(block("Content-Length: 5", f"Connection: {value}"))
    assert head is not None
    assert head.keeps_alive is keeps


def test_header_leads_to_the_handler_with_its_query_and_headers(reader: HeadReader) -> None:
    head = reader.read(block("Content-Length: 5", "Accept: image/png", target="/v1/models/p/predict?priority=4"))
    assert head is not None
    (call,) = head.start(memoryview(JPEG), "rid").calls
    assert not isinstance(call, InferoxyError)
    assert call[0].priority == 4


def test_meanings_of_headers_are_kept_but_not_without_end(reader: HeadReader) -> None:
    same = block("Content-Length: 5", "X-A: 1")
    assert reader.read(same) is reader.read(same)
    for number in range(3 * MAX_KEPT):
        reader.read(block("Content-Length: 5", f"X-Request-Id: {number}"))
    assert len(reader._kept) <= MAX_KEPT


@given(st.binary(max_size=200))
def test_arbitrary_blocks_are_taken_or_not_but_never_raise(data: bytes) -> None:
    reader = HeadReader(Handlers(ModelIndex(), lambda: True, LimitSettings()), 1_000)
    reader.read(data + b"\r\n\r\n")
    reader.read(b"POST /v2/models/p/infer HTTP/1.1\r\nContent-Length: 5\r\n" + data + b"\r\n\r\n")
