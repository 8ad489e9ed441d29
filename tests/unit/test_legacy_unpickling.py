"""What is read from pickles of the first Inferoxy's clients, and that nothing else is."""

import collections
import datetime
import fractions
import functools
import io
import os
import pickle
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridges.legacy import pickling, unpickling
from bridges.legacy.unpickling import loads
from inferoxy.errors import InternalError, InvalidRequest

LIMIT = 10**7
PROTOCOLS = range(6)
PICTURE = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.shape == other.shape and bool(np.array_equal(one, other))
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and (one == other or one != one)


# What is read


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_request_as_clients_send_it_is_read(protocol: int) -> None:
    shared = {"a": [1]}
    request = {
        "source_id": "camera 7 ü",
        "model": "detector",
        "inputs": [
            {
                "data": PICTURE,
                "shape": [2, 4, 3],
                "datatype": "uint8",
                "parameters": {"index": 3, "scale": 0.5, "none": None, "flags": (True, False), "two": [shared, shared]},
            },
            {"data": [[1, 300, -70_000, 2**40, -(2**63)]], "parameters": {"b": b"\0\xff" * 200, "text": "x\n" * 300}},
            {"data": PICTURE, "parameters": {}},
        ],
    }  # fmt: skip
    assert same(loads(pickle.dumps(request, protocol), LIMIT), request)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("code", ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", ">i4", ">f8"])
def test_arrays_of_all_numbers_are_read(protocol: int, code: str) -> None:
    array = np.array([[0, 1, 100], [1, 0, 7]]).astype(code)
    found = loads(pickle.dumps(array, protocol), LIMIT)
    assert same(found, array)
    assert found.dtype == array.dtype.newbyteorder("<")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3), np.uint8), np.array(5), np.asfortranarray(np.arange(12).reshape(3, 4)),
        np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1), np.arange(10)[::2], np.array([], np.float32),
    ],
)  # fmt: skip
def test_arrays_of_all_layouts_are_read(protocol: int, array: Any) -> None:
    assert same(loads(pickle.dumps(array, protocol), LIMIT), array)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("number", [np.float32(2.5), np.int64(-7), np.uint8(255), np.bool_(True), np.float16(0.5)])
def test_numpys_numbers_become_pythons(protocol: int, number: Any) -> None:
    assert same(loads(pickle.dumps(number, protocol), LIMIT), number.item())


@pytest.mark.parametrize("package", ["numpy.core", "numpy._core"])
def test_both_names_of_numpys_package_are_known(package: str) -> None:
    for protocol in PROTOCOLS:
        data = pickle.dumps({"a": PICTURE, "b": np.float32(1)}, protocol)
        for name in (b"multiarray", b"numeric"):
            data = _renamed(data, b"numpy._core." + name, package.encode() + b"." + name)
        assert same(loads(data, LIMIT), {"a": PICTURE, "b": 1.0})


def _renamed(data: bytes, old: bytes, new: bytes) -> bytes:
    short = data.replace(b"\x8c" + bytes([len(old)]) + old, b"\x8c" + bytes([len(new)]) + new)
    renamed = short.replace(b"c" + old + b"\n", b"c" + new + b"\n")
    if renamed[2:3] == b"\x95":  # the frame has become shorter
        renamed = renamed[:3] + struct.pack("<Q", len(renamed) - 11) + renamed[11:]
    return renamed


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(PLAIN, st.sampled_from(PROTOCOLS))
def test_plain_values_are_read_as_python_reads_them(value: Any, protocol: int) -> None:
    assert same(loads(pickle.dumps(value, protocol), LIMIT), value)


@given(PLAIN)
def test_what_is_written_is_read_by_python_and_by_us(value: Any) -> None:
    written = pickling.dumps(value)
    assert same(pickle.loads(written), value)
    assert same(loads(written, LIMIT), value)


@pytest.mark.parametrize("code", ["?", "u1", "i2", "f4", "f8"])
def test_arrays_that_are_written_are_numpys_own_and_can_be_drawn_on(code: str) -> None:
    array = np.array([[0, 1], [1, 0]]).astype(code)
    found = pickle.loads(pickling.dumps({"data": array}))["data"]
    assert same(found, array)
    assert found.dtype == array.dtype
    found[0, 0] = 1


@pytest.mark.parametrize("value", [{1, 2}, object(), np.array([object()]), np.array(["a"]), np.float32(1)])
def test_nothing_else_is_written(value: Any) -> None:
    with pytest.raises(InternalError, match="which clients could not read"):
        pickling.dumps([value])


