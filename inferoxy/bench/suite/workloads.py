"""What is measured: the workloads, their probes and what must hold. Data only."""

from pathlib import Path
from typing import Literal, NamedTuple

MODELS = Path(__file__).resolve().parents[1] / "models"
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "detector"

BATCH = 32
IDEAL_SLEEPER = BATCH / (0.005 + 0.0002 * BATCH)  # items/s of models/sleeper when every batch is full

Kind = Literal["rest", "zmq", "plain"]
Target = Literal["stack", "ceiling", "longer"]
Figure = Literal["rate_ratio", "p50_ratio", "p50_ms", "p50_added_ms", "of_ideal"]


class Probe(NamedTuple):
    """One thing to measure.

    Attributes:
        key: Its name in results.
        title: What it is, for people.
        kind: rest and zmq: load of `size` connections or window; plain: the loop over batches of `size` pictures.
        target: The stack, or the ceiling of that kind: the C server, the echo (of three hops: "longer").
        exact: Its latency is what counts: measured by our own generator, never wrk.
        joined: ZeroMQ: requests that are due together travel in one message.
    """

    key: str
    title: str
    kind: Kind
    target: Target
    size: int
    exact: bool = False
    joined: bool = False


class Check(NamedTuple):
    """Something that must hold of the median.

    Attributes:
        text: What must hold, for people.
        short: The value in the last line, with {} for the number.
        figure: How it is computed from a probe and, for ratios, the best of the ceilings of the same round.
        ours: A probe's key.
        ceilings: Probes' keys.
        least, most: The bound; one of them is set.
    """

    text: str
    short: str
    figure: Figure
    ours: str
    ceilings: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None


class Workload(NamedTuple):
    """A model, what is sent to it, what is measured and what must hold."""

    name: str
    title: str
    model: str
    artifact: Path
    batch_size: int
    tensor: str  # a synthetic input; empty: the example's picture is sent
    answer_bytes: int  # of the C server's answers
    probes: tuple[Probe, ...]
    checks: tuple[Check, ...]
    runtime: str = "python"


W1 = Workload(
    "W1", "float32[1,16], identity", "identity", MODELS / "identity", BATCH, "INPUT0:FP32:1x16", 64,
    (
        Probe("zmq_w64", "ZeroMQ, window 64", "zmq", "stack", 64),
        Probe("echo_w64", "two-hop echo, window 64", "zmq", "ceiling", 64),
        Probe("rest_c64", "REST, 64 connections", "rest", "stack", 64),
        Probe("c_c64", "C server, 64 connections", "rest", "ceiling", 64),
        Probe("zmq_c1", "ZeroMQ, one at a time", "zmq", "stack", 1, exact=True),
        Probe("echo_c1", "two-hop echo, one at a time", "zmq", "ceiling", 1, exact=True),
        Probe("echo3_c1", "three-hop echo, one at a time", "zmq", "longer", 1, exact=True),
        Probe("rest_c1", "REST, one at a time", "rest", "stack", 1, exact=True),
        Probe("zmq_w64_joined", "ZeroMQ, window 64, joined", "zmq", "stack", 64, joined=True),
    ),
    (
        Check("ZeroMQ at least 0.65 of the echo, window 64", "ZeroMQ {:.2f} of echo", "rate_ratio",
              "zmq_w64", ("echo_w64",), least=0.65),
        Check("ZeroMQ p50 at most 1.3 times the echo's, one at a time", "p50 {:.1f}x echo", "p50_ratio",
              "zmq_c1", ("echo_c1",), most=1.3),
        Check("REST p50 below 0.8 ms, one at a time", "REST p50 {:.2f} ms", "p50_ms", "rest_c1", most=0.8),
    ),
)  # fmt: skip
W2 = Workload(
    "W2", "uint8[640,640,3] raw, three means", "means", MODELS / "means", BATCH, "INPUT0:UINT8:640x640x3", 12,
    (
        Probe("rest_c8", "REST, 8 connections", "rest", "stack", 8),
        Probe("c_c8", "C server, 8 connections", "rest", "ceiling", 8),
        Probe("rest_c1", "REST, one at a time", "rest", "stack", 1, exact=True),
        Probe("zmq_w8", "ZeroMQ, window 8", "zmq", "stack", 8),
    ),
    (
        Check("REST at least 0.85 of the C server, 8 connections", "{:.2f} of C", "rate_ratio",
              "rest_c8", ("c_c8",), least=0.85),
    ),
)  # fmt: skip
W3 = Workload(
    "W3", "5 ms and 0.2 ms per item of sleep, batch 32", "sleeper", MODELS / "sleeper", BATCH, "INPUT0:FP32:1x16", 64,
    (
        Probe("rest_c64", "REST, 64 connections", "rest", "stack", 64),
        Probe("rest_c128", "REST, 128 connections", "rest", "stack", 128),
    ),
    (
        Check("REST at least 0.96 of the ideal, 64 connections", "{:.3f}", "of_ideal", "rest_c64", least=0.96),
        Check("REST at least 0.98 of the ideal, 128 connections", "{:.3f} of ideal", "of_ideal",
              "rest_c128", least=0.98),
    ),
)  # fmt: skip
W4 = Workload(
    "W4", "JPEG pictures, the shipped detector", "detector", EXAMPLE / "detector.onnx", 8, "", 0,
    (
        Probe("rest_c16", "REST, 16 connections", "rest", "stack", 16, exact=True),
        Probe("plain_8", "plain loop, batches of 8", "plain", "ceiling", 8),
        Probe("plain_1", "plain loop, one at a time", "plain", "ceiling", 1),
        Probe("rest_c1", "REST, one at a time", "rest", "stack", 1, exact=True),
    ),
    (
        Check("REST at least 0.90 of the faster plain loop, 16 connections", "{:.2f} of loop", "rate_ratio",
              "rest_c16", ("plain_8", "plain_1"), least=0.90),
        Check("REST p50 at most 2 ms above the plain loop's, one at a time", "{:+.1f} ms", "p50_added_ms",
              "rest_c1", ("plain_1",), most=2.0),
    ),
    runtime="yolo",
)  # fmt: skip
WORKLOADS = (W1, W2, W3, W4)
PICTURE = EXAMPLE / "sample.jpg"


def models_yaml(workload: Workload) -> str:
    """The workload's model as a models.yaml."""
    return (
        f"{workload.model}:\n  artifact: {workload.artifact}\n  runtime: {workload.runtime}\n"
        f"  batch_size: {workload.batch_size}\n  run_on_gpu: false\n  stateless: true\n  queue_size: 4096\n"
        "  instances: {min: 1, max: 1}\n"
    )
