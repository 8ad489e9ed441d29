"""The part of Ultralytics that talks to a server, alone: `ultralytics_remote.py http|grpc URL-OF-THE-MODEL`.

The package around it needs torch (1.6 GB), so the file is loaded without the package.
"""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
from serving import serve


def load() -> Any:
    [package] = importlib.util.find_spec("ultralytics").submodule_search_locations
    spec = importlib.util.spec_from_file_location("remote", Path(package) / "utils" / "triton.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TritonRemoteModel(sys.argv[2])


MODEL = load()


def describe() -> dict[str, Any]:
    return {"inputs": MODEL.input_names, "outputs": MODEL.output_names, "metadata": MODEL.metadata}


def run(shape: list[int]) -> list[Any]:
    """The outputs' shapes and the first's sum for zeros of a shape."""
    outputs = MODEL(np.zeros(shape, np.float32))
    return [[list(output.shape) for output in outputs], float(outputs[0].sum())]


serve(globals())
