"""Answers each request several times: once, twice and three times its input."""

from typing import Any, ClassVar

from inferoxy.runtime import Model

TIMES = 3


class Repeat(Model):
    inputs: ClassVar[Any] = {"INPUT": ("INT32", [-1, -1])}
    outputs: ClassVar[Any] = {"OUTPUT": ("INT32", [-1, -1])}
    decoupled = True

    def infer_each(self, requests):
        return [self.answers(request["INPUT"]) for request in requests]

    def answers(self, sent):
        for times in range(1, TIMES + 1):
            yield {"OUTPUT": sent * times}