def test_pickles_that_are_written_need_no_newer_protocol_than_4_and_numpy_by_its_old_name() -> None:
    written = pickling.dumps({"data": PICTURE})
    assert written[:2] == b"\x80\x04"
    assert b"numpy.core.multiarray" in written
    assert b"_core" not in written


# What is refused: whatever runs code, or asks for more than it sends


class Reduces:
    """Pickles to any call."""

    def __init__(self, *call: Any) -> None:
        self._call = call

    def __reduce__(self) -> Any:
        return self._call


class Plain:
    pass


def touch(path: str) -> None:
    raise AssertionError("a pickle was run")


EXPLOITS = {
    "system": Reduces(os.system, ("touch /tmp/never",)),
    "eval": Reduces(eval, ("1/0",)),
    "exec": Reduces(exec, ("raise SystemExit",)),
    "import": Reduces(__import__, ("os",)),
    "getattr": Reduces(getattr, ("", "join")),
    "partial": functools.partial(touch, "/tmp/never"),
    "open": Reduces(io.open, ("/etc/passwd",)),
    "loads": Reduces(pickle.loads, (b"N.",)),
    "numpy load": Reduces(np.load, ("/etc/passwd",)),
    "numpy fromfile": Reduces(np.fromfile, ("/etc/passwd",)),
    "numpy zeros": Reduces(np.zeros, ((10**15,),)),
    "numpy array": Reduces(np.array, ([1],)),
    "a huge bytearray": Reduces(bytearray, (10**12,)),
    "a huge array": Reduces(np.ndarray, ((10**15,),)),
    "dtype with fields": np.zeros(2, [("a", "u1"), ("b", "f4")]),
    "objects": np.array([Plain(), None], object),
    "reducing objects": np.array([Reduces(eval, ("1/0",)), 1], object),
    "texts": np.array(["ab"]),
    "bytes": np.array([b"ab"]),
    "dates": np.array(["2020-01-01"], "M8[D]"),
    "complex": np.array([1j]),
    "long doubles": np.zeros(2, np.longdouble),
    "masked": np.ma.masked_array([1], [True]),
    "matrix": Reduces(np.asmatrix, ([1],)),
    "an instance": Plain(),
    "a class": Plain,
    "a function": touch,
    "numpy's class": np.ndarray,
    "a dtype": np.dtype("u1"),
    "a set": {1},
    "a frozenset": frozenset([1]),
    "complex number": 1j,
    "ordered dict": collections.OrderedDict(a=1),
    "a date": datetime.date(2020, 1, 1),
    "a fraction": fractions.Fraction(1, 2),
    "a range": range(3),
    "an exception": ValueError("x"),
    "a large integer": 2**64,
    "a huge integer": 1 << 10_000,
    "a key of tuples": {((1,),): 1},
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", EXPLOITS)
def test_what_is_no_plain_value_is_refused_and_nothing_is_run(name: str, protocol: int) -> None:
    for value in (EXPLOITS[name], {"source_id": "x", "model": "m", "inputs": [EXPLOITS[name]]}):
        with pytest.raises(InvalidRequest, match="pickle: expected"):
            loads(pickle.dumps(value, protocol), LIMIT)


def array_pickle(shape: bytes, data: bytes, *, code: bytes = b"u1", subtype: bytes = b"cnumpy\nndarray\n") -> bytes:
    return (
        b"\x80\x04cnumpy._core.multiarray\n_reconstruct\n" + subtype + b"K\x00\x85C\x01b\x87R(K\x01" + shape
        + b"cnumpy\ndtype\n\x8c" + bytes([len(code)]) + code + b"\x89\x88\x87R(K\x03\x8c\x01|NNNK\x00K\x00K\x00tb\x89"
        + data + b"tb."
    )  # fmt: skip


def long_shape(*sides: int) -> bytes:
    return b"(" + b"".join(b"\x8a\x08" + side.to_bytes(8, "little", signed=True) for side in sides) + b"t"


CRAFTED = {
    "fewer bytes than the shape needs": array_pickle(long_shape(10**15), b"C\x01x"),
    "more bytes than the shape needs": array_pickle(long_shape(1), b"C\x02xx"),
    "a shape whose product is beyond 64 bits": array_pickle(long_shape(2**62, 2**62), b"C\x01x"),
    "a shape with a zero and a giant": array_pickle(long_shape(0, -1), b"C\x00"),
    "a negative side": array_pickle(long_shape(-1), b"C\x01x"),
    "too many dimensions": array_pickle(long_shape(*[1] * 40), b"C\x01x"),
    "a side that is no integer": array_pickle(b"\x88\x85", b"C\x01x"),
    "a list as its data": array_pickle(long_shape(1), b"](cos\nsystem\ne"),
    "objects": array_pickle(long_shape(1), b"](Ne", code=b"O8"),
    "a subtype": array_pickle(long_shape(1), b"C\x01x", subtype=b"cnumpy\nmatrix\n"),
    "text as its data": array_pickle(long_shape(1), b"\x8c\x01x"),
    "an array that stays empty": b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R.",
    "a state for a dict": b"}}b.",
    "a state for a function": b"cnumpy\nndarray\n}b.",
    "an array to be made large at once": b"\x80\x04cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
    b"J\xff\xff\xff\x7f\x85C\x01b\x87R.",
    "a number without a type": b"cnumpy.core.multiarray\nscalar\n\x8c\x02u1C\x01x\x86R.",
    "a name made of parts": b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
    "a name with dots": b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.",
    "a name that is no text": b"\x80\x04K\x01K\x02\x93.",
    "an instance of old": b"(ios\nsystem\n.",
    "an object of old": b"(cos\nsystem\no.",
    "a new object": b"cnumpy\nndarray\n)\x81.",
    "a new object with names": b"cnumpy\nndarray\n)}\x92.",
    "a persistent id": b"Pabc\n.",
    "a persistent id from the stack": b"K\x01Q.",
    "an extension": b"\x82\x01.",
    "a buffer from elsewhere": b"\x80\x05\x97.",
    "a later protocol": b"\x80\x06N.",
    "bytes that are not there": b"\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "text that is not there": b"\x8d" + struct.pack("<Q", 2**40) + b"x.",
    "a bytearray that is not there": b"\x96" + struct.pack("<Q", 2**63) + b".",
    "an integer that is not there": b"\x8b" + struct.pack("<I", 2**31) + b".",
    "a frame that is not there": b"\x80\x04\x95" + struct.pack("<Q", 2**50) + b"N.",
    "text that is not utf-8": b"\x8c\x01\xff.",
    "half a surrogate": b"V\\ud800\n.",
    "half a surrogate as utf-8": b"\x8c\x03\xed\xa0\x80.",
    "a float that is none": b"Fabc\n.",
    "an integer that is none": b"I1_0\n.",
    "an integer of many digits": b"I" + b"9" * 400 + b"\n.",
    "a line without end": b"F" + b"1" * 10_000,
    "no end": b"K\x01",
    "nothing": b"",
    "nothing on the stack": b".",
    "only a mark": b"(.",
    "two values": b"K\x01K\x02.",
    "a mark below": b"(K\x01.",
    "a group without a beginning": b"K\x01t.",
    "what was never remembered": b"h\x07.",
    "a mark that is remembered": b"(q\x00.",
    "items for a number": b"K\x01(K\x02K\x03u.",
    "an odd number of items": b"}(K\x02u.",
    "an item for a tuple": b")K\x01a.",
    "a list as a key": b"}(]K\x01u.",
    "a call of a number": b"K\x01)R.",
    "a call without a tuple": b"cnumpy\ndtype\nK\x01R.",
    "text": b"hello",
    "json": b'{"source_id": "x"}',
}


@pytest.mark.parametrize("name", CRAFTED)
def test_what_no_pickler_writes_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="pickle: "):
        loads(CRAFTED[name], LIMIT)


