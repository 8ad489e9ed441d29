"""The admin API: models, load and unload, status. HTTP in, one call of the manager, HTTP out.

Field names, and answers where they were not faults, are those of the first Inferoxy.
Invariant: every error is {"error", "code", "detail"}; `detail` is what the first Inferoxy's clients read.
"""

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
from fastapi import Body, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

import inferoxy
from inferoxy.errors import RETRY_AFTER_S, STATUS, Code, InferoxyError, InvalidRequest, ModelNotFound
from inferoxy.messages import ModelSpec
from inferoxy.problems import Problem
from inferoxy.problems import found as in_words
from model_manager import spec as specs
from model_manager.manager import Manager
from model_manager.registry import Registry
from model_manager.spec import VERSION_SEPARATOR, SpecFields

# The first Inferoxy's clients compare this text.
NOT_FOUND_DETAIL = "Model with this slug does not exist"
UNPROCESSABLE = 422  # what the first Inferoxy answered to a body that says something wrong

_MODEL_SCHEMA: dict[str, Any] = SpecFields.model_json_schema()
_MODEL_SCHEMA["properties"] = {"name": {"type": "string"}, **_MODEL_SCHEMA["properties"]}
_Model = Annotated[dict[str, Any], Body(json_schema_extra=_MODEL_SCHEMA)]


def make_app(manager: Manager, host: str) -> FastAPI:
    """The application.

    Args:
        manager: What it shows and changes.
        host: Where it is bound. On a loopback address only calls that name a loopback host are served, so that no web
            page can reach it through a name of its own (DNS rebinding).
    """
    app = FastAPI(title="Inferoxy admin", version=inferoxy.__version__)
    app.add_exception_handler(InferoxyError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_bad_body)
    app.add_exception_handler(HTTPException, _on_http_error)
    guarded = _is_loopback(host)

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        origin = request.headers.get("origin")
        foreign = origin is not None and origin.partition("://")[2] != request.headers.get("host")
        if foreign or (guarded and not _is_loopback(request.url.hostname or "")):
            error = InferoxyError("this address is served to this machine's own programs only", Code.UNAUTHENTICATED)
            return _answer(error, STATUS[error.code].http)
        return await call_next(request)

    @app.get("/livez")
    async def livez() -> dict[str, bool]:
        """The process answers."""
        return {"live": True}

    @app.get("/models")
    async def list_models() -> list[dict[str, Any]]:
        """Every registered model version."""
        return [shown(model) for model in manager.registry.models]

    @app.get("/models/{slug}")
    async def show_model(slug: str) -> dict[str, Any]:
        """One model: its default version, or the one that `name@version` names."""
        return shown(manager.registry.find(slug))

    @app.post("/models")
    async def register(model: _Model) -> dict[str, Any]:
        """Register a model, or put another in the place of one."""
        made = made_from(model)
        return shown((await manager.change(lambda registry: registry.with_spec(made))).find(_slug(made)))

    @app.put("/models")
    async def replace_all(models: Annotated[list[dict[str, Any]] | None, Body()] = None) -> list[dict[str, Any]]:
        """Replace all that this API has registered by these models, and read models.yaml again.

        Where both have a model version, the file's holds. `null` goes back to the file alone.
        """
        made = made_from_all(models or [])
        after = await manager.change(lambda registry: manager.reread(registry).with_all(made))
        return [shown(model) for model in after.models]

    @app.patch("/models/{slug}")
    async def update(slug: str, fields: Annotated[dict[str, Any], Body()]) -> dict[str, Any]:
        """Change some fields of a model; the others stay."""

        def step(registry: Registry) -> Registry:
            return registry.with_spec(patched(registry.find(slug), fields))

        key = manager.registry.find(slug)
        return shown((await manager.change(step)).find(_slug(key)))

    @app.delete("/models/{slug}")
    async def delete(slug: str) -> dict[str, str]:
        """Delete a model with all its versions, or the one that `name@version` names."""
        await manager.change(lambda registry: registry.without(slug))
        return {"model": slug}

    @app.post("/models/{slug}/load")
    async def load(slug: str) -> dict[str, Any]:
        """Start an instance now; answers when the task manager has been told."""
        return {"model": slug, "action": "load", "versions": manager.command("load", slug)}

    @app.post("/models/{slug}/unload")
    async def unload(slug: str) -> dict[str, Any]:
        """Drain every instance; answers when the task manager has been told."""
        return {"model": slug, "action": "unload", "versions": manager.command("unload", slug)}

    @app.get("/status")
    async def status() -> dict[str, Any]:
        """The catalog and the latest report of every component."""
        return {
            "version": inferoxy.__version__,
            "revision": manager.registry.revision,
            "models_file": {"path": str(manager.models_file or ""), "error": manager.file_error},
            "models": [shown(model) for model in manager.registry.models],
            "components": manager.status(),
        }

    @app.get("/instances")
    async def instances() -> list[dict[str, Any]]:
        """Every instance, as the task manager reported it last."""
        found: list[dict[str, Any]] = manager.status().get("task_manager", {}).get("instances", [])
        return found

    return app


