"""What an inference request of the Open Inference Protocol means, worked out once for all that are alike.

Clients send the same JSON again and again with other bytes behind it. A plan is what that JSON means for the models as
they are registered now, so that a request with a known one costs a look-up, and its answer, if one of that form was
given before, only its own bytes.
Pure. Invariant: a plan gives what reading the request afresh would give.
"""

from collections.abc import Sequence
from typing import NamedTuple

from bridges import v2
from bridges.models import ModelIndex
from bridges.pending import Answer
from bridges.requests import Frames, Options, Prepared, is_bare_end
from bridges.rest import v2_body
from bridges.rest.answers import HttpAnswer, inference_answer
from bridges.rest.exchange import Outcome
from bridges.rest.v2_body import InferBody
from bridges.results import Result
from bridges.v2_outputs import Delivered, deliver
from bridges.v2_regions import Place, Regions
from inferoxy import messages as m
from inferoxy import wire
from inferoxy.config import LimitSettings
from inferoxy.errors import InferoxyError
from inferoxy.kept import Kept
from inferoxy.tensors import BYTES

MAX_PLANS = 1_024
MAX_PLAN_BYTES = 4_096  # of the JSON, and of an answer's description
MAX_ANSWERS = 16  # forms of answers that a plan knows


class _Form(NamedTuple):
    """What answers with the same description have in common."""

    lines: bytes
    head: bytes
    size: int  # of the bytes behind the head


class Plan:
    """How to run and answer requests with one JSON part."""

    def __init__(
        self,
        model: str,
        version: str,
        body: InferBody,
        options: Options,
        prepared: Prepared,
        models: ModelIndex,
        regions: Regions,
    ) -> None:
        self._model = model
        self._version = version
        self._models = models
        self._regions = regions
        self._asks_plainly = not any(item.classes or item.place for item in body.wanted)
        self._body = body
        self._options = options
        self._prepared = prepared
        self._forms: Kept[tuple[bytes, str], _Form] = Kept(MAX_ANSWERS)

    @property
    def is_lasting(self) -> bool:
        """Whether it holds for other bytes, too: an encoded picture's size stands in its own bytes."""
        body = self._body
        is_elsewhere = all(isinstance(data, int | Place) for data in body.data)
        return is_elsewhere and all(t.datatype != BYTES for t in body.inputs)

    def call(self, blob: memoryview, request_id: str) -> tuple[m.Request, Frames]:
        """The request with these bytes, for a plan that lasts.

        Raises:
            InvalidRequest: They are not as many as the JSON part says.
        """
        return self._prepared.request(self._model, self._body.cut(blob, self._regions), self._options, request_id)

    def first_call(self, frames: Frames, request_id: str) -> tuple[m.Request, Frames]:
        """The request that the plan was made of."""
        return self._prepared.request(self._model, frames, self._options, request_id)

    def finish(self, request_id: str, outcomes: Sequence[Outcome]) -> HttpAnswer:
        """The answer.

        Raises:
            InferoxyError: There is none, or it cannot be told.
        """
        outcome = outcomes[0]
        if isinstance(outcome, InferoxyError):
            raise outcome
        if not self._body.inputs:
            return self._format(v2.nothing(outcome), request_id)
        if self._asks_plainly and len(outcome) == 1 and outcome[0].response.data and not outcome[0].frames:
            response = outcome[0].response
            served = response.served or m.Served()
            key = (bytes(response.payload), served.version)
            form = self._forms.get(key) or self._form(key, outcome)
            if form is not None and form.size == len(response.data):
                return inference_answer(form.lines, request_id, served, (form.head, response.data))
        result = v2.only_answer(outcome, self._model)
        return self._format(result, request_id)

    def _format(self, result: Result, request_id: str) -> HttpAnswer:
        outputs = v2.select_outputs(result, self._body.outputs if self._body.inputs else [])
        version = result.served.version or self._version
        if self._asks_plainly:
            delivered = [Delivered(output) for output in outputs]
        else:
            view = self._models.look(self._model, version)  # now: the request may have been the model's first
            metadata, stacked = (view.metadata, view.stacked) if view is not None else ({}, False)
            delivered = deliver(outputs, self._body.wanted, self._regions, metadata, stacked=stacked)
        return v2_body.format_answer(
            self._body, self._model, version, delivered, result.parameters, request_id, result.served
        )

    def _form(self, key: tuple[bytes, str], outcome: list[Answer]) -> _Form | None:
        """The form of an answer all of whose bytes follow its JSON part as they are; None: it is of another kind."""
        result = v2.only_answer(outcome, self._model)
        outputs = v2.select_outputs(result, self._body.outputs)
        tensors = wire.decode_result(outcome[0].response.payload).tensors
        is_plain = [o.tensor for o in outputs] == tensors and all(
            t.inline is not None and not t.encoding and self._body.is_binary(t.name) for t in tensors
        )
        if not is_plain:
            return None
        head = bytes(self._format(result, "").parts[0])
        size = len(outcome[0].response.data)
        lines = v2_body.answer_lines(self._model, key[1] or self._version, head, size)
        form = _Form(lines, head, size)
        return self._forms.keep(key, form) if len(key[0]) <= MAX_PLAN_BYTES else form


class Plans:
    """The plans of requests that may come again."""

    def __init__(self, models: ModelIndex, limits: LimitSettings, regions: Regions) -> None:
        self._models = models
        self._limits = limits
        self._regions = regions
        self._kept: Kept[tuple[str, str, bytes], Plan] = Kept(MAX_PLANS)
        self._updates = 0

    def call(
        self, model: str, version: str, view: m.ModelView | None, updates: int, head: memoryview, blob: memoryview,
        request_id: str,
    ) -> tuple[tuple[m.Request, Frames], Plan]:  # fmt: skip
        """A request and how it is to be answered.

        Args:
            model: Its name.
            version: As the path says; empty: the default.
            view: What is known of it, or None.
            updates: Which state of the registered models that is.
            head: The JSON part of the body.
            blob: The binary part.
            request_id: What logs and answers call it.

        Raises:
            InvalidRequest: The body is not what the protocol says.
            PayloadTooLarge: A picture is over the limits.
        """
        if updates != self._updates:
            self._updates = updates
            self._kept.clear()
        key = (model, version, bytes(head) if len(head) <= MAX_PLAN_BYTES else b"")
        plan = self._kept.get(key)
        if plan is not None:
            return plan.call(blob, request_id), plan
        body, blob = (v2_body.parse(head), blob) if head else v2_body.raw(view, blob)
        options, parameters = v2.read_parameters(body.parameters, version)
        is_bare_end(len(body.inputs), options, view)
        given = body.cut(blob, self._regions)
        prepared, frames = v2.prepare(
            view, body.inputs, given, parameters=parameters, outputs=body.outputs, limits=self._limits
        )
        shown = view.spec.version if view else version
        plan = Plan(model, shown, body, options, prepared, self._models, self._regions)
        if key[2] and plan.is_lasting:
            self._kept.keep(key, plan)
        return plan.first_call(frames, request_id), plan
