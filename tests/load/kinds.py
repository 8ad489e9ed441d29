"""Which clients there are in a crowd: so many of a hundred of each kind."""

from collections.abc import Callable, Collection

from tests.load import grpc_clients, http_clients, ws_clients, zmq_clients
from tests.load.talk import Place, Turn

Make = Callable[[Place], Turn]

# Clients of one process, which speaks one or two protocols.
GROUPS: dict[str, dict[str, tuple[Make, int]]] = {
    "http": {
        "http binary": (http_clients.binary, 10),
        "http large": (http_clients.large, 2),
        "http json": (http_clients.plain_json, 10),
        "http pictures": (http_clients.pictures, 10),
        "http sequences": (http_clients.sequences, 4),
        "http cancelled": (http_clients.cancelled, 4),
        "http broken": (http_clients.broken, 3),
        "http bad inputs": (http_clients.bad_inputs, 5),
        "websocket": (ws_clients.frames, 5),
        "websocket broken": (ws_clients.broken, 2),
    },
    "others": {
        "grpc unary": (grpc_clients.unary, 10),
        "grpc streams": (grpc_clients.streams, 3),
        "grpc pictures": (grpc_clients.pictures, 3),
        "grpc videos": (grpc_clients.videos, 2),
        "grpc sequences": (grpc_clients.sequences, 3),
        "grpc cancelled": (grpc_clients.cancelled, 3),
        "grpc bad inputs": (grpc_clients.bad_inputs, 3),
        "zmq unary": (zmq_clients.unary, 8),
        "zmq pipelined": (zmq_clients.pipelined, 2),
        "zmq sequences": (zmq_clients.sequences, 4),
        "zmq cancelled": (zmq_clients.cancelled, 2),
        "zmq bad inputs": (zmq_clients.bad_inputs, 2),
    },
}
KINDS: dict[str, Make] = {name: make for group in GROUPS.values() for name, (make, _) in group.items()}


def crowd(clients: int, only: Collection[str] | None = None) -> dict[str, dict[str, int]]:
    """How many clients of each kind, by process; at least one of each, together `clients` where that is possible.

    Args:
        clients: How many.
        only: Kinds; None: all.
    """
    chosen = KINDS if only is None else only
    shares = {
        (group, name): share for group, kinds in GROUPS.items() for name, (_, share) in kinds.items() if name in chosen
    }
    whole = sum(shares.values())
    counts = {key: max(1, clients * share // whole) for key, share in shares.items()}
    left = clients - sum(counts.values())
    for key in sorted(shares, key=lambda key: -shares[key]):
        counts[key] += left > 0
        left -= left > 0
    by_group: dict[str, dict[str, int]] = {}
    for (group, name), count in counts.items():
        by_group.setdefault(group, {})[name] = count
    return by_group
