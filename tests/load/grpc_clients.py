"""Clients of the gRPC bridge: both of its services, single calls and streams, and calls that are cancelled.

Each has a channel of its own, and so a connection.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import cv2
import grpc
import numpy as np

from inferoxy.client.png import stored_png
from protos import inference_pb2 as v2
from protos import inferoxy_v1_pb2 as v1
from tests.drill.flows import CONNECTION
from tests.drill.grpc_port import METHOD, OPTIONS, GrpcPort
from tests.drill.questions import DATATYPE, INPUT, Question, doubled, elements_of
from tests.load.talk import TIMEOUT_S, WRONG, Place, Said, Turn, double, fault_of_look, judged, picture, steps

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
PREDICT, VIDEO = "/inferoxy.v1.Inferoxy/Predict", "/inferoxy.v1.Inferoxy/Stream"
OWN = (*OPTIONS, ("grpc.use_local_subchannel_pool", 1))  # else all channels of a process share a connection
STEPS, TOGETHER, TIMES, FRAMES = 4, 3, 3, 6


def unary(place: Place) -> Turn:
    """ModelInfer."""
    port = GrpcPort(place.addresses["grpc"])
    ready = asyncio.ensure_future(port.open())

    async def turn() -> Said:
        await ready
        question = double(next(place.numbers))
        return judged(question, await port.ask(question))

    return turn


def sequences(place: Place) -> Turn:
    """Whole sequences over ModelInfer, one after the other."""
    port = GrpcPort(place.addresses["grpc"])
    ready = asyncio.ensure_future(port.open())
    left: list[Question] = []

    async def turn() -> Said:
        await ready
        left[:] = left or steps(place, STEPS)
        question = left.pop(0)
        said = judged(question, await port.ask(question))
        if said.code:
            left.clear()
        return said

    return turn


def streams(place: Place) -> Turn:
    """ModelStreamInfer: several requests at once to a model that answers each three times, and a bad one among them."""
    call = _channel(place).stream_stream(
        STREAM, v2.ModelInferRequest.SerializeToString, v2.ModelStreamInferResponse.FromString
    )

    async def turn() -> Said:
        numbers = [next(place.numbers) for _ in range(TOGETHER)]
        asked = [_infer_request("repeat", elements_of(n, 8), str(n)) for n in numbers]
        bad = v2.ModelInferRequest(model_name="repeat", id="bad")
        found: dict[str, list[Any]] = {}
        try:
            async for said in call(_each([*asked, bad]), timeout=TIMEOUT_S):
                found.setdefault(said.infer_response.id, []).append(said)
        except grpc.aio.AioRpcError as exc:
            return _failed(exc)
        if [bool(said.error_message) for said in found.pop("bad", [])] != [True]:
            return Said(WRONG, "a request without inputs was not refused once")
        for number in numbers:
            expected = [(elements_of(number, 8) * times).tobytes() for times in range(1, TIMES + 1)]
            answers = found.pop(str(number), [])
            given = [b"".join(said.infer_response.raw_output_contents) for said in answers]
            if [data for data in given if data] != expected or any(said.error_message for said in answers):
                return Said(WRONG, f"expected {TIMES} answers, found {[str(said)[:200] for said in answers]}")
        return Said(WRONG, f"answers to nobody: {found}") if found else Said()

    return turn


def pictures(place: Place) -> Turn:
    """inferoxy.v1 Predict, with the picture drawn."""
    call = _channel(place).unary_unary(PREDICT, v1.PredictRequest.SerializeToString, v1.Answer.FromString)

    async def turn() -> Said:
        number = next(place.numbers)
        asked = v1.PredictRequest(model="look", draw=v1.DRAW_PNG, parameters_json=json.dumps({"mark": number}))
        asked.picture.encoded = stored_png(picture(number))
        try:
            answer = await call(asked, timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as exc:
            return _failed(exc)
        drawn = cv2.imdecode(np.frombuffer(answer.drawn, np.uint8), cv2.IMREAD_COLOR_RGB)
        if not np.array_equal(drawn, 255 - picture(number)):
            return Said(WRONG, "another picture came back")
        fault = fault_of_look(json.loads(answer.prediction_json), number)
        return Said(WRONG, fault) if fault else Said()

    return turn


def videos(place: Place) -> Turn:
    """inferoxy.v1 Stream: frames of which each answer carries its number."""
    call = _channel(place).stream_stream(VIDEO, v1.StreamRequest.SerializeToString, v1.StreamResponse.FromString)

    async def turn() -> Said:
        numbers = [next(place.numbers) for _ in range(FRAMES)]
        asked = [v1.StreamRequest(start=v1.StreamStart(model="look", window=4))]
        for number in numbers:
            frame = v1.Frame(number=number, parameters_json=json.dumps({"mark": number}))
            frame.picture.encoded = stored_png(picture(number))
            asked.append(v1.StreamRequest(frame=frame))
        try:
            answers = [said async for said in call(_each(asked), timeout=TIMEOUT_S)]
        except grpc.aio.AioRpcError as exc:
            return _failed(exc)
        if [said.frame for said in answers] != numbers:
            return Said(WRONG, f"expected frames {numbers}, found {[said.frame for said in answers]}")
        for said in answers:
            if said.WhichOneof("outcome") != "answer":
                return Said(said.error.code or WRONG, said.error.message)
            fault = fault_of_look(json.loads(said.answer.prediction_json), said.frame)
            if fault:
                return Said(WRONG, fault)
        return Said()

    return turn


def cancelled(place: Place) -> Turn:
    """Calls and streams that are cancelled before they have ended."""
    channel = _channel(place)
    single = channel.unary_unary(METHOD, v2.ModelInferRequest.SerializeToString, v2.ModelInferResponse.FromString)
    stream = channel.stream_stream(
        STREAM, v2.ModelInferRequest.SerializeToString, v2.ModelStreamInferResponse.FromString
    )

    async def turn() -> Said:
        number = next(place.numbers)
        asked = _infer_request("double", elements_of(number, 16), str(number))
        call = single(asked) if number % 2 else stream(_each([asked] * 4))
        await asyncio.sleep(number % 5 * 0.002)
        call.cancel()
        try:
            if number % 2:
                answer = await call
                right = doubled(elements_of(number, 16)).tobytes()
                return Said() if answer.raw_output_contents[0] == right else Said(WRONG, "another's answer")
            async for _ in call:
                pass
        except asyncio.CancelledError:
            return Said()
        except grpc.aio.AioRpcError as exc:
            return Said() if exc.code() is grpc.StatusCode.CANCELLED else _failed(exc)
        return Said()

    return turn


BAD: list[Callable[[], Any]] = [
    lambda: v2.ModelInferRequest(model_name="double"),
    lambda: v2.ModelInferRequest(model_name="nobody"),
    lambda: v2.ModelInferRequest(model_name="double", raw_input_contents=[b"x"]),
    lambda: _infer_request("double", elements_of(1, 16), "x" * 200_000, cut=3),
    lambda: _infer_request("double", elements_of(1, 16), "x", datatype="FP99"),
]
REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


def bad_inputs(place: Place) -> Turn:
    """Sends what must be refused, and expects to be told so."""
    call = _channel(place).unary_unary(METHOD, v2.ModelInferRequest.SerializeToString, v2.ModelInferResponse.FromString)

    async def turn() -> Said:
        asked = BAD[next(place.numbers) % len(BAD)]()
        try:
            await call(asked, timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as exc:
            return Said() if exc.code() in REFUSALS and exc.details() else _failed(exc)
        return Said(WRONG, f"was not refused: {str(asked)[:200]}")

    return turn


def _channel(place: Place) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(place.addresses["grpc"], OWN)


async def _each(messages: list[Any]) -> AsyncIterator[Any]:
    for message in messages:
        yield message


def _infer_request(model: str, elements: Any, name: str, *, datatype: str = DATATYPE, cut: int = 0) -> Any:
    tensor = v2.ModelInferRequest.InferInputTensor(name=INPUT, datatype=datatype, shape=(1, len(elements)))
    data = elements.tobytes()
    return v2.ModelInferRequest(
        model_name=model, id=name, inputs=[tensor], raw_input_contents=[data[: len(data) - cut]]
    )


def _failed(exc: grpc.aio.AioRpcError) -> Said:
    said = dict(exc.trailing_metadata() or ())
    return Said(str(said.get("x-inferoxy-code", CONNECTION)), f"{exc.code().name}: {exc.details()}")
