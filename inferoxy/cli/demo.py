"""`inferoxy demo`: a whole stack, one picture through it by HTTP, and what came back.

Its last line, without --serve, is `ok: N objects in FILE, drawn: PICTURE`.
"""

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inferoxy.cli import options, print_error
from inferoxy.cli.child_stack import ChildStack, StackFailed
from inferoxy.cli.options import Admin, Config, DataDir, Grpc, How, Rest, Zmq
from inferoxy.errors import Code, InferoxyError, InvalidRequest, error_from

if TYPE_CHECKING:
    from rich.console import Console

ANSWER_TIMEOUT_S = 120.0  # the first answer waits for the model to be loaded
PLAIN_STEP_S = 10.0  # where the output is not a terminal, a long step says so this often

Picture = Annotated[Path, typer.Option("--picture", metavar="FILE", help="The picture to post.", show_default=False)]
ModelsFile = Annotated[Path, typer.Option("--models", metavar="FILE", help="The models.yaml to serve.")]
ModelName = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="The model to ask. (default: the first)")
]
Serve = Annotated[bool, typer.Option("--serve", help="Keep serving until Ctrl-C.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def demo(
    models: ModelsFile,
    picture: Picture,
    model: ModelName = None,
    serve: Serve = False,
    config: Config = None,
    launcher: How = None,
    rest: Rest = None,
    grpc: Grpc = None,
    zmq: Zmq = None,
    admin: Admin = None,
    data_dir: DataDir = None,
) -> int:
    """Start a stack, post a picture, show what was found in it."""
    flags: dict[str, Any] = {"models": models, "launcher": launcher, "rest": rest, "grpc": grpc, "zmq": zmq}
    flags |= {"admin": admin, "data_dir": data_dir}
    settings = options.settings_from(config, **flags)
    if not settings.rest:
        raise InvalidRequest("rest: expected an address, found none; the demo posts by HTTP")
    if not picture.is_file():
        raise InvalidRequest(f"{picture}: no such picture")
    name = model or _first_model(models)
    arguments = [f"--{key.replace('_', '-')}={value}" for key, value in flags.items() if value is not None]
    if config:
        arguments.append(f"--config={config}")
    signal.signal(signal.SIGTERM, _on_sigterm)
    from inferoxy.cli.show import console_of_output

    console = console_of_output()
    served = False
    try:
        with ChildStack(arguments, settings.data_dir / "logs" / "stack.log") as stack:
            found, drawn = _through(stack, console, name, picture, settings.data_dir)
            _show(console, found)
            console.print(f"drawn picture: {_short(drawn)}", soft_wrap=True)
            if serve:
                _show_addresses(console, stack, name, picture)
                served = True
                while True:
                    stack.check()
                    time.sleep(0.2)
    except StackFailed as exc:
        print_error(exc.message)
        return exc.exit_code
    except KeyboardInterrupt:
        if not served:
            raise
        console.print("ended")
        return 0
    objects = len(found["prediction"]["boxes"])
    print(f"ok: {objects} objects in {picture}, drawn: {_short(drawn)}", flush=True)
    return 0


def _through(
    stack: ChildStack, console: "Console", name: str, picture: Path, data_dir: Path
) -> tuple[dict[str, Any], Path]:
    """The picture's way through the stack: the answer and the file of the drawn picture."""
    began = time.monotonic()
    with _step(console, "starting the stack") as tick:
        stack.wait_ready(tick)
    console.print(f"stack ready after {time.monotonic() - began:.1f} s, its log: {_short(stack.log)}", soft_wrap=True)
    with _step(console, f"loading {name} and asking it about {picture.name}") as tick:
        url = f"{stack.addresses['rest']}/v1/models/{name}/predict"
        found = _post(stack, url, picture, "application/json", tick).json()
        drawn = data_dir / "drawn" / f"{picture.stem}.jpg"
        drawn.parent.mkdir(parents=True, exist_ok=True)
        drawn.write_bytes(_post(stack, url, picture, "image/jpeg", tick).content)
    console.print(f"first answers after {time.monotonic() - began:.1f} s")
    return found, drawn


def _post(stack: ChildStack, url: str, picture: Path, accept: str, tick: Callable[[], None]) -> Any:
    """One HTTP call, in a thread so that progress can be shown.

    Raises:
        InferoxyError: The answer was an error, or no answer came.
        StackFailed: The stack ended.
    """
    from concurrent.futures import ThreadPoolExecutor

    import httpx

    headers = {"Content-Type": _content_type(picture), "Accept": accept}
    with httpx.Client(timeout=ANSWER_TIMEOUT_S, trust_env=False) as client, ThreadPoolExecutor(1) as pool:
        future = pool.submit(client.post, url, content=picture.read_bytes(), headers=headers)
        try:
            while not future.done():
                stack.check()
                tick()
                time.sleep(0.02)
            answer = future.result()
        except httpx.HTTPError as exc:
            raise InferoxyError(f"{url}: {exc or type(exc).__name__}\n{stack.tail()}") from exc
        except BaseException:
            stack.end()  # ends the call that the pool would wait for
            raise
    if answer.is_success:
        return answer
    try:
        body = answer.json()
    except ValueError:
        body = {"code": "", "error": f"HTTP status {answer.status_code}: {answer.text[:200]}"}
    error = error_from(str(body.get("code", "")), f"{url}: {body.get('error', '')}")
    if error.code not in (Code.INVALID_REQUEST, Code.MODEL_ERROR, Code.MODEL_UNAVAILABLE):  # those say why
        error.message += f"\n{stack.tail()}"
    raise error


def _show(console: "Console", found: dict[str, Any]) -> None:
    from rich.table import Table

    prediction = found["prediction"]
    table = Table("object", "confidence", "x1", "y1", "x2", "y2", title="detections", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    rows = zip(prediction["class_name"], prediction["confidence"], prediction["boxes"], strict=True)
    for name, confidence, box in rows:
        table.add_row(str(name), f"{confidence:.2f}", *(f"{side:.0f}" for side in box))
    console.print(table)


def _show_addresses(console: "Console", stack: ChildStack, name: str, picture: Path) -> None:
    program = _short(Path(sys.argv[0])) if Path(sys.argv[0]).name == "inferoxy" else "inferoxy"
    rest, file = stack.addresses["rest"], shlex.quote(str(picture))
    elsewhere = f" --url {rest}" if not rest.endswith(":8698") else ""
    admin = stack.addresses.get("admin", "")
    lines = [f"  {what:5} {where}" for what, where in stack.addresses.items()]
    lines += [
        "try next, in another terminal:",
        f"  curl --data-binary @{file} -H 'Content-Type: {_content_type(picture)}' {rest}/v1/models/{name}/predict",
        f"  {program} infer {name} {file} --save drawn.jpg{elsewhere}",
    ]
    if admin:
        lines.append(f"  {program} status{f' --admin {admin}' if not admin.endswith(':8000') else ''}")
    console.print("serving until Ctrl-C:")
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


@contextmanager
def _step(console: "Console", what: str) -> Iterator[Callable[[], None]]:
    """Show that a step is going on: a spinner with the time on a terminal, a line now and then elsewhere."""
    began = said = time.monotonic()
    if console.is_terminal:
        with console.status(f"{what} …") as shown:
            yield lambda: shown.update(f"{what} … {time.monotonic() - began:.0f} s")
        return
    console.print(f"{what} …")

    def tick() -> None:
        nonlocal said
        if time.monotonic() - said >= PLAIN_STEP_S:
            said = time.monotonic()
            console.print(f"{what} … {said - began:.0f} s")

    yield tick


def _first_model(file: Path) -> str:
    from model_manager import models_yaml

    found = models_yaml.load(file)
    if not found:
        raise InvalidRequest(f"{file}: expected a model, found none")
    return found[0].name


def _content_type(picture: Path) -> str:
    return {".png": "image/png", ".webp": "image/webp"}.get(picture.suffix.lower(), "image/jpeg")


def _short(path: Path) -> str:
    """The path as seen from the working directory."""
    relative = os.path.relpath(path.resolve())
    return str(path) if relative.startswith("..") else relative


def _on_sigterm(number: int, frame: object) -> None:
    raise KeyboardInterrupt
