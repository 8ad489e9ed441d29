"""Claims about the Python client against a real stack: the same answers and errors over every protocol."""

import asyncio
import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from inferoxy.client import AsyncClient, Client, Detections, Prediction, Size
from inferoxy.errors import (
    Code,
    DeadlineExceeded,
    InferoxyError,
    InvalidRequest,
    ModelError,
    ModelNotFound,
    ModelUnavailable,
)
from tests.integration.client_models import PROTOCOLS, SAMPLE, colour, serve, url_of
from tests.integration.stack import Stack

TRUNCATED = SAMPLE.read_bytes()[:5000]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    yield from serve(tmp_path_factory.mktemp("models"))


@pytest.fixture(params=PROTOCOLS)
def url(stack: Stack, request: pytest.FixtureRequest) -> str:
    return url_of(stack, request.param)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as opened:
        yield opened


def everything(found: Any) -> tuple[Any, ...]:
    assert isinstance(found, Detections)
    return (
        found.boxes.tolist(),
        found.confidence.tolist(),
        found.class_id.tolist(),
        found.class_name,
        found.image_size,
    )


# The same answers


@pytest.mark.parametrize("form", ["path", "bytes", "array"])
def test_the_same_picture_gives_the_same_detections_over_every_protocol(stack: Stack, form: str) -> None:
    array = cv2.cvtColor(cv2.imread(str(SAMPLE)), cv2.COLOR_BGR2RGB)
    picture: Any = {"path": SAMPLE, "bytes": SAMPLE.read_bytes(), "array": array}[form]
    found = []
    for protocol in PROTOCOLS:
        with Client(url_of(stack, protocol)) as client:
            found.append(client.predict("detector", picture))
    assert len(found[0]) >= 5
    assert found[0].image_size == Size(array.shape[1], array.shape[0])
    assert everything(found[0]) == everything(found[1]) == everything(found[2])


def test_async_clients_find_what_blocking_ones_find(client: Client, url: str) -> None:
    async def find() -> Any:
        async with AsyncClient(url) as other:
            return await other.predict("detector", SAMPLE, confidence=0.5)

    assert everything(asyncio.run(find())) == everything(client.predict("detector", SAMPLE, confidence=0.5))


def test_parameters_reach_the_model(client: Client) -> None:
    found = client.predict("mean", colour(1, 2, 3), text="a b", code="007", number=3, share=0.25, flag=True)
    assert found.value["known"] == {"text": "a b", "code": "007", "number": 3, "share": 0.25, "flag": True}


def test_numpy_scalars_are_numbers(client: Client) -> None:
    found = client.predict("mean", colour(1, 2, 3), number=np.int64(3), share=np.float64(0.25), flag=np.bool_(True))
    assert found.value["known"] == {"number": 3, "share": 0.25, "flag": True}


def test_parameters_may_be_anything_that_json_can_hold(client: Client) -> None:
    parameters: dict[str, Any] = {"classes": np.array([1, 2]), "area": {"x": (1, 2.5)}, "nothing": None, "big": 2**60}
    known = client.predict("mean", colour(1, 2, 3), **parameters).value["known"]
    assert known == {"classes": [1, 2], "area": {"x": [1, 2.5]}, "nothing": None, "big": 2**60}


def test_parameters_that_cannot_travel_are_refused(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="parameter"):
        client.predict("mean", colour(1, 2, 3), thing=object())
    with pytest.raises(InvalidRequest, match="parameter"):
        client.infer("scale", {"IN": np.zeros((1, 4), np.float32)}, parameters={"thing": 2**70})


def test_an_array_arrives_as_it_is(client: Client) -> None:
    array = np.random.default_rng(3).integers(0, 256, (61, 47, 3), np.uint8)
    found = client.predict("mean", array)
    assert isinstance(found, Prediction)
    assert found.value["mean"] == array.mean((0, 1)).tolist()
    assert (found.value["shape"], found.image_size) == ([61, 47, 3], Size(47, 61))
    assert (found.model, found.version) == ("mean", "1")


