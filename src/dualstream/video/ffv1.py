"""Damaged packets of FFV1, told by their checksums before they are decoded.

FFmpeg decodes a slice whose data are damaged as far as it comes, without a sign of it, and leaves
the rest of the picture as memory happened to be; the pictures after it take that over until the
next key frame. From its version 3 on each slice ends with its length and a checksum (RFC 9043,
sections 4.8 and 4.9), so that damaged packets can be left out, and those that build on them:

    data, length (3 bytes), error status (1 byte), CRC-32 (4 bytes)
"""

from __future__ import annotations

import zlib

_LENGTH_BYTES = 3
_WITH_CRC_BYTES = 8
_ALL_ONES = 0xFFFFFFFF
_VERSION_4_START = 0x5E31_029E
"""Register that checksums of version 4 begin and end with: 0x7a8c4079, its bits in this order."""
_TURNED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Ffv1Guard:
    """Tells which packets of a stream can be decoded, from a key frame or the start on.

    Args:
        extradata: of the stream; versions 0 and 1 have none, and nothing is known of their packets.
    """

    def __init__(self, extradata: bytes) -> None:
        self._is_checked = bool(extradata)
        self._is_lost = False

    def takes(self, packet: bytes) -> bool:
        """Whether the next packet is whole, and so is all that it builds on."""
        if self._is_checked:
            is_whole = is_whole_packet(packet)
            self._is_lost = not is_whole or (self._is_lost and not is_key_packet(packet))
        return not self._is_lost

    def lose(self) -> None:
        """Take nothing before the next key frame: the decoder refused a packet."""
        self._is_lost = self._is_checked


def is_key_packet(packet: bytes) -> bool:
    """Whether a packet is a key frame: the first bit that the range coder gives (RFC 9043, 4.4)."""
    return int.from_bytes(packet[:2], "big") >= 0x7F80


def is_whole_packet(packet: bytes) -> bool:
    """Whether the slices of a packet of version 3 or later fill it, and their checksums are right.

    Streams may have been written without checksums; of them the lengths alone speak.
    """
    slices = _slices(packet, trailer_bytes=_WITH_CRC_BYTES)
    if slices:
        return all(_is_right(part) for part in slices)
    return bool(_slices(packet, trailer_bytes=_LENGTH_BYTES))


def _slices(packet: bytes, *, trailer_bytes: int) -> list[bytes]:
    """The slices from the last to the first; none where their lengths do not fill the packet."""
    found, end = [], len(packet)
    while end > 0:
        place = end - trailer_bytes
        length = int.from_bytes(packet[max(place, 0) : place + _LENGTH_BYTES], "big")
        start = place - length
        if start < 0:
            return []
        found.append(packet[start:end])
        end = start
    return found


def _is_right(part: bytes) -> bool:
    """Whether the CRC-32 of a slice comes out as it should, most significant bits first."""
    turned = part.translate(_TURNED)
    return any(
        zlib.crc32(turned, start ^ _ALL_ONES) ^ _ALL_ONES == start
        for start in (0, _VERSION_4_START)
    )
