"""Pictures as they are posted to predict."""

import base64
import tracemalloc
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridges.requests import Options
from bridges.rest import predict
from bridges.rest.predict import Posted
from inferoxy.config import LimitSettings
from inferoxy.errors import Code, InferoxyError, InvalidRequest, PayloadTooLarge
from inferoxy.messages import Sequence, Tensor
from tests.unit.pictures import bomb, encoded

LIMITS = LimitSettings(pictures_per_request=4)
JPEG, PNG = encoded("JPEG", 64, 48), encoded("PNG", 10, 20)


def read(content_type: str, body: bytes) -> predict.Pictures:
    return predict.read_pictures(content_type.encode(), memoryview(body), LIMITS)


def posted(item: Posted | InferoxyError) -> Posted:
    assert isinstance(item, Posted), item
    return item


def refused(item: Posted | InferoxyError) -> InferoxyError:
    assert isinstance(item, InferoxyError)
    return item


def form(*parts: tuple[str, bytes]) -> bytes:
    body = b"".join(b"--XX\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n" for head, data in parts)
    return body + b"--XX--\r\n"


def file(data: bytes, name: str = "f", kind: str = "image/jpeg") -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"; filename="{name}.jpg"\r\nContent-Type: {kind}', data


@pytest.mark.parametrize(
    "content_type", ["image/jpeg", "image/jpeg; q=1", "IMAGE/JPEG", "application/octet-stream", "", "image/png"]
)
def test_raw_body_is_one_picture_whose_bytes_say_what_it_is(content_type: str) -> None:
    found = read(content_type, JPEG)
    picture = posted(found.items[0])
    assert (found.is_list, picture.tensor) == (False, Tensor("", "UINT8", (48, 64, 3), encoding="jpeg"))
    assert bytes(picture.frame) == JPEG
    assert picture.size == {"width": 64, "height": 48}


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "image/gif", "nonsense"])
def test_other_content_types_are_refused_with_those_that_are_accepted(content_type: str) -> None:
    with pytest.raises(InferoxyError, match="expected image/jpeg, image/png") as caught:
        read(content_type, JPEG)
    assert caught.value.code is Code.UNSUPPORTED_MEDIA_TYPE


def test_form_files_are_pictures_in_order_and_other_fields_parameters() -> None:
    body = form(
        file(JPEG, "b"), ('Content-Disposition: form-data; name="confidence"', b"0.5"), file(PNG, "a", "image/png")
    )
    found = read("multipart/form-data; boundary=XX", body)
    assert [posted(item).tensor.encoding for item in found.items] == ["jpeg", "png"]
    assert (found.is_list, found.parameters) == (True, {"confidence": 0.5})


def test_one_bad_file_does_not_disturb_the_others() -> None:
    found = read("multipart/form-data; boundary=XX", form(file(b"no"), file(JPEG), file(bomb()), file(b"", "d")))
    assert refused(found.items[0]).code is Code.INVALID_REQUEST
    assert bytes(posted(found.items[1]).frame) == JPEG
    assert refused(found.items[2]).code is Code.PAYLOAD_TOO_LARGE
    assert "'d.jpg': expected JPEG, PNG or WebP bytes, found none" in refused(found.items[3]).message


def test_file_of_another_type_is_refused_alone() -> None:
    found = read("multipart/form-data; boundary=XX", form(file(b"x", kind="text/plain"), file(JPEG)))
    assert refused(found.items[0]).code is Code.UNSUPPORTED_MEDIA_TYPE
    assert posted(found.items[1])


