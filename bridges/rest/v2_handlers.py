"""What the requests of the Open Inference Protocol mean that need nothing but the models known here.

Framework-free, like handlers.py. What has to be asked of other components is v2_control.py's.
Invariant: a handler raises InferoxyError or nothing.
"""

from collections.abc import Mapping
from functools import partial

from bridges import v2
from bridges.models import ModelIndex, is_ready
from bridges.rest import coding, v2_body
from bridges.rest.answers import HttpAnswer, json_answer
from bridges.rest.exchange import Exchange
from bridges.rest.v2_plans import Plans
from bridges.v2_regions import Regions
from inferoxy.config import LimitSettings
from inferoxy.errors import V2_STATUS, ModelUnavailable


class V2Handlers:
    """The protocol's requests.

    Args:
        models: What is registered.
        limits: What is accepted from clients.
        regions: Where tensors may lie beside requests and answers.
    """

    def __init__(self, models: ModelIndex, limits: LimitSettings, regions: Regions) -> None:
        self._models = models
        self._plans = Plans(models, limits, regions)

    def infer(
        self, name: str, version: str, headers: Mapping[bytes, bytes], body: memoryview, request_id: str
    ) -> Exchange:
        """`POST /v2/models/{name}[/versions/{version}]/infer`."""
        view = self._models.find(name, version)
        head, blob = v2_body.split(headers, body)
        call, plan = self._plans.call(name, version, view, self._models.updates, head, blob, request_id)
        pack = coding.packer(headers.get(b"accept-encoding", b""))
        finish = partial(plan.finish, request_id)
        return Exchange([call], finish, request_id, at_most=1, pack=pack, statuses=V2_STATUS)

    def model_ready(self, name: str, version: str, request_id: str) -> HttpAnswer:
        """`GET /v2/models/{name}[/versions/{version}]/ready`."""
        view = self._models.require(name, version)
        if is_ready(view):
            return json_answer(200, {"name": name, "ready": True}, request_id)
        why = f": {view.error}" if view.error else ""
        raise ModelUnavailable(f"model {name!r} is not ready, it is {view.state}{why}")

    def server_metadata(self, request_id: str) -> HttpAnswer:
        """`GET /v2`."""
        content = {"name": v2.SERVER_NAME, "version": v2.SERVER_VERSION, "extensions": v2.EXTENSIONS}
        return json_answer(200, content, request_id)