@pytest.mark.parametrize("count", [0, 1, 500, 600, 2_000])
def test_arrays_of_any_size_are_answered_with_their_own_each_time(client: Client, count: int) -> None:
    for letter in "ab":  # the second request is described as the first
        words = np.array([letter.encode()] * count, object)
        found = client.infer("words", {"WORDS": words})
        assert found["UPPER"].tolist() == [letter.upper().encode()] * count
        assert found["LENGTH"].dtype == np.int64
        assert found["LENGTH"].tolist() == [1] * count


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_the_size_of_a_turned_picture_is_the_one_the_model_sees(client: Client, form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    target = io.BytesIO()
    Image.new("RGB", (37, 21), (1, 2, 3)).save(target, form, exif=exif)
    found = client.predict("mean", target.getvalue())
    assert found.value["shape"] == [37, 21, 3]
    assert found.image_size == Size(21, 37)


def test_an_answer_says_how_it_was_served(client: Client) -> None:
    found = client.predict("detector", SAMPLE)
    assert found.served.compute_ms > 0
    assert found.served.batch_size >= 1
    assert found.served.closed
    assert found.served.instance.startswith("detector-")
    assert len(found.request_id) == 16


@pytest.mark.parametrize(("draw", "magic"), [("jpeg", b"\xff\xd8\xff"), ("png", b"\x89PNG")])
def test_the_drawn_picture_comes_with_the_detections(client: Client, draw: Any, magic: bytes) -> None:
    found = client.predict("detector", SAMPLE, draw=draw, confidence=0.5)
    assert everything(found) == everything(client.predict("detector", SAMPLE, confidence=0.5))
    assert found.picture is not None
    assert found.picture.startswith(magic)
    drawn = cv2.imdecode(np.frombuffer(found.picture, np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == cv2.imread(str(SAMPLE)).shape


def test_a_model_that_draws_nothing_still_gives_its_prediction(client: Client) -> None:
    found = client.predict("mean", colour(9, 9, 9), draw="png", blind=True)
    assert (found.value["mean"], found.picture) == ([9.0, 9.0, 9.0], None)


def test_several_pictures_keep_their_order(client: Client) -> None:
    found = client.predict("mean", [colour(level, 0, 0) for level in range(40)])
    assert [answer.value["mean"][0] for answer in found] == list(range(40))
    assert client.predict("mean", []) == []


def test_several_pictures_fail_with_the_first_one_that_does(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="truncated"):
        client.predict("mean", (colour(1, 2, 3), TRUNCATED, SAMPLE))


def test_tensors_come_back_under_their_names(client: Client) -> None:
    array = np.arange(8, dtype=np.float32).reshape(2, 4)
    result = client.infer("scale", {"IN": array})
    assert sorted(result) == ["DOUBLE", "SUM"]
    assert np.array_equal(result["DOUBLE"], array * 2)
    assert result["SUM"].tolist() == [[6.0], [22.0]]
    assert result["SUM"].flags.writeable
    assert (result.model, result.version) == ("scale", "1")
    assert result.served.batch_size >= 1
    assert list(client.infer("scale", {"IN": array}, outputs=["SUM"])) == ["SUM"]


def test_words_travel_as_bytes(client: Client) -> None:
    result = client.infer("words", {"WORDS": ["ab", "ünï", ""]})
    assert result["UPPER"].tolist() == [b"AB", "ünï".encode().upper(), b""]
    assert result["LENGTH"].tolist() == [2, 5, 0]


def test_a_model_that_answers_several_times_gives_all_its_answers(client: Client) -> None:
    found = client.predict("count", colour(0, 0, 0))
    assert found.value["step"] == 3
    assert [part.value["step"] for part in found.parts] == [1, 2, 3]
    assert [part.value["step"] for part in client.predict_all("count", colour(0, 0, 0))] == [1, 2, 3]


@pytest.mark.parametrize("protocol", ["grpc", "zmq"])
def test_tensors_of_a_model_that_answers_several_times_come_one_by_one(stack: Stack, protocol: str) -> None:
    inputs = {"FROM": np.array([4], np.int32)}

    async def awaited() -> list[Any]:
        async with AsyncClient(url_of(stack, protocol)) as client:
            return [result["NOW"].item() for result in await client.infer_all("countdown", inputs)]

    with Client(url_of(stack, protocol)) as client:
        for _ in range(2):  # over gRPC the first try finds out that there may be several
            assert [result["NOW"].item() for result in client.infer_all("countdown", inputs)] == [4, 3, 2, 1]
        assert [part["NOW"].item() for part in client.infer("countdown", inputs).parts] == [4, 3, 2, 1]
        assert client.infer_all("countdown", {"FROM": np.array([0], np.int32)}) == []
        with pytest.raises(ModelError, match="10 is too high"):
            client.infer("countdown", {"FROM": np.array([10], np.int32)})
        with pytest.raises(InvalidRequest, match="FROM"):
            client.infer("countdown", {"OTHER": np.array([1], np.int32)})
    assert asyncio.run(awaited()) == [4, 3, 2, 1]


# Errors


def test_an_unknown_model_or_version_is_not_found(client: Client) -> None:
    with pytest.raises(ModelNotFound, match="nobody"):
        client.predict("nobody", SAMPLE)
    with pytest.raises(ModelNotFound, match="nobody"):
        client.infer("nobody", {"IN": np.zeros((1, 4), np.float32)})
    with pytest.raises(ModelNotFound, match="'7'"):
        client.predict("mean", SAMPLE, version="7")


def test_bad_input_is_an_invalid_request_that_names_what_was_expected(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="'IN': expected datatype FP32, found FP64"):
        client.infer("scale", {"IN": np.zeros((1, 4))})
    with pytest.raises(InvalidRequest, match="OTHER"):
        client.infer("scale", {"OTHER": np.zeros((1, 4), np.float32)})
    with pytest.raises(InvalidRequest, match="truncated"):
        client.predict("detector", TRUNCATED)
    with pytest.raises(InvalidRequest, match="confidence"):
        client.predict("detector", SAMPLE, confidence=7.0)


def test_a_picture_that_claims_to_be_enormous_is_refused(client: Client) -> None:
    bomb = bytearray(cv2.imencode(".png", colour(0, 0, 0))[1].tobytes())
    bomb[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(InferoxyError, match="60000x60000") as caught:
        client.predict("mean", bytes(bomb))
    assert caught.value.code is Code.PAYLOAD_TOO_LARGE


def test_what_the_model_raises_is_a_model_error_with_its_message(client: Client) -> None:
    with pytest.raises(ModelError, match="ValueError: anger 9"):
        client.predict("mean", colour(0, 0, 0), anger=9)
    assert client.predict("mean", colour(5, 5, 5)).value["mean"] == [5.0, 5.0, 5.0]


def test_a_model_that_cannot_be_loaded_is_unavailable_and_says_why(client: Client) -> None:
    with pytest.raises(ModelUnavailable, match="the weights are not there") as caught:
        client.predict("broken", colour(0, 0, 0), timeout_s=20.0)
    assert not isinstance(caught.value, ConnectionError)
    assert not client.is_ready("broken")


def test_a_timeout_ends_the_wait(client: Client) -> None:
    client.predict("mean", colour(0, 0, 0))
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        client.predict("mean", colour(0, 0, 0), sleep_s=1.0, timeout_s=0.2)
    assert time.monotonic() - began < 0.95


def test_arguments_out_of_range_are_refused(client: Client) -> None:
    for wrong in ({"timeout_s": 0}, {"timeout_s": -1.0}, {"priority": -1}, {"priority": 1000}, {"draw": "gif"}):
        with pytest.raises(InvalidRequest, match=f"{next(iter(wrong))}: expected"):
            client.predict("mean", colour(0, 0, 0), **wrong)
    with pytest.raises(InvalidRequest, match="model: expected a name"):
        client.predict("", colour(0, 0, 0))


def test_errors_are_the_same_for_async_clients(url: str) -> None:
    async def fail() -> None:
        async with AsyncClient(url) as client:
            with pytest.raises(ModelNotFound, match="nobody"):
                await client.predict("nobody", SAMPLE)
            with pytest.raises(ModelError, match="anger 4"):
                await client.predict("mean", colour(0, 0, 0), anger=4)
            with pytest.raises(InvalidRequest, match="'IN'"):
                await client.infer("scale", {"IN": np.zeros((1, 4))})
            with pytest.raises(DeadlineExceeded):
                await client.predict("mean", colour(0, 0, 0), sleep_s=0.6, timeout_s=0.2)

    asyncio.run(fail())


# Models


def test_models_are_listed_and_ready_when_a_request_would_be_run(client: Client) -> None:
    client.infer("scale", {"IN": np.zeros((1, 4), np.float32)})
    found = {model.name: model for model in client.models()}
    assert set(found) >= {"mean", "scale", "words", "count", "broken", "detector"}
    assert [(spec.name, spec.datatype, spec.shape) for spec in found["scale"].inputs] == [("IN", "FP32", (-1, 4))]
    assert found["scale"].ready
    assert client.is_ready()
    assert client.is_ready("detector")
    assert client.is_ready("mean", version="1")
    assert not client.is_ready("mean", version="2")
    assert not client.is_ready("nobody")


# Many at once


def test_sixty_four_threads_that_share_a_client_get_their_own_answers(client: Client) -> None:
    def work(thread: int) -> None:
        for step in range(5):
            value = (thread * 5 + step) % 256
            if step % 5 == 4:
                with pytest.raises(ModelError, match=f"anger {value + 1}"):
                    client.predict("mean", colour(value, thread, step), anger=value + 1)
            else:
                assert client.predict("mean", colour(value, thread, step)).value["mean"] == [value, thread, step]

    with ThreadPoolExecutor(64) as pool:
        for future in [pool.submit(work, thread) for thread in range(64)]:
            future.result()


def test_tasks_that_share_a_client_get_their_own_answers(url: str) -> None:
    async def work() -> None:
        async with AsyncClient(url) as client:
            answers = await asyncio.gather(*(client.predict("mean", colour(level, 0, 7)) for level in range(60)))
            assert [answer.value["mean"][0] for answer in answers] == list(range(60))
            several = await client.predict("mean", [colour(level, 0, 0) for level in range(20)])
            assert [answer.value["mean"][0] for answer in several] == list(range(20))

    asyncio.run(work())


def test_a_cancelled_task_leaves_its_client_usable(url: str) -> None:
    async def work() -> None:
        async with AsyncClient(url) as client:
            await client.predict("mean", colour(0, 0, 0))
            slow = asyncio.ensure_future(client.predict("mean", colour(0, 0, 0), sleep_s=0.4))
            await asyncio.sleep(0.1)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            assert (await client.predict("mean", colour(8, 0, 0))).value["mean"][0] == 8

    asyncio.run(work())
