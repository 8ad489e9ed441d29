"""What is said on a WebSocket: its query, texts and frames."""

from random import Random
from typing import Any, cast

import msgspec

from bridges.link import Link
from bridges.rest import stream
from bridges.rest.stream_session import Session
from inferoxy.errors import InferoxyError
from tests.fuzz.encodings import to_json
from tests.fuzz.links import WorldLink
from tests.fuzz.mutations import mutate_bytes, mutate_tree
from tests.fuzz.on_predict import make_query
from tests.fuzz.pictures import corpus, mutate_picture
from tests.fuzz.target import Input
from tests.fuzz.world import LIMITS, OUR_FAULT, Fault

TEXTS: tuple[Any, ...] = (
    {"parameters": {"confidence": 0.5, "init": {"a": 1}}},
    {"id": "frame-1"},
    {"id": 7},
    {"end": True},
)
QUERIES = (b"", b"window=2", b"draw=png&order=any", b"drop=oldest&window=1", b"sequence_id=5", b"window=64&a=1")
MODELS = (*(b"picture",) * 12, b"cold", b"cold", b"rows", b"sum")
TEXT = b"T"  # the first byte of a text message; frames begin with another


class Streams:
    """A whole stream. The parts are model, query and messages."""

    name = "websocket"

    def __init__(self) -> None:
        self._link = WorldLink()
        self._pictures = corpus()

    def make(self, chance: Random) -> Input:
        """See Target."""
        query = make_query(chance) if chance.random() < 0.2 else chance.choice(QUERIES)
        if chance.random() < 0.2:
            query = mutate_bytes(query, chance, QUERIES)
        return [chance.choice(MODELS), query, *(self._message(chance) for _ in range(chance.randint(1, 5)))]

    def _message(self, chance: Random) -> bytes:
        if chance.random() < 0.5:
            data = chance.choice(self._pictures)
            return b"F" + (mutate_picture(data, chance, self._pictures) if chance.random() < 0.5 else data)
        text = to_json(mutate_tree(chance.choice(TEXTS), chance, chance.randint(0, 2)), chance)
        return TEXT + (mutate_bytes(text, chance) if chance.random() < 0.2 else text)

    def run(self, given: Input) -> None:
        """See Target. A message that is refused is told so, and the stream goes on."""
        model, query, *messages = given
        link = cast(Link, self._link)
        wish = stream.read_wish(query)
        session = Session(link, LIMITS, model.decode("latin-1"), wish, "r-1", lambda: None)
        session.check_model()
        told: list[InferoxyError] = []
        try:
            for message in messages:
                if session.takes:
                    is_text = message.startswith(TEXT)
                    session.take(message[1:].decode("utf-8", "replace") if is_text else message[1:])
                self._link.deliver()
                told += _read(session)
        finally:
            session.close(in_order=len(messages) % 2 == 0)
            self._link.deliver()
        if told:
            raise told[0]


def _read(session: Session) -> list[InferoxyError]:
    """Everything that is to be written; the errors in it."""
    found: list[InferoxyError] = []
    while (message := session.next_message()) is not None:
        if isinstance(message, bytes):
            continue
        said = msgspec.json.decode(message)
        if said.get("code") in OUR_FAULT:
            raise Fault(f"told {said['code']}: {said['error']}")
        if "code" in said:
            found.append(InferoxyError(said["error"], said["code"]))
    return found
