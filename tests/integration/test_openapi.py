"""Whatever is sent to the paths of our OpenAPI document is answered with a documented status, and none is a 5xx.

Requests that fit the document and such that do not, made by schemathesis, against a real stack whose models work.
`make fuzz` runs 2,000 of them (OPENAPI_CASES), CI fewer.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.openapi import from_dict
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.integration.stack import Stack, wait_until
from tests.load.mixed import INSTANCES, models
from tests.unit.pictures import encoded

CASES = int(os.environ.get("OPENAPI_CASES", "350"))
TIMEOUT_S = 30.0
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
KNOWN_SHARE = 0.7  # of cases that ask for something that is there
SPARE = "repeat"  # the only model that is loaded and unloaded
NAMES = ("double", "look", "sum")
PICTURE = encoded("PNG", 8, 8)
ROW = {"name": "INPUT", "datatype": "INT32", "shape": [1, 2], "data": [1, 2]}
BODIES: dict[str, list[tuple[str, Any]]] = {  # by the end of a path: what is right
    "/predict": [("image/png", PICTURE), ("application/octet-stream", PICTURE)],
    "/infer": [("application/json", {"inputs": [ROW]}), ("application/json", {"id": "a", "inputs": [ROW, ROW]})],
    "/load": [("application/json", {})],
    "/unload": [("application/json", {"parameters": {"unload_dependents": True}})],
}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(models()) as running:
        wait_until(lambda: running.log().count("an instance is ready") >= INSTANCES, 30.0, running.log)
        yield running


@pytest.mark.timeout(900)
def test_every_answer_is_documented_and_none_is_a_server_error(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    document = httpx.get(f"{stack.rest_url}/openapi.json", trust_env=False, timeout=TIMEOUT_S).raise_for_status().json()
    operations = [found.ok() for found in from_dict(document).get_all_operations()]
    with_input = [operation for operation in operations if list(operation.iter_parameters()) or operation.body]
    each = -(-CASES // (2 * len(with_input)))
    statuses: Counter[int] = Counter()
    problems: dict[str, str] = {}
    with requests.Session() as session:
        session.trust_env = False
        for operation in operations:
            for mode in GenerationMode:
                _run(operation, mode, each, stack.rest_url, session, statuses, problems)
    with capsys.disabled():
        print(f"\nopenapi: {statuses.total()} cases, statuses {dict(sorted(statuses.items()))}")
    assert not problems, "\n".join(f"{where}: {what}" for where, what in problems.items())
    assert statuses.total() >= CASES * 0.9
    assert {200, 400, 404} <= statuses.keys(), "some statuses never came, so the cases are no good"


def _run(
    operation: "APIOperation[Any, Any, Any, Any]", mode: GenerationMode, count: int, url: str,
    session: requests.Session, statuses: "Counter[int]", problems: dict[str, str],
) -> None:  # fmt: skip
    """Run cases of one operation; a problem is noted once for each status."""

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(mode), chance=st.randoms(use_true_random=False))
    def test(case: "Case", chance: Any) -> None:
        if chance.random() < KNOWN_SHARE:
            _aim(case, chance)
        response = case.call(base_url=url, session=session, timeout=TIMEOUT_S)
        statuses[response.status_code] += 1
        if _is_own_wish(case, response):
            return
        try:
            case.validate_response(response, checks=CHECKS)
        except FailureGroup as exc:
            what = "; ".join(f"{failure.title}: {failure.message}" for failure in exc.exceptions)
            problems.setdefault(
                f"{operation.label} {response.status_code}", f"{what[:600]}\n{case.as_curl_command()[:600]}"
            )

    try:
        test()
    except Unsatisfiable:
        if mode is GenerationMode.POSITIVE:
            raise
        # An operation without parameters has nothing that could be wrong.


def _aim(case: "Case", chance: Any) -> None:
    """Let the case ask for what is there, as a rule with a body that is right."""
    if "name" in (case.path_parameters or {}):
        case.path_parameters["name"] = SPARE if "/repository/" in case.path else chance.choice(NAMES)
    if "version" in (case.path_parameters or {}):
        case.path_parameters["version"] = "1"
    ending = case.path[case.path.rfind("/") :]
    if ending in BODIES and chance.random() < 0.6:
        case.media_type, case.body = chance.choice(BODIES[ending])
        if ending == "/predict":
            case.path_parameters["name"] = "look"
            case.query = {}


def _is_own_wish(case: "Case", response: Any) -> bool:
    """Whether the client had asked for the time to be over so soon."""
    if response.status_code not in (503, 504):
        return False
    has_limit = "timeout" in json.dumps([case.query, case.body], default=repr)
    return has_limit and response.json()["code"] == "DEADLINE_EXCEEDED"