def test_a_value_that_is_named_again_and_again_does_not_grow() -> None:
    laughs: Any = "ha" * 50
    for _ in range(25):
        laughs = [laughs] * 10
    data = pickle.dumps(laughs, 4)
    assert len(data) < 5_000
    with pytest.raises(InvalidRequest, match="each part counted as often as it is named"):
        loads(data, LIMIT)


@pytest.mark.parametrize(
    "part", [np.zeros(100_000, np.uint8), "x" * 100_000, b"x" * 100_000, [1] * 100_000, {"k" * 100_000: 1}]
)
def test_a_large_part_that_is_named_often_counts_as_often(part: Any) -> None:
    data = pickle.dumps([part] * 200, 5)
    assert len(data) < 300_000
    assert len(loads(data, 2**25)) == 200
    with pytest.raises(InvalidRequest, match="expected at most 10000000 bytes"):
        loads(data, LIMIT)


def test_lists_that_contain_themselves_or_go_deep_are_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(InvalidRequest, match="nested at most 32 deep"):
        loads(pickle.dumps(circle), LIMIT)
    for open_one, close in ((b"]" * 500_000, b"a" * 499_999), (b"K\x01" + b"\x85" * 500_000, b"")):
        with pytest.raises(InvalidRequest, match="nested at most 32 deep"):
            loads(open_one + close + b".", LIMIT)
    deep_key = b"}K\x01" + b"\x85" * 500_000 + b"K\x01s."
    with pytest.raises(InvalidRequest, match="as a key, found tuple"):
        loads(deep_key, LIMIT)


