"""A stack that serves the models, and the foreign clients; where they are not installed the tests are skipped."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.compat.callers import ENVIRONMENT, Caller
from tests.compat.environment import unsupported
from tests.compat.models import write_models
from tests.integration.stack import Stack, wait_until

FORMS = ("http", "http.aio", "grpc", "grpc.aio")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without the environment: skip on a laptop, fail where everything must run and it could be made."""
    reason = unsupported()
    if (ENVIRONMENT / "bin" / "perf_analyzer").exists() or (os.environ.get("CI") == "true" and not reason):
        return
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            why = f"the V2 clients are not installed: {reason or 'make .venv/compat.stamp'}"
            item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(write_models(tmp_path_factory.mktemp("models"))) as running:
        with httpx.Client(base_url=running.rest_url, trust_env=False) as client:
            wait_until(lambda: client.get("/readyz").is_success, 10.0, running.log)
        yield running


@pytest.fixture(scope="package")
def callers(stack: Stack) -> Iterator[dict[str, Caller]]:
    """tritonclient in its four forms."""
    addresses = {"http": stack.rest_url.removeprefix("http://"), "grpc": stack.grpc_address}
    with ExitStack() as running:
        yield {form: running.enter_context(Caller("triton.py", form, addresses[form.split(".")[0]])) for form in FORMS}


@pytest.fixture(params=FORMS)
def triton(request: pytest.FixtureRequest, callers: dict[str, Caller]) -> Caller:
    return callers[request.param]


@pytest.fixture(params=("http", "http.aio"))
def http(request: pytest.FixtureRequest, callers: dict[str, Caller]) -> Caller:
    return callers[request.param]


@pytest.fixture(params=("grpc", "grpc.aio"))
def grpc(request: pytest.FixtureRequest, callers: dict[str, Caller]) -> Caller:
    return callers[request.param]
