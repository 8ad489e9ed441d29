"""Large tensors through a real stack's shared memory: right bytes in, right bytes out, whoever dies, and none left."""

import json
import os
import random
import signal
import threading
import time
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from inferoxy import Client, InferoxyError
from tests.integration.stack import Stack

MODEL = """
import zlib
import numpy as np
from inferoxy.runtime import Model

class Checked(Model):
    inputs = {"DATA": ("UINT8", [-1])}
    outputs = {"SUM": ("UINT32", [1]), "INVERTED": ("UINT8", [-1])}

    def infer_each(self, requests):
        return [{"SUM": np.array([zlib.crc32(r["DATA"])], np.uint32), "INVERTED": 255 - r["DATA"]} for r in requests]
"""


@pytest.fixture
def models(tmp_path: Path) -> str:
    folder = tmp_path / "checked"
    folder.mkdir()
    (folder / "model.py").write_text(MODEL)
    return (
        f"checked:\n  artifact: {folder}\n  runtime: python\n  batch_size: 4\n"
        "  timeout_ms: 20000\n  instances: {min: 1, max: 1}\n"
    )


def arenas(stack: Stack) -> list[dict[str, int]]:
    found: list[dict[str, int]] = []

    def walk(node: object) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("arena"), dict):
                found.append(node["arena"])
            for child in node.values():
                walk(child)

    walk(stack.status())
    return found


def ask(client: Client, data: np.ndarray) -> None:
    """One request; whatever answer comes must be the right one."""
    result = client.infer("checked", {"DATA": data})
    assert int(result["SUM"][0]) == zlib.crc32(data)
    assert np.array_equal(result["INVERTED"], 255 - data)


def wait_for(stack: Stack, condition: Callable[[list[dict[str, int]]], bool]) -> None:
    """Figures travel from the bridges to the status within two seconds."""
    until = time.monotonic() + 10
    while not condition(arenas(stack)):
        assert time.monotonic() < until, arenas(stack)
        time.sleep(0.2)


def wait_until_unused(stack: Stack) -> None:
    time.sleep(2.0)
    wait_for(stack, lambda found: not any(arena["used_slots"] for arena in found))


def test_bodies_and_large_answers_lie_in_shared_memory_and_every_slot_comes_back(models: str) -> None:
    rng = np.random.default_rng(1)
    with Stack(models=models) as stack:
        with Client(stack.rest_url) as client:
            ask(client, rng.integers(0, 256, 10, np.uint8))  # an instance is there and has said what it sees
        time.sleep(1.0)
        for url in (stack.rest_url, f"grpc://{stack.grpc_address}", stack.zmq_endpoint):
            with Client(url) as client:
                for size in (10, 70_000, 1_228_800, 3_000_000, 70_000, 1_228_800):
                    ask(client, rng.integers(0, 256, size, np.uint8))
        wait_for(stack, lambda found: sum(arena["segments"] for arena in found) >= 3)
        wait_until_unused(stack)


def test_a_small_arena_makes_it_slower_but_never_wrong(models: str) -> None:
    rng = np.random.default_rng(2)
    with Stack(models=models, settings={"arena_mib": 2}) as stack, Client(stack.rest_url) as client:
        ask(client, rng.integers(0, 256, 10, np.uint8))  # an instance is there and has said what it sees
        time.sleep(1.0)
        threads = [
            threading.Thread(target=ask, args=(client, rng.integers(0, 256, size, np.uint8)))
            for size in [1_500_000, 3_000_000] * 6  # the larger ones do not fit in any case
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_for(stack, lambda found: any(arena["refused"] for arena in found))
        wait_until_unused(stack)


@pytest.mark.timeout(120)
def test_no_answer_is_stale_or_torn_while_owners_and_readers_are_killed(models: str) -> None:
    with Stack(models=models) as stack:
        answered, failed, wrong = [0], [0], []
        is_over = threading.Event()

        def load(seed: int) -> None:
            rng = np.random.default_rng(seed)
            with Client(stack.rest_url) as client:
                while not is_over.is_set():
                    data = rng.integers(0, 256, int(rng.integers(70_000, 900_000)), np.uint8)
                    try:
                        ask(client, data)
                        answered[0] += 1
                    except AssertionError as exc:
                        wrong.append(exc)
                    except InferoxyError:
                        failed[0] += 1  # its bridge was killed under it

        threads = [threading.Thread(target=load, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        chance = random.Random(3)
        for victim in ("instance", "bridge_rest", "batch_manager", "instance", "bridge_rest", "batch_manager"):
            time.sleep(1.0 + chance.random())
            if victim == "instance":
                os.kill(instance_pid(stack), signal.SIGKILL)
            else:
                stack.kill(victim)
        time.sleep(3.0)
        is_over.set()
        for thread in threads:
            thread.join()
        assert not wrong
        assert answered[0] > 100
        with Client(stack.rest_url) as client:
            ask(client, np.arange(200_000, dtype=np.uint8))
        wait_until_unused(stack)


def instance_pid(stack: Stack) -> int:
    """Waits until there is one."""
    until = time.monotonic() + 15
    while time.monotonic() < until:
        with urllib.request.urlopen(f"{stack.admin_url}/instances") as answer:
            for row in json.load(answer):
                if row["state"] == "ready" and row["where"].startswith("pid "):
                    return int(row["where"].split()[1])
        time.sleep(0.1)
    pytest.fail("no instance is ready")
