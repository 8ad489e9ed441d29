"""The gRPC bridge: the Open Inference Protocol, health and reflection."""
