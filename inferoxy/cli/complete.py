"""What a shell offers behind `inferoxy infer`: the models of the server that the command line or environment names.

A shell waits for the answer while a person types, so it is quick or nothing, and never a message.
"""

import os
import shlex
import socket
import threading
from collections.abc import MutableMapping
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from inferoxy.client.address import Address

CONNECT_S = 0.2
ANSWER_S = 0.8
ASKED = "_INFEROXY_COMPLETE"  # the variable by which Typer's scripts say that a shell asks
_HEAD = "_INFEROXY_COMPLETE_HEAD"
_BREAKS = frozenset(":=@")  # bash takes words apart at these


def mend_words(environ: MutableMapping[str, str]) -> None:
    """Put words together that bash took apart: http://host and model@version are one word each.

    Of the word that is being typed bash wants the part behind the last break alone; what stands before is noted apart.

    Args:
        environ: With COMP_WORDS and COMP_CWORD, if it is bash that asks; they are changed.
    """
    if environ.get(ASKED) != "complete_bash":
        return
    try:
        words = shlex.split(environ["COMP_WORDS"])
        at = int(environ["COMP_CWORD"])
    except (KeyError, ValueError):
        return  # an open quote, say: as it was
    whole: list[str] = []
    joins = False
    for word in words[:at]:
        is_break = bool(word) and _BREAKS.issuperset(word)
        if whole and (joins or is_break):
            whole[-1] += word
        else:
            whole.append(word)
        joins = is_break
    typed = words[at] if at < len(words) else ""
    if typed and _BREAKS.issuperset(typed):
        joins, typed, whole[-1] = True, "", whole[-1] + typed
    environ[_HEAD] = whole.pop() if joins and len(whole) > 1 else ""
    environ["COMP_CWORD"] = str(len(whole))
    environ["COMP_WORDS"] = shlex.join([*whole, typed])


def complete_model(ctx: typer.Context, incomplete: str) -> list[str]:
    """The names that begin so; behind an @ the versions.

    Args:
        ctx: What has been typed so far.
        incomplete: The word that is being typed.
    """
    from inferoxy.client import address as addresses
    from inferoxy.errors import InferoxyError

    url = str(ctx.params.get("url") or os.environ.get("INFEROXY_URL") or addresses.DEFAULT_URL)
    try:
        address = addresses.parse(url)
    except InferoxyError:
        return []
    if not _is_there(address):
        return []
    found: set[str] = set()
    head = os.environ.get(_HEAD, "")
    asking = threading.Thread(target=_ask, args=(url, "@" in head + incomplete, found), daemon=True)
    asking.start()
    asking.join(ANSWER_S)
    return [name.removeprefix(head) for name in sorted(found) if name.startswith(head + incomplete)]


def _is_there(address: "Address") -> bool:
    """Whether something listens there: a client would wait for a server that may be restarting."""
    from urllib.parse import urlsplit

    if address.url.startswith("ipc://"):
        return os.path.exists(address.url.removeprefix("ipc://"))
    parts = urlsplit(address.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), CONNECT_S).close()
    except OSError:
        return False
    return True


def _ask(url: str, with_versions: bool, found: set[str]) -> None:
    from inferoxy.client import Client
    from inferoxy.errors import InferoxyError

    try:
        with Client(url) as client:
            models = client.models()
    except (InferoxyError, OSError):
        return
    found.update(f"{model.name}@{model.version}" if with_versions else model.name for model in models)
