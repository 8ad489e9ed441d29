"""What is fuzzed: something that makes inputs and something that reads them."""

from random import Random
from typing import Protocol

Input = list[bytes]  # what an input is made of, such as the frames of a message


class Target(Protocol):
    """One reader of what clients send."""

    name: str

    def make(self, chance: Random) -> Input:
        """An input: a valid one of our own making with something wrong about it, now and then as it is."""

    def run(self, given: Input) -> None:
        """Read it as a server would.

        Raises:
            InferoxyError: It is refused.
        """
