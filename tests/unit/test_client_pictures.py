"""What callers hand over as a picture."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from inferoxy.client.pictures import EncodedPicture, is_at_hand, load, measure
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
    with pytest.raises(InvalidRequest, match=r"expected a path, bytes, an open file, an array .* found int"):
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


def test_an_open_file_is_read_from_where_it_stands(tmp_path: Path) -> None:
    data = encoded("PNG")
    path = tmp_path / "a.png"
    path.write_bytes(b"head" + data)
    with path.open("rb") as file:
        file.seek(4)
        assert load(file) == load(io.BytesIO(data)) == load(data)
    path.write_bytes(b"hello")
    with path.open("rb") as file, pytest.raises(InvalidRequest, match=r"a\.png: expected a JPEG, PNG or WebP"):
        load(file)


def test_a_file_opened_for_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x")
    with (
        path.open() as file,
        pytest.raises(InvalidRequest, match=r"opened for bytes \('rb'\), found one that reads str"),
    ):
        load(file)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1"])
def test_a_pillow_image_of_any_8_bit_mode_becomes_rgb(mode: str) -> None:
    image = Image.new("RGB", (7, 4), (255, 255, 255)).convert(mode)
    loaded = load(image)
    assert isinstance(loaded, np.ndarray)
    assert (loaded.shape, loaded.dtype, loaded.flags.c_contiguous) == ((4, 7, 3), np.uint8, True)
    assert loaded.min() == 255


def test_a_pillow_image_of_16_bits_is_refused_because_it_would_be_clipped() -> None:
    with pytest.raises(InvalidRequest, match=r"expected a PIL\.Image of 8 bits, such as RGB, found mode I;16"):
        load(Image.new("I;16", (4, 4)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pillow_image_is_seen_as_the_file_it_was_opened_from(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    target = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (21, 37, 3), np.uint8)
    Image.fromarray(pixels).save(target, "PNG", exif=exif)
    assert np.array_equal(load(Image.open(target)), decode_picture(target.getvalue(), "png"))


def test_a_pillow_image_whose_file_is_cut_short_or_closed_is_an_error_of_that_picture() -> None:
    with pytest.raises(OSError, match="truncated"):
        load(Image.open(io.BytesIO(encoded("JPEG", (400, 400))[:900])))
    image = Image.open(io.BytesIO(encoded("PNG")))
    image.close()
    with pytest.raises(InvalidRequest, match=r"PIL\.Image cannot be read"):
        load(image)


def test_several_pictures_in_one_array_are_told_how_to_be_given() -> None:
    with pytest.raises(InvalidRequest, match=r"found uint8 \[2, 4, 5, 3\]: give list\(array\) for several"):
        load(np.zeros((2, 4, 5, 3), np.uint8))


def test_only_what_is_in_memory_is_at_hand(tmp_path: Path) -> None:
    assert is_at_hand(b"") is is_at_hand(np.zeros((1, 1, 3), np.uint8)) is True
    assert is_at_hand(tmp_path) is is_at_hand(io.BytesIO()) is is_at_hand(Image.new("RGB", (1, 1))) is False
