"""Bridges: client protocols in, our messages out. No batching, no policy."""