def test_many_instructions_are_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpickling, "MAX_STEPS", 10_000)
    with pytest.raises(InvalidRequest, match="expected at most 10000 instructions, found more; send arrays, not lists"):
        loads(b"N0" * 10_000 + b"N.", LIMIT)


def test_memory_is_not_taken_before_the_bytes_are_there() -> None:
    tracemalloc.start()
    for data in CRAFTED.values():
        with pytest.raises(InvalidRequest):
            loads(data, LIMIT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


DOUBLED = (
    b")" + b"2\x86" * 60
)  # a tuple of twice itself, again and again: small to hold, larger than all memory to show
DEEP = b")" + b"\x85" * 200_000
NUMBERS = b"cnumpy.core.numeric\n_frombuffer\n"
TYPE = b"cnumpy\ndtype\n\x8c\x02u1\x85R"


@pytest.mark.parametrize("bomb", [DOUBLED, DEEP])
@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (b"", b"\x8c\x01a\x93."),
        (b"\x8c\x05numpy", b"\x93."),
        (NUMBERS + b"(C\x01a" + TYPE, b"\x8c\x01CtR."),
        (NUMBERS + b"(C\x01a" + TYPE + b"K\x01\x85", b"tR."),
        (NUMBERS + b"(C\x01a" + TYPE + b"K\x01\x85\x8c\x01K", b"tR."),
        (b"cnumpy\ndtype\n", b"R."),
        (b"cnumpy\ndtype\n", b"\x85R."),
        (TYPE + b"(K\x03", b"NNNNNtb."),
        (b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n", b"C\x01b\x87R."),
        (b"}", b"K\x01s."),
        (b"}", b"b."),
        (b"", b")R."),
        (b"", b"."),
    ],
)
def test_what_is_refused_is_not_shown_whole(before: bytes, bomb: bytes, behind: bytes) -> None:
    with pytest.raises(InvalidRequest) as failed:
        loads(before + bomb + behind, LIMIT)
    assert len(failed.value.message) < 300


@pytest.mark.parametrize("place", range(3))
def test_an_array_where_text_is_expected_is_refused(place: int) -> None:
    array = array_pickle(long_shape(2), b"C\x02xy")[2:-1]
    first = array_pickle(long_shape(1), b"C\x01x")
    crafted = (
        first.replace(b"\x8c\x01|NNN", array + b"NNN"), first.replace(b"K\x00\x85C\x01b", array + b"\x85C\x01b"),
        NUMBERS + b"(C\x01a" + TYPE + b"K\x01\x85" + array + b"tR.",
    )[place]  # fmt: skip
    with pytest.raises(InvalidRequest, match="pickle: expected"):
        loads(crafted, LIMIT)


def test_what_calls_make_is_counted() -> None:
    size = 2**20
    text = b"X" + size.to_bytes(4, "little") + b"a" * size + b"q\x000"
    encodes = text + b"c_codecs\nencode\nq\x010\x8c\x06latin1q\x020(" + b"h\x01h\x00h\x02\x86R" * 300 + b"l."
    big = b"B" + size.to_bytes(4, "little") + b"a" * size + b"q\x000" + NUMBERS + b"q\x010"
    kind = b"cnumpy\ndtype\n\x8c\x02u2\x89\x88\x87R(K\x03\x8c\x01>NNNK\x00K\x00K\x00tbq\x020J"
    shape = (size // 2).to_bytes(4, "little") + b"\x85q\x030\x8c\x01Cq\x040("
    swaps = big + kind + shape + b"h\x01(h\x00h\x02h\x03h\x04tR" * 300 + b"l."
    for data in (encodes, swaps):
        tracemalloc.start()
        with pytest.raises(InvalidRequest, match="expected at most 10000000 bytes"):
            loads(data, LIMIT)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3 * LIMIT


REAL = pickle.dumps({"source_id": "x", "inputs": [{"data": PICTURE, "parameters": {"a": 1.5}}]}, 4)


@given(st.binary(max_size=60))
@example(b"")
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        loads(data, LIMIT)
    except InvalidRequest:
        pass


@given(st.integers(0, len(REAL) - 1), st.integers(0, 255), st.integers(0, len(REAL) - 1))
def test_damaged_pickles_are_read_or_refused(at: int, value: int, cut: int) -> None:
    data = bytearray(REAL)
    data[at] = value
    for damaged in (bytes(data), REAL[:cut], REAL[:cut] + bytes(data[at:])):
        try:
            loads(damaged, LIMIT)
        except InvalidRequest:
            pass
