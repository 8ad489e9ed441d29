"""What is said on a stream's WebSocket: the query, texts and answers."""

import json
from typing import Any

import pytest

from bridges.rest.stream import MAX_WINDOW, Said, answer, failure, read_text, read_wish, reason
from bridges.results import Output, Result
from inferoxy import messages as m
from inferoxy.errors import InvalidRequest, ModelError

PICTURE = m.Tensor("", "UINT8", (48, 64, 3), encoding="jpeg")
SERVED = m.Served(1_500, 2_500, 4, "full", "i-1", "7", 500)


def test_a_query_without_anything_asks_for_json_in_order_and_drops_nothing() -> None:
    wish = read_wish(b"")
    assert (wish.picture, wish.window, wish.in_order, wish.drops) == ("", 8, True, False)
    assert wish.parameters == {}
    assert wish.sequence_id is None


def test_what_is_not_ours_goes_to_the_model() -> None:
    wish = read_wish(b"draw=png&window=3&order=any&drop=oldest&confidence=0.5&version=2&priority=7&timeout_ms=50")
    assert wish.parameters == {"confidence": 0.5}
    assert (wish.picture, wish.window, wish.in_order, wish.drops) == ("png", 3, False, True)
    assert (wish.options.version, wish.options.priority, wish.options.timeout_us) == ("2", 7, 50_000)


@pytest.mark.parametrize(("query", "expected"), [(b"sequence_id=7", 7), (b"sequence_id=gate%202", "gate 2")])
def test_a_query_may_name_the_sequence_that_the_stream_is(query: bytes, expected: int | str) -> None:
    wish = read_wish(query)
    assert wish.sequence_id == expected
    assert wish.options.sequence is None


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (b"window=0", f"window: expected 1..{MAX_WINDOW} frames, found '0'"),
        (b"window=65", "window: expected 1..64 frames, found '65'"),
        (b"window=many", "window: expected 1..64 frames, found 'many'"),
        (b"window=1&window=2", "window: expected 1..64 frames"),
        (b"window=true", "window: expected 1..64 frames"),
        (b"draw=gif", "draw: expected jpeg or png, found 'gif'"),
        (b"draw=0", "draw: expected jpeg or png, found '0'"),
        (b"order=sometimes", "order: expected sent or any, found 'sometimes'"),
        (b"drop=newest", "drop: expected oldest, found 'newest'"),
        (b"drop=oldest&drop=oldest", "drop: expected oldest"),
        (b"sequence_id=7&sequence_start=true", "expected neither, the connection is the sequence"),
        (b"sequence_end=true", "sequence_id: expected with sequence_start or sequence_end"),
    ],
)
def test_a_wrong_query_names_field_expected_and_found(query: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest) as failed:
        read_wish(query)
    assert message in failed.value.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"end": true}', Said(end=True)),
        (b'{"parameters": {"a": [1]}, "id": "x"}', Said(parameters={"a": [1]}, id="x")),
        (b'{"id": 7}', Said(id=7)),
        (b"{}", Said()),
    ],
)
def test_texts_say_what_holds_for_the_frames_behind_them(text: bytes, said: Said) -> None:
    assert read_text(text) == said


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"7", b'{"stop": true}', b'{"end": 1}', b'{"parameters": 7}', b'{"id": 1.5}', b"\xff", b"[" * 100_000,
     b'{"id": "%b"}' % (b"x" * 257)],
)  # fmt: skip
def test_other_texts_are_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_text(text)


def test_an_answer_is_json_with_the_picture_behind_it() -> None:
    drawn = Output(m.Tensor("picture", "UINT8", (48, 64, 3), encoding="png"), memoryview(b"png bytes"))
    text, picture = answer({"frame": 3, "id": "x"}, PICTURE, Result([drawn], {"boxes": []}, {}, SERVED), True)
    assert picture == b"png bytes"
    assert json.loads(text) == {
        "frame": 3, "id": "x", "final": True, "image": {"width": 64, "height": 48}, "prediction": {"boxes": []},
        "picture": "png",
        "served": {
            "queue_ms": 1.5, "compute_ms": 2.5, "decode_ms": 0.5, "batch_size": 4, "closed": "full", "instance": "i-1",
        },
    }  # fmt: skip


def test_an_answer_without_a_picture_is_one_message() -> None:
    (text,) = answer({"frame": 1}, PICTURE, Result([], None, {}, SERVED), False)
    assert json.loads(text)["final"] is False
    assert "picture" not in json.loads(text)


def test_a_prediction_that_json_cannot_hold_is_the_models_error() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ModelError, match="cannot be JSON"):
        answer({"frame": 1}, PICTURE, Result([], circle, {}, SERVED), True)


def test_a_failure_says_of_which_frame_it_is() -> None:
    exc = InvalidRequest("no")
    assert json.loads(failure({"frame": 2}, exc, "rid/2")) == {
        "frame": 2, "final": True, "error": "no", "code": "INVALID_REQUEST", "request_id": "rid/2",
    }  # fmt: skip
    assert json.loads(failure({}, exc, "rid")) == {"error": "no", "code": "INVALID_REQUEST", "request_id": "rid"}


@pytest.mark.parametrize("text", ["short", "x" * 123, "ü" * 200, "x" * 122 + "ü"])
def test_a_reason_fits_into_a_close_frame_and_stays_utf8(text: str) -> None:
    cut = reason(text)
    assert text.startswith(cut)
    assert len(cut.encode()) <= 123
    assert len(cut.encode()) >= min(len(text.encode()), 122)
