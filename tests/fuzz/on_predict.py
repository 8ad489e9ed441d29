"""What is posted to the predict route: query, headers and body, in every form that a picture may have there."""

import base64
from random import Random
from typing import Any
from urllib.parse import quote

from bridges.rest import multipart, predict
from tests.fuzz.encodings import to_json
from tests.fuzz.mutations import TEXTS, mutate_bytes, mutate_parts, mutate_tree
from tests.fuzz.pictures import corpus, mutate_picture
from tests.fuzz.rest import Rest
from tests.fuzz.target import Input
from tests.fuzz.world import LIMITS

BOUNDARY = b"xYzZY"
MODELS = (b"cold", b"sum", b"rows", b"nothing", b"\xff")
ACCEPTS = (
    b"", b"*/*", b"application/json", b"image/jpeg", b"image/png;q=0.5, image/jpeg;q=0.1", b"image/*", b"image/webp",
    b"application/json;q=0, image/png", b"image/jpeg;q=" + b"9" * 400, b"image/,,;;q=;",
)  # fmt: skip
QUERIES = (
    b"", b"", b"", b"", b"confidence=0.5&name=a", b"timeout_ms=100&priority=5&version=1", b"a=1&a=2&a=true",
    b"sequence_id=7&sequence_start=true", b"sequence_id=cam&sequence_start=true&sequence_end=true",
    b"sequence_end=true", b"init=%7B%22a%22%3A1%7D", b"draw=png&iou=1e-3&classes=1&classes=2",
)  # fmt: skip
RESERVED = (
    b"timeout_ms",
    b"priority",
    b"version",
    b"sequence_id",
    b"sequence_start",
    b"sequence_end",
    b"init",
    b"image",
)
TYPES = (
    b"image/jpeg", b"image/png", b"application/octet-stream", b"", b"application/json; charset=utf-8", b"text/html",
    b"application/x+json", b"multipart/form-data; boundary=" + BOUNDARY, b"multipart/form-data", b"IMAGE/JPEG",
    b'multipart/form-data; boundary="' + BOUNDARY + b'"; charset=x', b"multipart/form-data; boundary=" + b"a" * 3_000,
)  # fmt: skip
JSON, FORM = b"application/json", TYPES[7]


def make_query(chance: Random) -> bytes:
    """A query string with something wrong."""
    query = chance.choice(QUERIES)
    for _ in range(chance.choice((0, 1, 1, 2))):
        if chance.random() < 0.5:
            value = quote(chance.choice(TEXTS), safe="", errors="surrogatepass").encode()
            query += b"&%b=%b" % (chance.choice(RESERVED), value)
        else:
            query = mutate_bytes(query, chance, QUERIES)
    return query


class Query:
    """The query string, and the id of a sequence in the path."""

    name = "query"

    def make(self, chance: Random) -> Input:
        """See Target."""
        return [make_query(chance), mutate_bytes(b"17", chance)]

    def run(self, given: Input) -> None:
        """See Target."""
        query, name = given
        predict.read_end(name.decode("latin-1"), b"version=1")
        predict.read_query(query)


class Form:
    """A multipart body."""

    name = "multipart"

    def __init__(self) -> None:
        self._pictures = corpus()

    def make(self, chance: Random) -> Input:
        """See Target."""
        kind = chance.choice(TYPES[7:]) if chance.random() < 0.2 else FORM
        if chance.random() < 0.2:
            kind = mutate_bytes(kind, chance, TYPES)
        return [kind, make_form(chance, self._pictures)]

    def run(self, given: Input) -> None:
        """See Target."""
        kind, body = given
        multipart.split(memoryview(body), multipart.boundary_of(kind))
        predict.read_pictures(kind, memoryview(body), LIMITS)


class Predict:
    """All of a request to the predict route."""

    name = "predict"

    def __init__(self) -> None:
        self._rest = Rest()
        self._pictures = corpus()
        self._encoded = [base64.b64encode(picture).decode() for picture in self._pictures]

    def make(self, chance: Random) -> Input:
        """See Target."""
        kind = chance.choice((b"image/jpeg", JSON, FORM))
        if kind == JSON:
            body = self._json(chance)
        elif kind == FORM:
            body = make_form(chance, self._pictures)
        else:
            body = chance.choice(self._pictures)
            body = mutate_picture(body, chance, self._pictures) if chance.random() < 0.7 else body
        if chance.random() < 0.15:
            kind = chance.choice(TYPES)
        accept = chance.choice(ACCEPTS) if chance.random() < 0.3 else b""
        if chance.random() < 0.1:
            kind, accept = mutate_bytes(kind, chance, TYPES), mutate_bytes(accept, chance, ACCEPTS)
        query = make_query(chance) if chance.random() < 0.4 else chance.choice(QUERIES)
        model = chance.choice(MODELS) if chance.random() < 0.15 else b"picture"
        return [model, query, kind, accept, body]

    def _json(self, chance: Random) -> bytes:
        one = chance.choice(self._encoded)
        rows = [[[1, 2, 3]] * chance.choice((1, 2))] * chance.choice((1, 3))
        tree: Any = chance.choice((
            {"image": one},
            {"image": "data:image/jpeg;base64," + one, "parameters": {"confidence": 0.5, "init": "{}"}},
            {"image": rows},
            {"images": [one, rows], "parameters": {"a": [1, {"b": None}]}},
        ))  # fmt: skip
        if chance.random() < 0.85:
            tree = mutate_tree(tree, chance, chance.randint(1, 3))
        body = to_json(tree, chance)
        return mutate_bytes(body, chance) if chance.random() < 0.25 else body

    def run(self, given: Input) -> None:
        """See Target."""
        model, query, kind, accept, body = given
        headers = {b"content-type": kind, b"accept": accept}
        name = model.decode("latin-1")
        self._rest.answer(self._rest.handlers.predict(name, query, headers, memoryview(body), "r-1"))


def make_form(chance: Random, pictures: list[bytes]) -> bytes:
    """A form with pictures and fields in it, and something wrong with its parts, their headers or their edges."""
    parts = []
    for at in range(chance.choice((1, 1, 2, 3, 80))):
        if chance.random() < 0.3:
            parts.append(_part(b'name="p%d"' % at, b"", chance.choice(TEXTS).encode("utf-8", "surrogatepass")))
        else:
            data = chance.choice(pictures)
            data = mutate_picture(data, chance, pictures) if chance.random() < 0.3 else data
            kind = chance.choice((b"image/jpeg", b"image/png", b"", b"text/plain", b"image/webp; a=b"))
            parts.append(_part(b'name="f%d"; filename="a%d.jpg"' % (at, at), kind, data))
    scope = chance.random()
    if scope < 0.3:
        parts = mutate_parts(parts, chance)
    elif scope < 0.7:
        at = chance.randrange(len(parts))
        head, _, data = parts[at].partition(b"\r\n\r\n")
        parts[at] = mutate_bytes(head, chance, parts) + b"\r\n\r\n" + data
    body = b"".join(b"--%b\r\n%b" % (BOUNDARY, part) for part in parts) + b"--%b--\r\n" % BOUNDARY
    return mutate_bytes(body, chance, times=chance.randint(1, 3)) if chance.random() < 0.4 else body


def _part(disposition: bytes, kind: bytes, data: bytes) -> bytes:
    more = b"Content-Type: %b\r\n" % kind if kind else b""
    return b"Content-Disposition: form-data; %b\r\n%b\r\n%b\r\n" % (disposition, more, data)
