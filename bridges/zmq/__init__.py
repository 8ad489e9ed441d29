"""The ZeroMQ bridge: the documented frames (protos/wire.md) between DEALER clients and the batch manager."""
