"""Calls of the admin API, with errors a person understands."""

import os
from typing import Annotated, Any

import typer

from inferoxy.errors import InferoxyError, ModelUnavailable, error_from

DEFAULT = "127.0.0.1:8000"
TIMEOUT_S = 10.0

AdminAddress = Annotated[
    str | None,
    typer.Option("--admin", metavar="HOST:PORT", help=f"Admin API of the stack. (default: {DEFAULT})"),
]


def get(admin: str | None, path: str) -> Any:
    """The JSON at a path of the admin API at `admin`, else INFEROXY_ADMIN, else the default address.

    Raises:
        ModelUnavailable: Nothing that speaks the admin API answers there.
        InferoxyError: It answered an error.
    """
    import httpx

    address = admin or os.environ.get("INFEROXY_ADMIN") or DEFAULT
    url = address if "://" in address else f"http://{address}"
    try:
        answer = httpx.get(f"{url.rstrip('/')}{path}", timeout=TIMEOUT_S, trust_env=False)
        body = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
        why = str(exc) or type(exc).__name__
        raise ModelUnavailable(
            f"no admin API answers at {url} ({why}); start a stack with `inferoxy up` or name its address with --admin"
        ) from exc
    if answer.is_success:
        return body
    if isinstance(body, dict) and "error" in body:
        raise error_from(str(body.get("code", "")), str(body["error"]))
    raise InferoxyError(f"{url}{path}: HTTP status {answer.status_code}, which the admin API does not answer")
