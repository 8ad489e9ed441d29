"""A ModelInferRequest as a request of ours, and its results as ModelInferResponses; shared by both infer methods.

Hot path: `ask` and `answer`. What few requests have (places in shared memory, classes) costs nothing where it is not.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from bridges import v2
from bridges.grpc import convert
from bridges.grpc.calls import within_deadline
from bridges.models import ModelIndex
from bridges.requests import Frames, Options, is_bare_end
from bridges.results import Output, Result
from bridges.v2_outputs import Wanted, deliver
from bridges.v2_regions import Regions
from inferoxy import messages as m
from inferoxy.config import LimitSettings

# A request parameter for streams: whether the end of a request's answers is told in any case.
EMPTY_FINAL = "triton_enable_empty_final_response"


class Asked(NamedTuple):
    """One request: `call` is what is sent for it. It keeps nothing of the message's tensors."""

    model_name: str
    id: str
    view: m.ModelView | None
    options: Options
    wanted: list[Wanted]
    names: list[str]
    is_plain: bool  # outputs are wanted as they are
    ends_only: bool
    tells_end: bool
    call: tuple[m.Request, Frames]

    @property
    def version(self) -> str:
        """The version that will most likely answer."""
        return self.view.spec.version if self.view is not None else self.options.version


class Infer:
    """Reads requests and makes responses.

    Args:
        models: What is registered.
        limits: What is accepted from clients.
        regions: Shared memory that clients have registered.
    """

    def __init__(self, models: ModelIndex, limits: LimitSettings, regions: Regions) -> None:
        self._models = models
        self._limits = limits
        self._regions = regions

    def ask(self, asked: Any, context: Any, name: str) -> Asked:
        """What is to be sent for a ModelInferRequest.

        Args:
            asked: The message.
            context: Of its call, for the deadline.
            name: The request id.

        Raises:
            InferoxyError: It cannot be sent.
        """
        model, version = asked.model_name, asked.model_version
        view = self._models.find(model, version)
        given = convert.parameters_of(asked.parameters)
        tells_end = bool(given) and given.pop(EMPTY_FINAL, False) is True
        options, parameters = v2.read_parameters(given, version)
        options = within_deadline(options, context)
        inputs, frames = convert.inputs_of(asked, self._regions)
        wanted = convert.wanted_of(asked)
        names, is_plain = [], True
        for item in wanted:
            names.append(item.name)
            is_plain = is_plain and not item.classes and item.place is None
        ends_only = is_bare_end(len(inputs), options, view)
        prepared, tensors = v2.prepare(view, inputs, frames, parameters=parameters, outputs=names, limits=self._limits)
        call = prepared.request(model, tensors, options, name)
        return Asked(model, asked.id, view, options, wanted, names, is_plain, ends_only, tells_end, call)

    def answer(self, asked: Asked, result: Result) -> Any:
        """The ModelInferResponse for one result; what was to be put into shared memory lies there then.

        Raises:
            InferoxyError: An output is not there, or cannot be given as it is wanted.
        """
        version = result.served.version or asked.version
        outputs = v2.select_outputs(result, [] if asked.ends_only else asked.names)
        delivered: Sequence[tuple[Output, bool]]
        if asked.is_plain:
            delivered = [(output, False) for output in outputs]
        else:
            view = self._models.look(asked.model_name, version)  # by now it has declared what it is
            metadata, stacked = (view.metadata, view.stacked) if view is not None else ({}, False)
            delivered = deliver(outputs, asked.wanted, self._regions, metadata, stacked=stacked)
        return convert.response_of(asked, version, delivered, result.parameters)
