"""A private image registry in a test: one tiny image behind a user and a password."""

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

USER, PASSWORD = "reader", "let me in"
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"


class TinyRegistry:
    """Serves `IMAGE` on localhost, where engines accept plain HTTP."""

    NAME = "private/probe"

    def __init__(self) -> None:
        self._blobs, self._manifest = _image()
        self.authorized = 0
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry.answer(self, is_head=False)

            def do_HEAD(self) -> None:
                registry.answer(self, is_head=True)

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def image(self) -> str:
        """The image's full name."""
        return f"{self.address}/{self.NAME}:1"

    def __enter__(self) -> "TinyRegistry":
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, is_head: bool) -> None:
        """One call of the registry protocol, version 2."""
        expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        kind, body, code = "application/json", b"{}", 200
        if request.headers.get("Authorization") != expected:
            code, body = 401, b'{"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}'
        elif "/manifests/" in request.path:
            kind, body = MANIFEST_TYPE, self._manifest
        elif "/blobs/" in request.path:
            kind, body = "application/octet-stream", self._blobs[request.path.rpartition("/")[2]]
        self.authorized += code == 200
        request.send_response(code)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        if "/manifests/" in request.path and code == 200:
            request.send_header("Docker-Content-Digest", _digest(body))
        if code == 401:
            request.send_header("WWW-Authenticate", 'Basic realm="tiny"')
        request.end_headers()
        if not is_head:
            request.wfile.write(body)


def _image() -> tuple[dict[str, bytes], bytes]:
    """The blobs and the manifest of an image with one file and a command that does not exist."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        entry = tarfile.TarInfo("hello")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"hello"))
    layer = gzip.compress(raw.getvalue(), mtime=0)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": ["/no-such-program"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(raw.getvalue())]},
            "history": [{"created_by": "test"}],
        }
    ).encode()
    layers = [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", **_sized(layer)}]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", **_sized(config)},
        "layers": layers,
    }
    return {_digest(layer): layer, _digest(config): config}, json.dumps(manifest).encode()


def _sized(blob: bytes) -> dict[str, object]:
    return {"size": len(blob), "digest": _digest(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"
