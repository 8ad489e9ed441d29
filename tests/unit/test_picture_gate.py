"""What pictures are accepted."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bridges import picture_gate
from inferoxy.config import LimitSettings
from inferoxy.errors import InferoxyError, InvalidRequest, PayloadTooLarge
from tests.unit.pictures import bomb, encoded

LIMITS = LimitSettings()
sides = st.integers(1, 300)


@settings(max_examples=60, deadline=None)
@given(form=st.sampled_from(["JPEG", "PNG", "WEBP"]), width=sides, height=sides, seed=st.integers(0, 9))
def test_declared_size_and_format_are_those_that_pillow_reads(form: str, width: int, height: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form, **({"lossless": seed % 2 == 0} if form == "WEBP" else {}))
    picture = picture_gate.examine(out.getvalue(), LIMITS)
    assert picture == (form.lower(), width, height)
    assert picture.tensor("x").shape == (height, width, 3)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_memoryviews_are_read_like_bytes(form: str) -> None:
    data = encoded(form, 31, 17)
    assert picture_gate.examine(memoryview(data), LIMITS) == picture_gate.examine(data, LIMITS)


def test_extended_webp_gives_its_canvas() -> None:
    out = io.BytesIO()
    Image.new("RGBA", (120, 70), (1, 2, 3, 128)).save(out, "WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0")
    assert out.getvalue()[12:16] == b"VP8X"
    assert picture_gate.examine(out.getvalue(), LIMITS) == ("webp", 120, 70)


def test_sides_are_those_after_exif_orientation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded("JPEG", 60, 20, exif=exif.tobytes())
    assert picture_gate.examine(turned, LIMITS) == ("jpeg", 20, 60)


def test_bomb_is_refused_by_what_it_claims() -> None:
    with pytest.raises(PayloadTooLarge, match="expected at most 20000 pixels a side, found 60000x60000"):
        picture_gate.examine(bomb(), LIMITS)


def test_too_many_pixels_within_the_side_limit_are_refused() -> None:
    with pytest.raises(PayloadTooLarge, match="expected at most 50000000 pixels, found 20000x20000"):
        picture_gate.examine(bomb(20_000, 20_000), LIMITS)


def test_claims_at_the_limits_are_accepted() -> None:
    assert picture_gate.examine(bomb(20_000, 2_500), LIMITS).width == 20_000


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_picture_without_pixels_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidRequest, match="at least 1 pixel a side"):
        picture_gate.examine(bomb(*size), LIMITS)


def test_empty_body_is_refused_as_empty() -> None:
    with pytest.raises(InvalidRequest, match="expected JPEG, PNG or WebP bytes, found none"):
        picture_gate.examine(b"", LIMITS)


@pytest.mark.parametrize("data", [b"GIF89a\1\0\1\0", b"BM" + b"\0" * 60, b"<html>", b"\xff\xd8", b"RIFF\0\0\0\0WAVE"])
def test_other_formats_are_refused_by_their_first_bytes(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="found bytes that begin with"):
        picture_gate.examine(data, LIMITS)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("length", [12, 16, 20, 24, 26])
def test_header_cut_short_is_refused(form: str, length: int) -> None:
    data = encoded(form)[:length]
    if form == "PNG" and length >= 24:
        assert picture_gate.examine(data, LIMITS).width == 64  # all that is looked at is there
        return
    with pytest.raises(InvalidRequest, match="damaged"):
        picture_gate.examine(data, LIMITS)


@given(form=st.sampled_from(["JPEG", "PNG", "WEBP"]), data=st.data())
def test_damaged_pictures_raise_only_our_errors(form: str, data: st.DataObject) -> None:
    damaged = bytearray(encoded(form, 20, 10))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, min(60, len(damaged) - 1)))] = data.draw(st.integers(0, 255))
    try:
        picture_gate.examine(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]), LIMITS)
    except (InvalidRequest, PayloadTooLarge):
        pass


@given(st.binary(max_size=64))
def test_arbitrary_bytes_raise_only_our_errors(data: bytes) -> None:
    try:
        picture_gate.examine(data, LIMITS)
    except InferoxyError:
        pass


def test_endless_fill_bytes_before_exif_cost_little() -> None:
    jpeg = encoded("JPEG", 16, 16)
    padded = jpeg[:2] + b"\xff" * 20_000_000 + jpeg[2:]
    assert picture_gate.examine(padded, LIMITS) == ("jpeg", 16, 16)
