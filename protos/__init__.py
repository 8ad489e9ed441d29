"""Protocol definitions: gRPC protos with their generated stubs, and wire.md for ZeroMQ."""
