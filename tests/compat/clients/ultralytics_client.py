"""Ultralytics' remote model: `ultralytics_client.py http|grpc URL-OF-THE-MODEL`.

torchvision's wheel does not load beside a torch built without CUDA. Ultralytics uses only its `nms`, of which it has
one of its own for when torchvision is not there.
"""

import os
import sys
import tempfile
import types
from typing import Any

# Its settings file, and no questions to its maker.
os.environ |= {"YOLO_CONFIG_DIR": tempfile.mkdtemp(), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}

from serving import serve
from ultralytics import YOLO
from ultralytics.utils.nms import TorchNMS

try:
    import torchvision  # noqa: F401
except (ImportError, RuntimeError):
    sys.modules["torchvision"] = types.ModuleType("torchvision")
    sys.modules["torchvision"].ops = types.SimpleNamespace(nms=TorchNMS.nms)

MODEL = YOLO(sys.argv[2], task="detect")


def predict(path: str, size: int, confidence: float) -> dict[str, Any]:
    """Boxes in pixels of the picture, best first."""
    [found] = MODEL.predict(path, imgsz=size, conf=confidence, verbose=False, save=False)
    return {
        "names": {str(number): name for number, name in found.names.items()},
        "boxes": found.boxes.xyxy.tolist(),
        "confidence": found.boxes.conf.tolist(),
        "class_id": [int(number) for number in found.boxes.cls.tolist()],
    }


serve(globals())
