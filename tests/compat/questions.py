"""Tensors that several tests ask about, and the status that a refusal should have."""

from typing import Any

from tests.compat.callers import Caller

ROW = {"name": "IN", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
ONE = {"name": "IN", "datatype": "INT32", "shape": [1], "data": [1]}


def row(*values: float) -> list[dict[str, Any]]:
    return [{"name": "IN", "datatype": "FP32", "shape": [len(values) // 4, 4], "data": list(values)}]


def number(value: int = 1) -> list[dict[str, Any]]:
    return [{**ONE, "data": [value]}]


def status(triton: Caller, code: str, http_status: str) -> str:
    return f"StatusCode.{code}" if triton.is_grpc else http_status
