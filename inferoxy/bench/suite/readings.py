"""One measurement, as it is kept. Data only."""

from msgspec import Struct


class Reading(Struct, kw_only=True):
    """One measurement of one probe. Shares are of all processors; CPU is in microseconds per request."""

    probe: str
    round: int
    generator: str
    requests_per_s: float
    p50_ms: float
    p99_ms: float
    failed: int = 0
    mean_batch: float = 0.0
    cpu_us: dict[str, float] = {}
    others: float = 0.0
    stolen: float = 0.0
    problems: list[str] = []
