"""Images that the tests of this folder share, built once a run from this checkout."""

from pathlib import Path

import pytest

from tests.docker.engine.engine import build_image, require_engine

ROOT = Path(__file__).parents[2]
IMAGES = Path(__file__).parent / "images"
MODEL_BASE = "inferoxy-test/model:latest"
PROBE = "inferoxy-test/probe:latest"


@pytest.fixture(scope="session")
def runtime_image() -> str:
    """deploy/Dockerfile.model."""
    require_engine()
    build_image(MODEL_BASE, ROOT / "deploy" / "Dockerfile.model", ROOT)
    return MODEL_BASE


@pytest.fixture(scope="session")
def probe_image(runtime_image: str) -> str:
    """A model image on top of it: images/probe."""
    build_image(PROBE, IMAGES / "probe" / "Dockerfile", IMAGES / "probe", {"BASE": runtime_image})
    return PROBE