@pytest.mark.parametrize(
    ("content_type", "body", "message"),
    [
        ("multipart/form-data", form(file(JPEG)), "boundary"),
        ("multipart/form-data; boundary=", form(file(JPEG)), "boundary"),
        ("multipart/form-data; boundary=YY", form(file(JPEG)), "multipart/form-data"),
        ("multipart/form-data; boundary=" + "X" * 500, b"", "multipart/form-data"),
        ("multipart/form-data; boundary=XX", form(file(JPEG))[:-8], "closing boundary"),
        ("multipart/form-data; boundary=XX", b"", "closing boundary"),
        ("multipart/form-data; boundary=XX", b"--XX--\r\n", "at least one file"),
        ("multipart/form-data; boundary=XX", form(("Content-Type: image/jpeg", JPEG)), "no name"),
        ("multipart/form-data; boundary=XX", form(('Content-Disposition: form-data; name="a"', b"1")), "at least one"),
    ],
)
def test_malformed_forms_are_refused(content_type: str, body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        read(content_type, body)


def test_more_pictures_than_allowed_are_refused() -> None:
    with pytest.raises(PayloadTooLarge, match="at most 4 in one request, found 5"):
        read("multipart/form-data; boundary=XX", form(*[file(JPEG)] * 5))
    with pytest.raises(PayloadTooLarge, match="at most 4 in one request, found 5"):
        read("application/json", msgspec.json.encode({"images": ["x"] * 5}))


@given(st.binary(max_size=300))
def test_arbitrary_forms_raise_only_our_errors(body: bytes) -> None:
    try:
        read("multipart/form-data; boundary=XX", b"--XX\r\n" + body)
    except InferoxyError:
        pass


def json_of(content: Any) -> predict.Pictures:
    return read("application/json; charset=utf-8", msgspec.json.encode(content))


@pytest.mark.parametrize("prefix", ["", "data:image/jpeg;base64,"])
def test_base64_is_a_picture_file(prefix: str) -> None:
    found = json_of({"image": prefix + base64.b64encode(JPEG).decode(), "parameters": {"k": [1]}})
    assert bytes(posted(found.items[0]).frame) == JPEG
    assert (found.parameters, found.is_list) == ({"k": [1]}, False)


def test_nested_lists_are_a_raw_picture() -> None:
    picture = posted(json_of({"image": [[[1, 2, 3], [4, 5, 255]]]}).items[0])
    assert picture.tensor == Tensor("", "UINT8", (1, 2, 3))
    assert bytes(picture.frame) == b"\1\2\3\4\5\xff"


def test_images_are_answered_as_a_list_and_fail_alone() -> None:
    found = json_of({"images": [base64.b64encode(PNG).decode(), "%%%", [[[0, 0, 0]]], 7]})
    assert found.is_list
    assert [isinstance(item, Posted) for item in found.items] == [True, False, True, False]
    assert refused(found.items[1]).message.startswith("images[1]: expected base64")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "expected one of image and images, found neither"),
        ({"image": "eA==", "images": []}, "found both"),
        ({"images": []}, "expected at least one"),
        ({"inputs": []}, "tensors are posted to /v2/models"),
        ({"image": "x", "extra": 1}, "extra"),
        ([], "as JSON"),
        ({"image": None}, "expected base64 or nested lists, found null"),
        ({"image": "eA"}, "expected base64"),
        ({"image": "é"}, "expected base64"),
        ({"image": "eA=="}, "expected JPEG, PNG or WebP"),
        ({"image": ""}, "found none"),
        ({"image": [[[1, 2]]]}, r"found shape \[1, 1, 2\]"),
        ({"image": [[1, 2, 3]]}, r"found shape \[1, 3\]"),
        ({"image": [[[1, 2, 3], [1, 2]]]}, "nested lists of equal lengths"),
        ({"image": [[[1.5, 2, 3]]]}, "float"),
        ({"image": [[["a", "b", "c"]]]}, "integers"),
        ({"image": [[[1, 2, 256]]]}, r"expected 0..255, found 1..256"),
        ({"image": [[[-1, 2, 3]]]}, r"expected 0..255, found -1..3"),
        ({"image": [[[2**70, 2, 3]]]}, "image"),
        ({"image": []}, "image"),
        ({"image": [[]]}, "image"),
        ({"image": [[[True, False, True]]]}, "integers"),
        ({"image": "eA==", "parameters": []}, "parameters"),
    ],
)
def test_wrong_json_is_refused_with_what_was_found(content: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        json_of(content)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"image": "\\ud800"}', b"nul"])
def test_malformed_json_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read("application/json", body)


def test_query_fields_of_ours_are_options_and_others_typed_parameters() -> None:
    options, parameters = predict.read_query(
        b"version=2&timeout_ms=1.5&priority=-3&confidence=0.5&n=10&draw=true&name=a%20b&c=1&c=x&e="
    )
    assert options == Options("2", 1_500, -3)
    assert parameters == {"confidence": 0.5, "n": 10, "draw": True, "name": "a b", "c": [1, "x"], "e": ""}


