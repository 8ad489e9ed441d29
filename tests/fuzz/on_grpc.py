"""Messages of gRPC clients: the Open Inference Protocol's and our own, up to the messages that answer them."""

from random import Random
from typing import Any

from bridges.grpc import calls, pictures
from bridges.grpc.infer import Infer
from bridges.requests import Frames
from bridges.results import Result, read
from bridges.v2 import nothing, only_answer
from inferoxy import messages as m
from inferoxy.errors import error_from
from inferoxy.tensors import DTYPES, encode_strings
from protos import inference_pb2 as v2
from protos import inferoxy_v1_pb2 as v1
from tests.fuzz.messages import mutated
from tests.fuzz.mutations import mutate_bytes
from tests.fuzz.pictures import corpus, mutate_picture
from tests.fuzz.rest import make_regions
from tests.fuzz.target import Input
from tests.fuzz.world import KINDS, LIMITS, World

TYPED = {"BOOL": "bool_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents"}


class Context:
    """What a call tells of itself."""

    def time_remaining(self) -> float | None:
        """Seconds until its deadline."""
        return 10.0


class _Called:
    """Requests that have been read are sent, and their results read."""

    def __init__(self) -> None:
        self.world = World()

    def results(self, request: m.Request, frames: Frames) -> list[Result] | None:
        """What came; None when it has to wait.

        Raises:
            InferoxyError: An error came.
        """
        answers = self.world.serve(request, frames)
        if not answers or not answers[-1].response.final:
            return None
        last = answers[-1].response
        if last.code:
            raise error_from(last.code, last.error)
        if last.payload == m.NO_PAYLOAD:
            return [nothing(answers)]
        only_answer(answers, request.model)
        return [read(answer) for answer in answers]


class Infers:
    """A ModelInferRequest."""

    name = "grpc v2"

    def __init__(self) -> None:
        self._called = _Called()
        self._infer = Infer(self._called.world.models, LIMITS, make_regions())
        self._pictures = corpus()
        self._requests = _infer_requests(self._pictures)

    def make(self, chance: Random) -> Input:
        """See Target."""
        return [mutated(chance.choice(self._requests), chance, chance.choice((0, 1, 1, 2, 3)))]

    def run(self, given: Input) -> None:
        """See Target."""
        asked = self._infer.ask(calls.parse(v2.ModelInferRequest, given[0], LIMITS), Context(), "r-1")
        results = self._called.results(*asked.call)
        for result in results or ():
            v2.ModelInferResponse.FromString(self._infer.answer(asked, result).SerializeToString())


class Predicts:
    """A PredictRequest, or the beginning or a frame of a stream of pictures."""

    name = "grpc pictures"

    def __init__(self) -> None:
        self._called = _Called()
        self._pictures = corpus()
        self._requests = _predict_requests(self._pictures)

    def make(self, chance: Random) -> Input:
        """See Target."""
        asked = chance.choice(self._requests)
        if chance.random() < 0.3:
            changed = v1.PredictRequest()
            changed.CopyFrom(asked)
            changed.picture.encoded = mutate_picture(chance.choice(self._pictures), chance, self._pictures)
            asked = changed
        data = mutated(asked, chance, chance.choice((0, 1, 1, 2, 3)))
        return [mutate_bytes(data, chance) if chance.random() < 0.1 else data]

    def run(self, given: Input) -> None:
        """See Target."""
        asked = calls.parse(v1.PredictRequest, given[0], LIMITS)
        view = self._called.world.models.find(asked.model, asked.version)
        pictures.check_takes_pictures(asked.model, view)
        options = calls.within_deadline(pictures.options_of(asked, pictures.sequence_of(asked)), Context())
        tensor, frame = pictures.picture_of(asked.picture, LIMITS)
        parameters = pictures.parameters_of(asked.parameters, asked.parameters_json)
        draw = pictures.draw_of(asked.draw)
        prepared = pictures.prepare(tensor, frame, parameters=parameters, picture=draw)
        results = self._called.results(*prepared.request(asked.model, [frame], options, "r-1"))
        if results:
            about = pictures.About("r-1", asked.model, "1", tensor)
            v1.Answer.FromString(pictures.answer_of(results, about).SerializeToString())


