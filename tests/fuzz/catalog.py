"""All targets by name. How many of a run's inputs one gets is by its share."""

from collections.abc import Callable

from tests.fuzz import (
    on_codings,
    on_first,
    on_grpc,
    on_head,
    on_pickles,
    on_pictures,
    on_predict,
    on_streams,
    on_v2,
    on_zmq,
)  # fmt: skip
from tests.fuzz.target import Target

TARGETS: dict[str, Callable[[], Target]] = {
    made.name: made
    for made in (
        on_zmq.Messages,
        on_zmq.Results,
        on_v2.Infer,
        on_pictures.Pictures,
        on_predict.Predict,
        on_predict.Query,
        on_predict.Form,
        on_head.Heads,
        on_grpc.Infers,
        on_grpc.Predicts,
        on_codings.Codings,
        on_streams.Streams,
        on_first.First,
        on_pickles.Pickles,
    )
}
SHARES = {on_zmq.Messages.name: 3, on_v2.Infer.name: 3, on_pictures.Pictures.name: 3, on_predict.Predict.name: 2}


def divided(total: int, names: list[str]) -> dict[str, int]:
    """How many inputs each of these targets gets; together at least `total`."""
    shares = {name: SHARES.get(name, 1) for name in names}
    whole = sum(shares.values())
    return {name: -(-total * share // whole) for name, share in shares.items()}
