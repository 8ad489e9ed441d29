"""Claims about the model manager alone: the admin API, the catalog it hands out, what it remembers."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import zmq

from inferoxy import messages as m
from inferoxy import sockets, wire
from tests.integration.stack import wait_until

FIVE_KEYS = {"name": "stub", "address": "registry/stub:v2", "stateless": True, "batch_size": 4, "run_on_gpu": False}


class ModelManager:
    """`inferoxy model-manager` alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.models = folder / "models.yaml"
        self.models.write_text("detector:\n  address: registry/detector:v1\n  batch_size: 8\n")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.registry = f"ipc://{folder}/registry.sock"
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, wait: bool = True) -> None:
        command = [sys.executable, "-m", "inferoxy", "model-manager", f"--models={self.models}"]
        command += [f"--data-dir={self.folder / 'data'}", f"--admin={self.address}"]
        environment = os.environ | {"INFEROXY_REGISTRY": self.registry}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        if wait:
            wait_until(self.is_live, 10.0, self.log.read_text)

    def is_live(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.get("/livez").json() == {"live": True}
        except httpx.HTTPError:
            return False

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(10)

    def call(self, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
        with httpx.Client(trust_env=False, timeout=5.0) as client:
            content = {} if body is None and method != "PUT" else {"json": body}
            return client.request(method, f"http://{self.address}{path}", headers=headers, **content)  # type: ignore[arg-type]

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.call("GET", path, **headers)

    def sizes(self) -> dict[str, int]:
        return {f"{each['name']}@{each['version']}": each["batch_size"] for each in self.get("/models").json()}


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ModelManager]:
    made = ModelManager(tmp_path)
    made.start()
    try:
        yield made
        if made.process and made.process.poll() is None:
            assert made.end() == 0
            assert not Path(made.registry[6:]).exists()
    finally:
        if made.process and made.process.poll() is None:
            made.process.kill()
            made.process.wait()


class Subscriber:
    """A component as the model manager sees it."""

    def __init__(self, manager: ModelManager, context: Any, name: str) -> None:
        self.name = name
        self.sock = sockets.dealer(context, manager.registry, name.encode())

    def say(self, *headers: m.Header) -> None:
        sockets.send(self.sock, [frame for header in headers for frame in wire.encode(header)])

    def subscribe(self, revision: str = "") -> None:
        self.say(m.Subscribe(component=self.name, revision=revision))

    def heard(self, timeout_s: float = 5.0) -> Any:
        if not self.sock.poll(int(timeout_s * 1000), zmq.POLLIN):
            return None
        frames = sockets.recv(self.sock)
        assert frames is not None
        ((header, _),) = wire.decode(frames)
        return header


@contextmanager
def subscriber(manager: ModelManager, name: str) -> Iterator[Subscriber]:
    context = sockets.context()
    made = Subscriber(manager, context, name)
    try:
        yield made
    finally:
        made.sock.close(0)
        context.destroy(linger=0)


def test_the_first_inferoxys_calls_are_answered_as_it_answered_them(manager: ModelManager) -> None:
    missing = manager.get("/models/stub")
    assert missing.status_code == 404
    assert missing.json()["detail"] == "Model with this slug does not exist"
    made = manager.call("POST", "/models", FIVE_KEYS)
    assert made.status_code == 200
    assert FIVE_KEYS.items() <= made.json().items()
    assert FIVE_KEYS.items() <= manager.get("/models/stub").json().items()
    patched = manager.call("PATCH", "/models/stub", {"batch_size": 2})
    assert {key: patched.json()[key] for key in FIVE_KEYS} == FIVE_KEYS | {"batch_size": 2}
    listed = manager.call("PUT", "/models", [FIVE_KEYS | {"name": "other"}])
    assert [each["name"] for each in listed.json()] == ["detector", "other"]
    assert manager.call("DELETE", "/models/other").json() == {"model": "other"}
    assert manager.call("DELETE", "/models/other").status_code == 404
    assert [each["name"] for each in manager.call("PUT", "/models", None).json()] == ["detector"]


def test_a_body_that_says_something_wrong_changes_nothing_and_is_told_why(manager: ModelManager) -> None:
    before = manager.get("/models").json()
    one, detector = "POST /models", "PATCH /models/detector"
    cases: list[tuple[str, object, str]] = [
        (one, FIVE_KEYS | {"batch_size": "x"}, 'stub.batch_size: expected an integer of at least 1, found "x"'),
        (one, {"name": "stub", "adress": "x"}, "stub.adress: unknown key, did you mean address?"),
        (one, {"address": "x"}, "name: expected a name of letters"),
        (one, {"name": "a@2", "address": "x"}, "name: expected a name of letters"),
        (one, {"name": "a", "artifact": "m.onnx"}, 'a.artifact: expected an absolute path, found "m.onnx"'),
        (one, [1], "body"),
        ("PUT /models", [FIVE_KEYS, FIVE_KEYS], "stub@1: expected once, found twice"),
        (detector, {"name": "copy"}, "name: expected 'detector', which cannot be changed, found 'copy'"),
        (detector, {"instances": {"min": 5}}, "detector.instances.min: expected at most max (1), found 5"),
    ]
    for call, body, text in cases:
        answer = manager.call(*call.split(), body)
        assert answer.status_code == 422, (body, answer.text)
        assert answer.json()["code"] == "INVALID_REQUEST"
        assert text in answer.json()["error"]
        assert answer.json()["detail"]
    assert manager.get("/models").json() == before
    with httpx.Client(trust_env=False) as client:
        headers = {"content-type": "application/json"}
        answer = client.post(f"http://{manager.address}/models", content=b"{broken", headers=headers)
    assert answer.status_code == 422
    assert answer.json()["error"]


def test_versions_are_registered_shown_and_deleted_one_by_one(manager: ModelManager) -> None:
    manager.call("POST", "/models", FIVE_KEYS)
    manager.call("POST", "/models", FIVE_KEYS | {"version": "2", "batch_size": 6})
    assert manager.get("/models/stub").json()["version"] == "1"
    assert manager.get("/models/stub@2").json()["batch_size"] == 6
    manager.call("PATCH", "/models/stub@2", {"default": True})
    assert manager.get("/models/stub").json()["version"] == "2"
    manager.call("DELETE", "/models/stub@2")
    assert manager.sizes() == {"detector@1": 8, "stub@1": 4}


def test_changes_survive_a_kill_and_give_way_to_a_later_edit_of_the_file(manager: ModelManager) -> None:
    manager.call("PATCH", "/models/detector", {"batch_size": 3})
    manager.call("POST", "/models", FIVE_KEYS)
    manager.end(signal.SIGKILL)
    manager.start()
    assert manager.sizes() == {"detector@1": 3, "stub@1": 4}
    manager.end(signal.SIGKILL)
    manager.models.write_text("detector:\n  address: registry/detector:v2\n  batch_size: 5\n")
    manager.start()
    assert manager.sizes() == {"detector@1": 5, "stub@1": 4}


def test_a_broken_file_leaves_its_last_valid_content_and_status_says_why(manager: ModelManager) -> None:
    manager.end()
    manager.models.write_text("detector:\n  batch_size: 3\n")
    manager.start()
    assert manager.sizes() == {"detector@1": 8}
    why = f"{manager.models}:1: detector: expected either address (an image) or artifact (a file), found neither"
    assert manager.get("/status").json()["models_file"] == {"path": str(manager.models), "error": why}
    refused = manager.call("PUT", "/models", None)
    assert (refused.status_code, refused.json()["error"]) == (422, why)
    manager.models.write_text("detector: {address: x, batch_size: 2}\n")
    manager.call("PUT", "/models", None)
    assert manager.sizes() == {"detector@1": 2}
    assert manager.get("/status").json()["models_file"]["error"] == ""


def test_a_broken_file_without_any_earlier_content_ends_it_with_exit_code_2(tmp_path: Path) -> None:
    manager = ModelManager(tmp_path)
    manager.models.write_text("detector: 1\n")
    manager.start(wait=False)
    assert manager.process is not None
    assert manager.process.wait(10) == 2
    assert "models.yaml:1: detector: expected a mapping" in manager.log.read_text()


def test_a_taken_address_ends_it_with_exit_code_3(manager: ModelManager, tmp_path: Path) -> None:
    folder = tmp_path / "second"
    folder.mkdir()
    second = ModelManager(folder)
    second.address = manager.address
    second.start(wait=False)
    assert second.process is not None
    assert second.process.wait(10) == 3
    assert f"cannot listen on {manager.address}" in second.log.read_text()


def test_a_subscriber_gets_the_catalog_at_once_again_on_change_and_not_when_it_has_it(manager: ModelManager) -> None:
    with subscriber(manager, "batch_manager") as component:
        component.subscribe()
        catalog = component.heard()
        assert [model.key for model in catalog.models] == [("detector", "1")]
        component.subscribe(catalog.revision)
        assert component.heard(0.3) is None
        manager.call("POST", "/models", FIVE_KEYS)
        changed = component.heard()
        assert [model.name for model in changed.models] == ["detector", "stub"]
        assert changed.revision != catalog.revision
        manager.call("PATCH", "/models/stub", {"batch_size": 4})  # as it is
        assert component.heard(0.3) is None


def test_a_subscriber_is_served_again_after_a_restart_without_asking_anew(manager: ModelManager) -> None:
    with subscriber(manager, "batch_manager") as component:
        component.subscribe()
        revision = component.heard().revision
        manager.end(signal.SIGKILL)
        manager.start()
        component.subscribe(revision)
        assert component.heard(0.3) is None  # the revision says that the content is the same
        component.subscribe("another")
        assert component.heard().revision == revision


def test_reports_are_shown_with_their_age_and_called_silent_when_old(manager: ModelManager) -> None:
    with subscriber(manager, "task_manager") as component:
        component.say(m.Report(component="task_manager", report={"pid": 7, "instances": [{"id": "i1"}]}))
        wait_until(lambda: bool(manager.get("/status").json()["components"]), 5.0)
        shown = manager.get("/status").json()["components"]["task_manager"]
        assert shown["pid"] == 7
        assert 0 <= shown["age_s"] < 5
        assert shown["silent"] is False
        assert manager.get("/instances").json() == [{"id": "i1"}]


def test_load_and_unload_reach_the_task_manager_and_fail_clearly_without_one(manager: ModelManager) -> None:
    alone = manager.call("POST", "/models/detector/load")
    assert alone.status_code == 503
    assert alone.json()["error"] == "cannot load 'detector': no task manager is connected"
    assert alone.headers["retry-after"] == "5"
    with subscriber(manager, "task_manager") as component:
        component.subscribe()
        component.heard()
        assert manager.call("POST", "/models/detector/load").json()["versions"] == ["1"]
        command = component.heard()
        assert (command.action, command.model, command.model_version) == ("load", "detector", "1")
        manager.call("POST", "/models/detector/unload")
        assert component.heard().action == "unload"
        assert manager.call("POST", "/models/nobody/load").status_code == 404


def test_malformed_messages_disturb_nobody(manager: ModelManager) -> None:
    with subscriber(manager, "stranger") as stranger, subscriber(manager, "batch_manager") as component:
        for frames in ([b""], [b"\x93\x01\x30"], [b"garbage", b"more"], [b"\x93\x63\x30\x00"]):
            sockets.send(stranger.sock, frames)
        stranger.say(m.Pong(epoch=1))
        time.sleep(0.1)
        component.subscribe()
        assert component.heard() is not None


def test_web_pages_of_other_places_are_not_served(manager: ModelManager) -> None:
    assert manager.get("/models", host="evil.example").status_code == 401
    assert manager.get("/models", origin="http://evil.example").status_code == 401
    assert manager.call("POST", "/models/detector/load", origin="http://evil.example").status_code == 401
    assert manager.get("/models", origin=f"http://{manager.address}").status_code == 200
    port = manager.address.rpartition(":")[2]
    assert manager.get("/models", host=f"localhost:{port}").status_code == 200


def test_the_openapi_description_lists_every_field_of_a_model(manager: ModelManager) -> None:
    described = manager.get("/openapi.json").json()
    schema = described["paths"]["/models"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(manager.get("/models").json()[0]) - {"source"} <= set(schema["properties"])
