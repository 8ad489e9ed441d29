"""How long a batch of so many items will hold its instance, learned from the batches before.

Pure. The estimate is a line over the number of items, fitted to recent batches, with older ones counting less, plus
the usual distance from that line: a batch should hardly ever take longer than predicted.
Invariants: a prediction is never negative and never falls with the number of items; 0 means that nothing is known.
"""

from math import sqrt

DECAY = 0.95  # weight of a batch with each that follows it: about the last 20 count
DEVIATIONS = 2.0


class ServiceTime:
    """Seconds between sending a batch to an idle instance and its result."""

    __slots__ = ("_deviation", "_n", "_x", "_xx", "_xy", "_y")

    def __init__(self) -> None:
        self._n = self._x = self._y = self._xx = self._xy = 0.0
        self._deviation = 0.0

    @property
    def is_known(self) -> bool:
        """Whether a batch has been seen."""
        return self._n > 0

    def saw(self, items: int, seconds: float) -> None:
        """A batch is done."""
        if self._n:
            self._deviation += (1 - DECAY) * 2 * (abs(seconds - self._line(items)) - self._deviation)
        n, x, y, xx, xy = self._n, self._x, self._y, self._xx, self._xy
        self._n, self._x, self._y = n * DECAY + 1, x * DECAY + items, y * DECAY + seconds
        self._xx, self._xy = xx * DECAY + items * items, xy * DECAY + items * seconds

    def predict(self, items: int) -> float:
        """Seconds that a batch of so many items will take at most, as a rule; 0 while nothing is known."""
        return self._line(items) + DEVIATIONS * self._deviation if self._n else 0.0

    def most_items(self, seconds: float, at_most: int) -> int:
        """The most items, up to `at_most`, that are predicted to take no longer than that; 0 when even one does."""
        if self.predict(at_most) <= seconds:
            return at_most
        low, high = 0, at_most  # predict(low) fits or low is 0, predict(high) does not
        while high - low > 1:
            middle = (low + high) // 2
            if self.predict(middle) <= seconds:
                low = middle
            else:
                high = middle
        return low

    def _line(self, items: int) -> float:
        mean_x, mean_y = self._x / self._n, self._y / self._n
        spread = self._xx / self._n - mean_x * mean_x
        if spread < 1e-9 * self._xx / self._n:
            return mean_y
        slope = max(0.0, (self._xy / self._n - mean_x * mean_y) / spread)
        # Far from what has been seen a steep line would promise the impossible: nothing is quicker than half the mean.
        return max(mean_y + slope * (items - mean_x), mean_y / (2 * sqrt(max(1.0, mean_x))))
