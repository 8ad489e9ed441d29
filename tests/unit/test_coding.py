"""Compressed bodies and answers."""

import gzip
import zlib

import pytest

from bridges.rest import coding
from bridges.rest.answers import HttpAnswer, answer
from inferoxy.errors import InferoxyError, InvalidRequest, PayloadTooLarge

BODY = bytes(range(256)) * 1_000
PACKED = {"gzip": gzip.compress(BODY), "deflate": zlib.compress(BODY)}


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_a_body_is_what_it_was_before_it_was_compressed(name: str) -> None:
    assert (
        bytes(coding.decode(coding.coding_of(f" {name.upper()} ".encode()), memoryview(PACKED[name]), len(BODY)))
        == BODY
    )


@pytest.mark.parametrize("name", ["gzip", "deflate"])
@pytest.mark.parametrize("broken", [b"", b"x", "cut", "garbage", "trailing", "header"])
def test_what_is_not_whole_is_refused(name: str, broken: bytes | str) -> None:
    packed = PACKED[name]
    sent = {
        "cut": packed[: len(packed) // 2],
        "garbage": packed[:50] + b"\0\xff" * 50 + packed[150:],
        "trailing": packed + b"more",
        "header": packed[:5],
    }
    with pytest.raises(InvalidRequest, match=r"^body: expected"):
        coding.decode(name, memoryview(sent[broken] if isinstance(broken, str) else broken), 1 << 20)


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_a_bomb_is_refused_when_it_passes_the_limit(name: str) -> None:
    zeros = bytes(50 << 20)
    packed = gzip.compress(zeros) if name == "gzip" else zlib.compress(zeros)
    with pytest.raises(PayloadTooLarge, match="at most 1048576 bytes when decompressed"):
        coding.decode(name, memoryview(packed), 1 << 20)
    assert len(coding.decode(name, memoryview(packed), len(zeros))) == len(zeros)


@pytest.mark.parametrize("name", [b"br", b"gzip, deflate", b"zstd", b"\xff"])
def test_other_codings_are_unsupported(name: bytes) -> None:
    with pytest.raises(InferoxyError, match="expected gzip or deflate") as refused:
        coding.coding_of(name)
    assert refused.value.code == "UNSUPPORTED_MEDIA_TYPE"


def test_only_a_header_that_names_one_coding_is_a_wish() -> None:
    for header in (b"", b"identity", b"*", b"gzip, deflate", b"gzip, deflate, br", b"br"):
        assert coding.packer(header) is None


@pytest.mark.parametrize(("name", "unpack"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_a_packed_answer_keeps_its_headers_and_tells_its_new_length(name: str, unpack: object) -> None:
    made = answer(200, b"application/octet-stream", [BODY[:100], memoryview(BODY[100:])], "rid", b"x-more: 1\r\n")
    pack = coding.packer(name.encode())
    assert pack is not None
    packed: HttpAnswer = pack(made)
    headers = dict(packed.headers)
    body = b"".join(packed.parts)
    assert unpack(body) == BODY  # type: ignore[operator]
    assert int(headers[b"content-length"]) == len(body) < len(BODY)
    assert (headers[b"content-encoding"], headers[b"x-more"]) == (name.encode(), b"1")
