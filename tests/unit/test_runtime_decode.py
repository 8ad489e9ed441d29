"""Pictures are decoded right or refused; nothing in between."""

import io

import cv2
import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inferoxy.errors import InvalidRequest, ModelError
from inferoxy.runtime.decode import decode_picture, encode_picture
from inferoxy.runtime.exif import jpeg_orientation


def _scene(height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth picture whose corners differ, so that every turn of it is another picture."""
    y, x = np.mgrid[0:height, 0:width]
    return np.dstack([y * 255 // height, x * 255 // width, (x + y) * 255 // (height + width)]).astype(np.uint8)


def _saved(image: np.ndarray | Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(out, form, **options)
    return out.getvalue()


SCENE = _scene()
JPEG = simplejpeg.encode_jpeg(SCENE, 95, colorsubsampling="444")
PNG = _saved(SCENE, "PNG")
WEBP = _saved(SCENE, "WEBP", lossless=True)


def _far(found: np.ndarray, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found.astype(int) - expected.astype(int)).mean())


@pytest.mark.parametrize(("data", "encoding"), [(JPEG, "jpeg"), (PNG, "png"), (WEBP, "webp")])
def test_a_picture_becomes_writable_rgb_of_its_declared_size(data: bytes, encoding: str) -> None:
    image = decode_picture(memoryview(data), encoding, SCENE.shape)
    assert image.dtype == np.uint8
    assert image.flags.writeable
    assert _far(image, SCENE) < 1


@pytest.mark.parametrize(
    "data",
    [
        _saved(SCENE[..., 0], "PNG"),
        _saved(Image.fromarray(SCENE[..., 0]).convert("1"), "PNG"),
        _saved(Image.fromarray(SCENE).quantize(256), "PNG"),
        _saved(np.dstack([SCENE, SCENE[..., 0]]), "PNG"),
        cv2.imencode(".png", SCENE[..., ::-1].astype(np.uint16) * 257)[1].tobytes(),
        cv2.imencode(".png", SCENE[..., 0].astype(np.uint16) * 257)[1].tobytes(),
    ],
    ids=["grey", "one bit", "palette", "alpha", "16 bit", "16 bit grey"],
)
def test_every_kind_of_png_becomes_three_8_bit_channels(data: bytes) -> None:
    image = decode_picture(data, "png", SCENE.shape)
    assert image.dtype == np.uint8
    assert image.shape == SCENE.shape


def test_16_bit_png_keeps_its_upper_8_bits() -> None:
    data = cv2.imencode(".png", SCENE[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    np.testing.assert_array_equal(decode_picture(data, "png"), SCENE)


def test_grey_jpeg_becomes_three_equal_channels() -> None:
    image = decode_picture(_saved(SCENE[..., 0], "JPEG", quality=95), "jpeg", SCENE.shape)
    assert _far(image, np.repeat(SCENE[..., :1], 3, 2)) < 2


def test_cmyk_jpeg_becomes_rgb() -> None:
    image = decode_picture(_saved(Image.fromarray(SCENE).convert("CMYK"), "JPEG", quality=95), "jpeg", SCENE.shape)
    assert _far(image, SCENE) < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {"quality": 95} if form == "JPEG" else {}
    data = _saved(SCENE, form, exif=exif, **options)
    upright = {
        1: SCENE, 2: SCENE[:, ::-1], 3: SCENE[::-1, ::-1], 4: SCENE[::-1], 5: SCENE.transpose(1, 0, 2),
        6: np.rot90(SCENE, -1), 7: SCENE[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(SCENE, 1),
    }[orientation]  # fmt: skip
    for declared in (upright.shape, SCENE.shape):
        assert _far(decode_picture(data, form.lower(), declared), upright) < 3


@given(st.binary(max_size=200))
def test_orientation_of_anything_is_1_to_8(tail: bytes) -> None:
    for data in (tail, b"\xff\xd8\xff\xe1\x00\xa0Exif\0\0" + tail, b"\xff\xd8\xff\xe1\x00\xa0Exif\0\0MM\0*" + tail):
        assert 1 <= jpeg_orientation(memoryview(data)) <= 8


@pytest.mark.parametrize("data", [JPEG, _saved(SCENE, "JPEG", progressive=True)], ids=["baseline", "progressive"])
@pytest.mark.parametrize("kept", [0.05, 0.3, 0.6, 0.97])
def test_a_truncated_jpeg_is_refused_as_such(data: bytes, kept: float) -> None:
    with pytest.raises(InvalidRequest, match=r"picture: truncated JPEG: "):
        decode_picture(data[: int(len(data) * kept)], "jpeg", SCENE.shape)


@pytest.mark.parametrize(("data", "encoding"), [(PNG, "png"), (WEBP, "webp")])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
def test_a_truncated_png_or_webp_is_refused(data: bytes, encoding: str, kept: float) -> None:
    with pytest.raises(InvalidRequest, match=r"picture: truncated"):
        decode_picture(data[: int(len(data) * kept)], encoding, SCENE.shape)


def test_a_jpeg_with_damage_in_the_middle_is_refused() -> None:
    middle = len(JPEG) // 2
    with pytest.raises(InvalidRequest, match=r"picture: (corrupt|truncated) JPEG"):
        decode_picture(JPEG[:middle] + bytes(40) + JPEG[middle + 40 :], "jpeg", SCENE.shape)


def test_bytes_between_jpeg_segments_are_forgiven() -> None:
    image = decode_picture(JPEG[:-2] + b"\x11\x22\x33" + JPEG[-2:], "jpeg", SCENE.shape)
    assert _far(image, SCENE) < 1


@pytest.mark.parametrize(("data", "encoding"), [(JPEG, "jpeg"), (PNG, "png"), (WEBP, "webp")])
def test_another_size_than_declared_is_refused_before_decoding(data: bytes, encoding: str) -> None:
    with pytest.raises(InvalidRequest, match=r"expected \[10, 10, 3\] as declared, found \[48, 64, 3\]"):
        decode_picture(data, encoding, (10, 10, 3))


def test_a_png_that_claims_more_than_it_declared_is_refused_without_allocating_it() -> None:
    bomb = PNG[:16] + (60_000).to_bytes(4, "big") * 2 + PNG[24:]
    with pytest.raises(InvalidRequest, match=r"found \[60000, 60000, 3\]"):
        decode_picture(bomb, "png", SCENE.shape)


def test_a_png_chunk_that_claims_to_be_huge_is_refused_without_allocating_it() -> None:
    at = PNG.index(b"IDAT") - 4
    with pytest.raises(InvalidRequest, match="its chunks do not end within its"):
        decode_picture(PNG[:at] + b"\x7f\xff\xff\x00" + PNG[at + 4 :], "png", SCENE.shape)


def test_another_format_than_announced_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="expected JPEG, found PNG"):
        decode_picture(PNG, "jpeg")
    with pytest.raises(InvalidRequest, match="expected WebP, found something else"):
        decode_picture(b"not a picture at all, only text", "webp")
    with pytest.raises(InvalidRequest, match="expected encoding jpeg, png, webp, found 'gif'"):
        decode_picture(PNG, "gif")


@given(st.binary(max_size=300), st.sampled_from([(JPEG, "jpeg"), (PNG, "png"), (WEBP, "webp")]), st.integers(0, 200))
def test_whatever_the_bytes_are_only_invalid_request_is_raised(noise: bytes, whole: tuple[bytes, str], at: int) -> None:
    data, encoding = whole
    try:
        decode_picture(data[:at] + noise + data[at + len(noise) :], encoding, SCENE.shape)
    except InvalidRequest:
        pass


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_what_is_encoded_can_be_decoded(encoding: str) -> None:
    image = decode_picture(encode_picture(SCENE, encoding), encoding, SCENE.shape)
    assert _far(image, SCENE) < (4 if encoding == "jpeg" else 0.001)


def test_a_drawing_that_is_no_picture_is_the_models_error() -> None:
    with pytest.raises(ModelError, match=r"expected uint8 \[height, width, 3\], found float32 \[4, 4, 3\]"):
        encode_picture(np.zeros((4, 4, 3), np.float32), "png")
