"""The Python client: numpy arrays and picture files in, typed answers out, over HTTP, gRPC or ZeroMQ.

from inferoxy import Client

with Client("http://127.0.0.1:8698") as client:
    for found in client.predict("detector", "street.jpg"):
        print(found.class_name, found.confidence, found.box)
"""

from inferoxy.client.async_client import AsyncClient
from inferoxy.client.async_sequence import AsyncSequence
from inferoxy.client.calls import ConnectionFailed
from inferoxy.client.client import Client
from inferoxy.client.exports import write_coco
from inferoxy.client.many import InferItem, Item, pictures_in
from inferoxy.client.pictures import Source
from inferoxy.client.results import Detection, Detections, InferResult, ModelInfo, Prediction, Served, Size
from inferoxy.client.sequence import Sequence
from inferoxy.errors import SequenceLost

__all__ = [
    "AsyncClient",
    "AsyncSequence",
    "Client",
    "ConnectionFailed",
    "Detection",
    "Detections",
    "InferItem",
    "InferResult",
    "Item",
    "ModelInfo",
    "Prediction",
    "Sequence",
    "SequenceLost",
    "Served",
    "Size",
    "Source",
    "pictures_in",
    "write_coco",
]
