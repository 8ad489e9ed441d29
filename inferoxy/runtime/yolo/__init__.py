"""The yolo runtime: detectors in the ONNX forms that YOLO families export, pictures in, boxes out."""
