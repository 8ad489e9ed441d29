"""Hundreds of clients of every kind at once, each of whose answers is checked. See docs/benchmarks.md."""
