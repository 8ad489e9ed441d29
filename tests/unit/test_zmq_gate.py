"""Which clients an encrypted bridge lets in."""

from pathlib import Path

import pytest

from bridges.zmq.gate import AllowedClients, answer_to
from inferoxy.errors import InvalidRequest
from inferoxy.keys import as_text, new_pair

RAW = bytes(range(32))
QUESTION = [b"1.0", b"7", b"inferoxy", b"10.0.0.9", b"", b"CURVE", RAW]


def test_only_a_listed_key_is_let_in() -> None:
    assert answer_to(QUESTION, frozenset({as_text(RAW)})) == ([b"1.0", b"7", b"200", b"OK", as_text(RAW), b""], "")
    answer, refused = answer_to(QUESTION, frozenset({new_pair().public}))
    assert answer[:3] == [b"1.0", b"7", b"400"]
    assert refused == as_text(RAW).decode()


@pytest.mark.parametrize(
    "question",
    [
        [],
        QUESTION[:2],
        [*QUESTION[:5], b"PLAIN", b"user", b"password"],
        [*QUESTION[:5], b"NULL"],
        [*QUESTION[:6], RAW[:31]],
        [b"2.0", *QUESTION[1:]],
    ],
)
def test_what_is_no_question_of_curve_lets_nobody_in(question: list[bytes]) -> None:
    answer, refused = answer_to(question, frozenset({as_text(RAW)}))
    assert (answer[2], refused) == (b"500", "")


def test_the_list_is_read_anew_when_it_changes(tmp_path: Path) -> None:
    one, two = new_pair().public, new_pair().public
    file = tmp_path / "clients"
    file.write_text(f"# cameras\n\n{one.decode()} gate-1\n")
    allowed = AllowedClients(file)
    assert one in allowed
    assert two not in allowed
    file.write_text(f"{two.decode()}\nnonsense\n{one.decode()[:39]}\n")
    assert two in allowed
    assert one not in allowed


def test_nobody_is_let_in_while_the_list_is_missing(tmp_path: Path) -> None:
    one = new_pair().public
    file = tmp_path / "clients"
    file.write_text(one.decode())
    allowed = AllowedClients(file)
    file.rename(tmp_path / "away")
    assert one not in allowed
    (tmp_path / "away").rename(file)
    assert one in allowed
    file.write_bytes(b"\xff\xfe")
    assert one not in allowed


def test_a_wrong_list_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"curve\.clients: .*cannot be read: No such file"):
        AllowedClients(tmp_path / "none")
    file = tmp_path / "clients"
    file.write_text("nonsense\n")
    with pytest.raises(InvalidRequest, match=r"curve\.clients: .*entry 1: expected a public key of 40 characters"):
        AllowedClients(file)