def test_of_several_pictures_the_first_starts_the_sequence_and_the_last_ends_it() -> None:
    options = Options(priority=3, sequence=Sequence(7, True, True))
    steps = [predict.step_options(options, at == 0, at == 2) for at in range(3)]
    assert [step.sequence for step in steps] == [Sequence(7, True), Sequence(7), Sequence(7, end=True)]
    assert {step.priority for step in steps} == {3}
    assert predict.step_options(options, True, True).sequence == Sequence(7, True, True)
    assert predict.step_options(Options(), True, False) == Options()


@pytest.mark.parametrize(("name", "id"), [("7", 7), ("cam-1", "cam-1"), ("007", "007"), (str(2**64), str(2**64))])
def test_the_end_of_a_sequence_has_its_id_in_the_path(name: str, id: int | str) -> None:
    options = predict.read_end(name, b"version=2&timeout_ms=1500&priority=4")
    assert options == Options("2", 1_500_000, 4, Sequence(id, end=True))


@pytest.mark.parametrize(
    ("name", "query", "words"),
    [
        ("", b"", "sequence_id: expected 1..256 characters, found 0"),
        ("x" * 257, b"", "sequence_id: expected 1..256 characters, found 257"),
        ("7", b"reason=idle", "query: expected version, timeout_ms or priority, found 'reason'"),
        ("7", b"sequence_id=7", "query: expected version, timeout_ms or priority, found 'sequence_id'"),
        ("7", b"timeout_ms=-1", "timeout_ms: expected 0.."),
    ],
)
def test_an_end_with_anything_else_is_refused(name: str, query: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        predict.read_end(name, query)


def test_query_can_name_a_sequence() -> None:
    assert predict.read_query(b"sequence_id=7&sequence_start=true")[0].sequence == Sequence(7, True)
    assert predict.read_query(b"sequence_id=18446744073709551615")[0].sequence == Sequence(2**64 - 1)
    assert predict.read_query(b"sequence_id=cam-1&sequence_end=true")[0].sequence == Sequence("cam-1", False, True)
    assert predict.read_query(b"sequence_id=007")[0].sequence == Sequence("007")


@pytest.mark.parametrize(
    "query",
    [
        b"timeout_ms=x", b"timeout_ms=-1", b"timeout_ms=1e12", b"timeout_ms=nan", b"timeout_ms=true", b"priority=1.5",
        b"priority=99999999", b"timeout_ms=1&timeout_ms=2", b"sequence_start=true", b"sequence_id=a&sequence_start=2",
        b"&".join([b"a=1"] * 300),
    ],
)  # fmt: skip
def test_wrong_query_is_refused(query: bytes) -> None:
    with pytest.raises(InvalidRequest):
        predict.read_query(query)


@given(st.binary(max_size=60))
def test_arbitrary_queries_raise_only_our_errors(query: bytes) -> None:
    try:
        predict.read_query(query)
    except InferoxyError:
        pass


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", ""),
        ("*/*", ""),
        ("application/json", ""),
        ("image/jpeg", "jpeg"),
        ("image/png", "png"),
        ("image/*", "jpeg"),
        ("image/png, image/jpeg", "png"),
        ("image/png;q=0.5, image/jpeg", "jpeg"),
        ("image/avif,image/webp,*/*;q=0.8", ""),
        ("application/json, image/png", ""),
        ("application/json;q=0.1, image/png", "png"),
        ("image/png;q=0, */*", ""),
        ("image/gif", ""),
        ("IMAGE/PNG", "png"),
    ],
)
def test_accept_header_says_whether_a_drawn_picture_is_wanted(accept: str, expected: str) -> None:
    assert predict.wanted_picture(accept.encode()) == expected


def test_text_among_a_pictures_numbers_is_refused_before_it_becomes_an_array() -> None:
    content = msgspec.json.encode({"image": ["a" * 100_000] + ["b"] * 100_000})
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequest, match=r"image: expected \[height\]\[width\]\[3\] integers"):
            predict.read_pictures(b"application/json", memoryview(content), LimitSettings())
        assert tracemalloc.get_traced_memory()[1] < 20 * len(content)
    finally:
        tracemalloc.stop()
