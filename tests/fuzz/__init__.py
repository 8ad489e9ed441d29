"""Inputs that nobody should send, to everything that reads what clients send. See docs/failure.md."""
