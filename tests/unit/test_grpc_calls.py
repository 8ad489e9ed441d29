"""Reading messages."""

import pytest

from bridges.grpc import calls
from inferoxy.config import LimitSettings
from inferoxy.errors import InvalidRequest, PayloadTooLarge
from protos import inference_pb2 as pb


def test_a_message_over_the_limit_is_told_from_one_that_is_none() -> None:
    limits = LimitSettings(body_mib=0.001)
    with pytest.raises(PayloadTooLarge, match=r"at most 1049 bytes \(limits.body_mib\), found 2000"):
        calls.parse(pb.ModelInferRequest, bytes(2_000), limits)
    with pytest.raises(InvalidRequest, match=r"expected inference\.ModelInferRequest"):
        calls.parse(pb.ModelInferRequest, b"\xff", limits)
    assert calls.parse(pb.ModelInferRequest, b"", limits) == pb.ModelInferRequest()
    assert calls.largest_message(LimitSettings(body_mib=3)) == 6 << 20
