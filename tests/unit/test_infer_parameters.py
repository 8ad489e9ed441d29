"""`-p NAME=VALUE` of `inferoxy infer`."""

from typing import Any

import pytest

from inferoxy.cli.infer.parameters import parse_parameters
from inferoxy.errors import InvalidRequest


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("a=0.5", 0.5),
        ("a=3", 3),
        ("a=true", True),
        ('a=[1, "x"]', [1, "x"]),
        ('a={"b": null}', {"b": None}),
        ('a="7"', "7"),
        ("a=street", "street"),
        ("a=x=y", "x=y"),
        ("a=", ""),
        ("a=NaN", "NaN"),
    ],
)
def test_a_value_is_what_json_says_or_text(word: str, value: Any) -> None:
    found = parse_parameters([word])["a"]
    assert found == value
    assert type(found) is type(value)


def test_several_are_kept_and_confidence_has_an_option() -> None:
    assert parse_parameters(["a=1", "b=x"], 0.25) == {"confidence": 0.25, "a": 1, "b": "x"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a"], "expected NAME=VALUE, found 'a'"),
        (["=1"], "expected NAME=VALUE, found '=1'"),
        (["a=1", "a=2"], "expected a once"),
        (["confidence=0.1"], "expected confidence once"),
        (["window=3"], "say it with --window"),
        (["timeout_s=3"], "say it with --timeout"),
    ],
)
def test_what_is_none_or_has_another_option_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse_parameters(words, 0.5)
