"""Encoded pictures: the gate of the bridges, what clients look at, and the decoders of the instances."""

from random import Random

from bridges import picture_gate
from inferoxy.client import pictures as client_pictures
from inferoxy.errors import InferoxyError
from inferoxy.runtime.decode import decode_picture
from inferoxy.runtime.exif import picture_orientation
from tests.fuzz.pictures import corpus, mutate_picture
from tests.fuzz.target import Input
from tests.fuzz.world import LIMITS, Fault

SIDE = 4_000  # of arrays that decoders may make


class Pictures:
    """One encoded picture. What the gate lets through is decoded too."""

    name = "pictures"

    def __init__(self) -> None:
        self._corpus = corpus()

    def make(self, chance: Random) -> Input:
        """See Target."""
        data = chance.choice(self._corpus)
        for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
            data = mutate_picture(data, chance, self._corpus)
        return [data]

    def run(self, given: Input) -> None:
        """See Target."""
        (data,) = given
        view = memoryview(data)
        try:
            loaded = client_pictures.load(data)
        except InferoxyError:
            pass
        else:
            if isinstance(loaded, client_pictures.EncodedPicture):
                hash(loaded.seen_size)
        for encoding in picture_gate.ENCODINGS:
            if picture_orientation(view, encoding) not in range(1, 9):
                raise Fault(f"orientation {picture_orientation(view, encoding)} of {encoding}")
        picture = picture_gate.examine(view, LIMITS)
        decoded = decode_picture(view, picture.encoding, picture.tensor().shape)
        if decoded.shape[:2] not in ((picture.height, picture.width), (picture.width, picture.height)):
            raise Fault(f"the gate said {picture.width}x{picture.height}, the decoder {decoded.shape}")
