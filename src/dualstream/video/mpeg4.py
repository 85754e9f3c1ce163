"""Finding the pictures in packets of MPEG-4 part 2 video (Xvid, DivX).

AVI files of that codec may pack a P and a B picture into one packet and follow it by a
placeholder ("not coded") packet, so neither packets nor their times tell the frames. The
syntax is ISO/IEC 14496-2, sections 6.2.3 (video object layer) and 6.2.5 (video object plane).
"""

from __future__ import annotations

from collections.abc import Sequence

START_CODE = b"\x00\x00\x01"
LAYER_CODES = range(0x20, 0x30)
PICTURE_CODE = 0xB6
PICTURE_TYPES = "IPBS"
"""Letter of each value of vop_coding_type."""

LONGEST_PLACEHOLDER_BYTES = 16
"""Longer packets begin with a start code, unless they are damaged."""


class PictureFinder:
    """Lists the pictures that packets show; remembers the clock of the layer header.

    Args:
        extradata: the codec's header as the container stores it, may be empty.
    """

    def __init__(self, extradata: bytes) -> None:
        self._increment_bits = 1
        self.find(extradata)

    def find(self, data: bytes) -> str:
        """Types of the coded pictures of one packet: "P" mostly, "PB" packed, "" placeholder.

        A "?" stands for what is damaged: a picture header, or a packet without any.
        """
        found = ""
        position = data.find(START_CODE)
        if position and len(data) > LONGEST_PLACEHOLDER_BYTES:
            return "?"
        while 0 <= position < len(data) - 4:
            # 36 bytes hold every header field that is read here.
            code, body = data[position + 3], data[position + 4 : position + 40]
            if code in LAYER_CODES:
                self._increment_bits = max(1, (layer_clock(body) - 1).bit_length())
            elif code == PICTURE_CODE:
                found += picture_type(body, increment_bits=self._increment_bits)
            position = data.find(START_CODE, position + 4)
        return found


class _Bits:
    """Reads a byte string bit by bit; zeros follow its end."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def read(self, count: int) -> int:
        self._left -= count
        shifted = self._value >> self._left if self._left >= 0 else 0
        return shifted & ((1 << count) - 1)


def layer_clock(body: bytes) -> int:
    """vop_time_increment_resolution (ticks a second) of a video object layer header."""
    bits = _Bits(body)
    bits.read(1 + 8)  # random access, object type
    if bits.read(1):
        bits.read(4 + 3)  # version, priority
    if bits.read(4) == 15:  # aspect ratio given as two numbers
        bits.read(8 + 8)
    if bits.read(1):
        bits.read(2 + 1)  # chroma format, low delay
        if bits.read(1):
            bits.read(79)  # buffer sizes with their marker bits
    bits.read(2 + 1)  # shape, marker
    return max(1, bits.read(16))


def picture_type(body: bytes, *, increment_bits: int) -> str:
    """Letter of a video object plane's picture, "" for a placeholder (vop_coded = 0), "?" for none.

    Args:
        body: what follows the start code.
        increment_bits: width of vop_time_increment, enough for the layer's clock - 1.
    """
    bits = _Bits(body)
    letter = PICTURE_TYPES[bits.read(2)]
    for _ in range(8 * len(body)):  # modulo_time_base: a 1 for every second passed, then a 0
        if not bits.read(1):
            break
    markers = bits.read(1)
    bits.read(increment_bits)  # vop_time_increment
    if not markers or not bits.read(1):
        return "?"
    return letter if bits.read(1) else ""


def display_slots(pictures: Sequence[str]) -> list[int]:
    """Packet number at whose time each picture is shown, in the order of showing.

    The decoder gives at most one picture a packet; a packed one waits for the placeholder after
    it, and one that still waits at the end is never shown. Where there are B pictures the
    decoder gives each picture one packet late, which is taken back: I,-,PB,-,P,- (an encoder's
    delay after the first picture, then packed) is shown at 0, 1, 2, 3 and I,P,-,P (a picture
    dropped) at 0, 1, 3.
    """
    given: list[int] = []
    waiting = 0
    for packet, found in enumerate(pictures):
        waiting += len(found)
        if waiting:
            given.append(packet)
            waiting -= 1
    if len(given) > 1 and any("B" in found for found in pictures):
        delay = given[1] - given[0]
        return [slot - delay for slot in given[1:]] + [given[-1] + 1 - delay]
    return given
