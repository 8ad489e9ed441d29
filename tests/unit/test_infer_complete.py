"""Words of a command line as bash hands them over for completion."""

import shlex

import pytest

from inferoxy.cli.complete import mend_words


@pytest.mark.parametrize(
    ("words", "at", "expected", "head"),
    [
        (["inferoxy", "infer", "de"], 2, ["inferoxy", "infer", "de"], ""),
        (["inferoxy", "infer", ""], 2, ["inferoxy", "infer", ""], ""),
        (["inferoxy", "infer", "detector", "@"], 3, ["inferoxy", "infer", ""], "detector@"),
        (["inferoxy", "infer", "detector", "@", "1"], 4, ["inferoxy", "infer", "1"], "detector@"),
        (
            ["inferoxy", "infer", "--url", "http", ":", "//127.0.0.1", ":", "80", "de"],
            8,
            ["inferoxy", "infer", "--url", "http://127.0.0.1:80", "de"],
            "",
        ),
        (
            ["inferoxy", "infer", "--url", "=", "tcp", ":", "//h", "x"],
            7,
            ["inferoxy", "infer", "--url=tcp://h", "x"],
            "",
        ),
        (["inferoxy", "in", "later", "words"], 1, ["inferoxy", "in"], ""),
    ],
)
def test_words_that_bash_took_apart_are_one_again(words: list[str], at: int, expected: list[str], head: str) -> None:
    environ = {
        "_INFEROXY_COMPLETE": "complete_bash",
        "COMP_WORDS": "\n".join(words),
        "COMP_CWORD": str(at),
    }
    mend_words(environ)
    assert shlex.split(environ["COMP_WORDS"]) == expected
    assert environ["COMP_CWORD"] == str(len(expected) - 1)
    assert environ["_INFEROXY_COMPLETE_HEAD"] == head


@pytest.mark.parametrize("shell", ["complete_zsh", "source_bash"])
def test_other_shells_words_are_left_alone(shell: str) -> None:
    environ = {"_INFEROXY_COMPLETE": shell, "_TYPER_COMPLETE_ARGS": "inferoxy infer de"}
    before = dict(environ)
    mend_words(environ)
    assert environ == before


def test_an_open_quote_is_left_to_the_shell() -> None:
    environ = {"_INFEROXY_COMPLETE": "complete_bash", "COMP_WORDS": "inferoxy\ninfer\n'de", "COMP_CWORD": "2"}
    before = dict(environ)
    mend_words(environ)
    assert environ == before
