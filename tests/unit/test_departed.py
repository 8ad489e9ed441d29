"""Clients that have left, until the batch manager knows."""

from bridges.departed import AT_MOST, TOGETHER, Departed


def test_names_are_given_in_order_in_messages_of_bounded_size() -> None:
    departed = Departed()
    names = [f"c{number}" for number in range(2 * TOGETHER + 5)]
    for name in [*names, names[0]]:
        departed.add(name)
    groups = list(departed.groups())
    assert [len(group) for group in groups] == [TOGETHER, TOGETHER, 5]
    assert [name for group in groups for name in group] == names
    assert len(departed) == 0


def test_a_group_that_could_not_be_sent_is_given_again() -> None:
    departed = Departed()
    departed.add("a")
    for group in departed.groups():
        assert group == ["a"]
        break
    departed.add("b")
    assert list(departed.groups()) == [["a", "b"]]


def test_at_the_bound_the_first_to_leave_is_forgotten() -> None:
    departed = Departed()
    for number in range(AT_MOST + 3):
        departed.add(str(number))
    assert len(departed) == AT_MOST
    assert next(departed.groups())[0] == "3"
