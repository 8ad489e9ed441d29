"""HTTP load by wrk, which costs less than any generator in Python: the same bytes, a closed loop of connections."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from inferoxy.client.http_protocol import HttpExchange
from inferoxy.errors import InferoxyError

_SCRIPT = """
local file = io.open(%(body)s, "rb")
wrk.method = %(method)s
wrk.body = file:read("*a")
file:close()
%(headers)s
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\n{"requests": %%d, "duration_us": %%d, "p50_us": %%d, "p99_us": %%d, "status": %%d, "broken": %%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), e.status,
    e.connect + e.read + e.write + e.timeout))
end
"""


class Counted(NamedTuple):
    """What wrk counted."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


def is_installed() -> bool:
    """Whether it can be used."""
    return shutil.which("wrk") is not None


def run(url: str, asked: HttpExchange, connections: int, seconds: float, folder: Path) -> Counted:
    """Put load on a server. wrk counts whole seconds only, at least one.

    Args:
        url: Of the server.
        asked: What every request is.
        connections: Each with one request in flight.
        seconds: How long.
        folder: For the script and the body.

    Raises:
        InferoxyError: wrk failed.
    """
    body, script = folder / "wrk-body", folder / "wrk.lua"
    body.write_bytes(asked.body)
    headers = "\n".join(f"wrk.headers[{_lua(k)}] = {_lua(v)}" for k, v in asked.headers.items() if v)
    script.write_text(_SCRIPT % {"body": _lua(str(body)), "method": _lua(asked.method), "headers": headers})
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s", str(script)]
    ended = subprocess.run([*command, f"{url}{asked.path}"], capture_output=True, text=True)
    told = next((line for line in ended.stdout.splitlines() if line.startswith("{")), "")
    if ended.returncode or not told:
        raise InferoxyError(f"wrk failed: {(ended.stderr or ended.stdout)[:400]}")
    found = json.loads(told)
    failed = found["status"] + found["broken"]
    good = found["requests"] - found["status"]
    return Counted(good / (found["duration_us"] / 1e6), found["p50_us"] / 1e3, found["p99_us"] / 1e3, failed)


def _lua(text: str) -> str:
    """A text as Lua writes it; JSON's form is Lua's for what headers and paths hold."""
    return json.dumps(text)
