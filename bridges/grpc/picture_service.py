"""The service inferoxy.v1.Inferoxy over the link to the batch manager; Stream is picture_stream.py's."""

import asyncio
from typing import Any

import grpc

from bridges.grpc import calls, pictures
from bridges.grpc.picture_stream import PictureStream
from bridges.link import Link
from bridges.requests import Prepared, is_bare_end, request_id
from bridges.results import read
from bridges.v2 import nothing
from inferoxy.config import LimitSettings
from inferoxy.errors import STATUS, InferoxyError
from protos import inferoxy_v1_pb2 as pb

SERVICE = "inferoxy.v1.Inferoxy"


class PictureService:
    """The methods.

    Args:
        link: To the batch manager.
        limits: What is accepted from clients.
        draining: Done when the server drains.
    """

    def __init__(self, link: Link, limits: LimitSettings, draining: asyncio.Future[None]) -> None:
        self._link = link
        self._models = link.models
        self._limits = limits
        self._draining = draining

    def handler(self) -> Any:
        """What a gRPC server is given."""
        handlers = {
            "Predict": calls.unary(self._predict, STATUS),
            "Stream": calls.bidirectional(self._stream, STATUS),
            "ListModels": calls.unary(self._list_models, STATUS),
            "GetModel": calls.unary(self._get_model, STATUS),
        }
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    async def _predict(self, data: bytes, context: Any, name: str) -> Any:
        asked = calls.parse(pb.PredictRequest, data, self._limits)
        if asked.request_id:
            name = request_id(asked.request_id)
        try:
            answer = await self._answer(asked, context, name)
        except InferoxyError as exc:
            exc.request_id = name
            raise
        context.set_trailing_metadata((("x-request-id", name),))
        return answer

    async def _answer(self, asked: Any, context: Any, name: str) -> Any:
        view = self._models.find(asked.model, asked.version)
        options = calls.within_deadline(pictures.options_of(asked, pictures.sequence_of(asked)), context)
        about = pictures.About(name, asked.model, view.spec.version if view else asked.version, None)
        if options.sequence is not None and options.sequence.end and not asked.HasField("picture"):
            is_bare_end(0, options, view)
            prepared = Prepared([], [], parameters={}, outputs=[], form="tensors")
            answers = await self._link.call(*prepared.request(asked.model, (), options, name))
            return pictures.answer_of([nothing(answers)], about)
        pictures.check_takes_pictures(asked.model, view)
        tensor, frame = pictures.picture_of(asked.picture, self._limits)
        parameters = pictures.parameters_of(asked.parameters, asked.parameters_json)
        prepared = pictures.prepare(tensor, frame, parameters=parameters, picture=pictures.draw_of(asked.draw))
        answers = await self._link.call(*prepared.request(asked.model, [frame], options, name))
        results = [read(answer) for answer in answers] or [nothing(answers)]
        return pictures.answer_of(results, about._replace(tensor=tensor))

    async def _stream(self, context: Any, name: str) -> None:
        await PictureStream(context, name, self._link, self._limits, self._draining).run()

    async def _list_models(self, data: bytes, context: Any, name: str) -> Any:
        calls.parse(pb.ListModelsRequest, data, self._limits)
        models = [pictures.model_of(view, self._models.versions(view.spec.name)) for view in self._models.all()]
        return pb.ListModelsResponse(models=models)

    async def _get_model(self, data: bytes, context: Any, name: str) -> Any:
        asked = calls.parse(pb.GetModelRequest, data, self._limits)
        view = self._models.require(asked.name, asked.version)
        return pictures.model_of(view, self._models.versions(view.spec.name))