def shown(model: ModelSpec) -> dict[str, Any]:
    """A model as the API shows it: every field, defaults too."""
    return {**msgspec.structs.asdict(model), "instances": msgspec.structs.asdict(model.instances)}


def made_from(fields: dict[str, Any]) -> ModelSpec:
    """The model that a body describes.

    Raises:
        InvalidRequest: Something in it is wrong; the message has a line per problem.
    """
    made, problems = _check(fields)
    if made is None:
        raise InvalidRequest("\n".join(map(str, problems)))
    return made


def made_from_all(bodies: list[dict[str, Any]]) -> list[ModelSpec]:
    """The models that a list of bodies describes.

    Raises:
        InvalidRequest: Something is wrong in one of them, or two describe the same version.
    """
    checked = [_check(fields) for fields in bodies]
    problems = [problem for _, wrong in checked for problem in wrong]
    made = [model for model, _ in checked if model]
    keys = [model.key for model in made]
    problems += [Problem((_slug(m),), "expected once, found twice") for at, m in enumerate(made) if m.key in keys[:at]]
    if problems:
        raise InvalidRequest("\n".join(map(str, problems)))
    return made


def patched(model: ModelSpec, fields: dict[str, Any]) -> ModelSpec:
    """The model with some fields changed; an address takes the place of an artifact and the other way round.

    Raises:
        InvalidRequest: A field is wrong, or is the name or version, which identify the model.
    """
    now = shown(model)
    for key in ("name", "version"):
        if fields.get(key, now[key]) != now[key]:
            raise InvalidRequest(f"{key}: expected {now[key]!r}, which cannot be changed, found {fields[key]!r}")
    if fields.get("address") and "artifact" not in fields:
        now |= {"artifact": "", "runtime": ""}
    if fields.get("artifact") and "address" not in fields:
        now |= {"address": "", "runtime": ""}
    merged = now | fields
    if isinstance(fields.get("instances"), dict):
        merged["instances"] = now["instances"] | fields["instances"]
    return made_from(merged)


def _check(fields: dict[str, Any]) -> tuple[ModelSpec | None, list[Problem]]:
    rest = {key: value for key, value in fields.items() if key not in ("name", "source")}
    name = fields.get("name")
    if not isinstance(name, str) or VERSION_SEPARATOR in name:
        return None, [Problem(("name",), f"expected a name of {specs.NAME_RULE}, found {in_words(name)}")]
    return specs.check(name, rest, None, "admin")


def _slug(model: ModelSpec) -> str:
    return f"{model.name}{VERSION_SEPARATOR}{model.version}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _answer(error: InferoxyError, status: int, detail: object = None) -> JSONResponse:
    headers = {"Retry-After": str(RETRY_AFTER_S[error.code])} if error.code in RETRY_AFTER_S else None
    body = {"error": error.message, "code": error.code, "detail": error.message if detail is None else detail}
    return JSONResponse(body, status, headers)


async def _on_error(_: Request, exc: Exception) -> JSONResponse:
    error = exc if isinstance(exc, InferoxyError) else InferoxyError(str(exc))
    if isinstance(error, ModelNotFound):
        return _answer(error, STATUS[error.code].http, NOT_FOUND_DETAIL)
    if error.code is Code.INVALID_REQUEST:
        return _answer(error, UNPROCESSABLE)
    return _answer(error, STATUS[error.code].http)


async def _on_bad_body(_: Request, exc: Exception) -> JSONResponse:
    found = exc.errors() if isinstance(exc, RequestValidationError) else []
    text = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found)
    detail = [{key: each[key] for key in ("loc", "msg", "type")} for each in found]
    return _answer(InvalidRequest(text), UNPROCESSABLE, detail)


async def _on_http_error(request: Request, exc: Exception) -> JSONResponse:
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    return _answer(InvalidRequest(f"{request.method} {request.url.path}: {getattr(exc, 'detail', exc)}"), status)