def _infer_requests(pictures: list[bytes]) -> list[Any]:
    """Valid requests of all kinds."""

    def request(model: str, raw: bytes | None, name: str, datatype: str, *shape: int, **more: Any) -> Any:
        item = v2.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
        made = v2.ModelInferRequest(model_name=model, id="7", inputs=[item])
        if raw is not None:
            made.raw_input_contents.append(raw)
        for key, value in more.items():
            kind = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}[type(value)]
            setattr(made.parameters[key], kind, value)
        return made

    rows = request("rows", bytes(16), "IN", "FP32", 1, 4, priority=2, timeout=1_000_000)
    rows.outputs.add(name="OUT")
    ranked = request("rows", bytes(32), "IN", "FP32", 2, 4)
    ranked.outputs.add(name="OUT").parameters["classification"].int64_param = 2
    typed = request("rows", None, "IN", "FP32", 1, 4)
    typed.inputs[0].contents.fp32_contents.extend([1.0, 2.0, 3.0, 4.0])
    placed = request("rows", None, "IN", "FP32", 1, 4)
    for key, value in {"shared_memory_byte_size": 16, "shared_memory_offset": 0}.items():
        placed.inputs[0].parameters[key].int64_param = value
    placed.inputs[0].parameters["shared_memory_region"].string_param = "r"
    made = [
        rows, ranked, typed, placed, *_every_kind(),
        request("words", encode_strings([b"ab", b""]), "WORDS", "BYTES", 2),
        request("cold", bytes(16), "IN", "FP32", 1, 4, confidence=0.5),
        request("sum", bytes(8), "IN", "INT32", 2, sequence_id=5, sequence_start=True),
        request("sum", bytes(8), "IN", "INT32", 2, sequence_id="cam", sequence_start=True, sequence_end=True),
        v2.ModelInferRequest(model_name="sum"),
    ]  # fmt: skip
    made[-1].parameters["sequence_id"].int64_param = 5
    made[-1].parameters["sequence_end"].bool_param = True
    for data in pictures:
        made.append(request("picture", encode_strings([data]), "image", "BYTES", 1, draw="png", init='{"a": 1}'))
        made[-1].outputs.add(name="prediction")
    return made


def _every_kind() -> list[Any]:
    """All datatypes at once, raw and typed; FP16 and BF16 are only sent raw."""
    raw, typed = (v2.ModelInferRequest(model_name="kinds") for _ in range(2))
    for kind in KINDS:
        raw.inputs.add(name=kind, datatype=kind, shape=[2])
        raw.raw_input_contents.append(
            bytes(2 * DTYPES[kind].itemsize) if kind in DTYPES else encode_strings(["a", "b"])
        )
        item = typed.inputs.add(name=kind, datatype=kind, shape=[2])
        wide = "64" if kind.endswith("64") else ""
        field = TYPED.get(kind, f"uint{wide}_contents" if kind.startswith("U") else f"int{wide}_contents")
        getattr(item.contents, field).extend([b"a", b"b"] if kind == "BYTES" else [1, 0])
    return [raw, typed]


def _predict_requests(pictures: list[bytes]) -> list[Any]:
    """Valid requests of all kinds."""
    made = [v1.PredictRequest(model="picture", picture=v1.Picture(encoded=data), draw=v1.DRAW_PNG) for data in pictures]
    for asked in made:
        asked.parameters.update({"confidence": 0.5, "names": ["a", {"b": None}], "init": {"a": 1}})
        asked.parameters_json = '{"big": 9007199254740993}'
        asked.timeout.seconds = 1
    raw = v1.PredictRequest(model="picture", priority=3, request_id="abc")
    raw.picture.raw.height, raw.picture.raw.width, raw.picture.raw.rgb = 2, 3, bytes(18)
    step = v1.PredictRequest(model="picture", sequence=v1.Sequence(number=5, start=True, end=True))
    step.picture.CopyFrom(raw.picture)
    return [*made, raw, step]
