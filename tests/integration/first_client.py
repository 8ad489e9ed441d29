"""A client of the first Inferoxy's ZeroMQ bridge, as its users wrote them: pickles over PUSH and DEALER.

Nothing of ours is imported. Usage: first_client.py REQUESTS RESULTS SOURCE MODEL COUNT; prints one line for each
answer, as JSON.
"""

import json
import pickle
import sys

import numpy as np
import zmq


def main() -> None:
    requests, results, source_id, model, count = sys.argv[1:]
    context = zmq.Context()
    sender = context.socket(zmq.PUSH)
    sender.connect(requests)
    receiver = context.socket(zmq.DEALER)
    receiver.setsockopt(zmq.IDENTITY, source_id.encode())
    receiver.setsockopt(zmq.RCVTIMEO, 60_000)
    receiver.connect(results)
    for index in range(int(count)):
        image = np.full((6, 4, 3), index % 250 + 1, np.uint8)
        part = {"data": image, "shape": list(image.shape), "datatype": "uint8", "parameters": {"index": index}}
        sender.send_pyobj({"source_id": source_id, "model": model, "inputs": [part]})
    for _ in range(int(count)):
        answer = pickle.loads(receiver.recv())
        output = answer["outputs"][0]
        picture = output["data"]
        if picture is not None:
            picture[0, 0] = 0  # clients draw on it
        shown = {
            "model": answer["model"], "source_id": answer["source_id"], "outputs": len(answer["outputs"]),
            "index": output["parameters"].get("index"), "output": output["output"], "error": output["error"],
            "shape": output["shape"], "datatype": output["datatype"],
            "dtype": None if picture is None else str(picture.dtype),
            "sum": None if picture is None else int(picture.sum()),
        }  # fmt: skip
        print(json.dumps(shown), flush=True)
    context.destroy(linger=0)


if __name__ == "__main__":
    main()
