"""What callers hand over as a picture."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inferoxy.client.pictures import EncodedPicture, load, measure
from inferoxy.errors import InvalidRequest
from inferoxy.runtime.decode import decode_picture


def encoded(form: str, size: tuple[int, int] = (37, 21), **options: object) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", size, (200, 10, 30)).save(target, form, **options)
    return target.getvalue()


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (encoded("JPEG"), "jpeg"),
        (encoded("JPEG", progressive=True, dpi=(72, 72)), "jpeg"),
        (encoded("PNG"), "png"),
        (encoded("WEBP"), "webp"),
        (encoded("WEBP", lossless=True), "webp"),
        (encoded("WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"), "webp"),
    ],
    ids=["jpeg", "progressive", "png", "webp", "webp lossless", "webp extended"],
)
def test_encoding_and_size_are_read_from_the_header(data: bytes, encoding: str) -> None:
    assert measure(data) == EncodedPicture(data, encoding, 37, 21)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_turned_picture_is_seen_as_the_instance_sees_it(form: str) -> None:
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture = measure(encoded(form, exif=exif))
        decoded = decode_picture(picture.data, picture.encoding)
        assert (picture.width, picture.height) == (37, 21)
        assert picture.seen_size == (decoded.shape[1], decoded.shape[0])
    assert measure(encoded(form)).seen_size == (37, 21)


def test_a_path_a_string_and_bytes_give_the_same(tmp_path: Path) -> None:
    data = encoded("PNG")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    assert load(path) == load(str(path)) == load(data)
    buffered = load(bytearray(data))
    assert isinstance(buffered, EncodedPicture)
    assert bytes(buffered.data) == data


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nothing.jpg")


def test_an_array_is_taken_as_it_is_and_made_contiguous() -> None:
    array = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    turned = load(array[:, ::-1])
    assert isinstance(turned, np.ndarray)
    assert turned.flags.c_contiguous
    assert np.array_equal(turned, array[:, ::-1])


@pytest.mark.parametrize(
    ("shape", "dtype"), [((4, 5, 3), "float32"), ((4, 5), "uint8"), ((4, 5, 4), "uint8"), ((0, 5, 3), "uint8")]
)
def test_an_array_of_another_form_is_refused_with_what_was_found(shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"expected an array uint8 \[height, width, 3\], found {dtype} \["):
        load(np.zeros(shape, dtype))


def test_another_type_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="expected a path, bytes or an array"):
        load(17)  # type: ignore[arg-type]


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello there")
    with pytest.raises(InvalidRequest, match=r"notes\.txt: expected a JPEG, PNG or WebP picture, found 11 bytes"):
        load(path)
    with pytest.raises(InvalidRequest, match="found nothing"):
        load(b"")


@given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.data())
def test_damaged_bytes_give_a_picture_or_invalid_request_and_nothing_else(form: str, data: st.DataObject) -> None:
    whole = encoded(form)
    cut = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 3)) if cut else 0):
        cut[data.draw(st.integers(0, min(len(cut), 40) - 1))] = data.draw(st.integers(0, 255))
    try:
        measure(bytes(cut)).seen_size  # noqa: B018
    except InvalidRequest:
        pass
