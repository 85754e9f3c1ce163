"""Packets looked into: whole or damaged, key frames, and the pictures of MPEG-4 part 2."""

import av
import pytest

from dualstream.video.packets import (
    PictureFinder,
    display_slots,
    is_h264_reference,
    layer_clock,
    nal_units,
    packet_inspector,
    picture_type,
)

AVCC = bytes([1, 100, 0, 10, 0xFF, 0xE1, 0, 4]) + b"\x67abc"  # lengths of 4 bytes
HVCC = bytes([1, *[0] * 20, 3]) + b"\x42\x01abc"


def with_lengths(*units: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


IDR, P, B = b"\x65\x88rest", b"\x41\x9arest", b"\x01\x9erest"  # first_mb_in_slice is 0
RECOVERS_NOW, RECOVERS_LATER = b"\x06\x06\x01\xc4\x80", b"\x06\x06\x01\x24\x80"
TURNS = b"\x06\x2f\x03\x08\x00\x14\x80"


@pytest.mark.parametrize(
    ("units", "is_whole", "is_key", "turns"),
    [
        ([IDR], True, True, False),
        ([b"\x09\xf0", b"\x67abc", IDR], True, True, False),  # the stream's own parameter set
        ([P], True, False, False),
        ([RECOVERS_NOW, P], True, True, False),
        ([RECOVERS_LATER, P], True, False, False),  # refreshed in stripes
        ([TURNS, IDR], True, True, True),
        ([P + b"\0\0\3\0"], True, False, False),  # zeros may follow a unit
        ([b"\x67xyz", IDR], False, None, None),  # parameters of another stream
        ([b"\x41\x1arest"], False, None, None),  # the first slice is not the picture's first
        ([b"\x41\x9are\0\0\0st"], False, None, None),
        ([b"\xc1\x9arest"], False, None, None),
        ([b"\x09\xf0"], False, None, None),  # no slice
        ([b""], False, None, None),
        ([], False, None, None),
    ],
)
def test_h264(units, is_whole, is_key, turns):
    facts = packet_inspector("h264", AVCC)(with_lengths(*units))
    assert facts.is_whole is is_whole
    if is_whole:
        assert (facts.is_key, facts.turns) == (is_key, turns)
    start_codes = b"".join(b"\0\0\0\1" + unit for unit in units)
    annex_b = packet_inspector("h264", b"\0\0\1\x67abc")
    if b"\0\0\0" not in b"".join(units):  # which would end a unit there
        assert annex_b(start_codes).is_whole is is_whole


def test_units_that_do_not_fill_the_packet():
    whole = with_lengths(IDR, P)
    assert nal_units(whole, length_bytes=4) == [IDR, P]
    assert nal_units(whole[:-1], length_bytes=4) == []
    assert nal_units(whole + b"\0", length_bytes=4) == []
    assert nal_units(b"junk" + b"\0\0\1" + IDR, length_bytes=None) == []


@pytest.mark.parametrize(
    ("units", "is_whole", "is_key"),
    [
        ([b"\x26\x01\xafrest"], True, True),  # IDR (19)
        ([b"\x2a\x01\xacrest"], True, True),  # clean random access (21)
        ([b"\x02\x01\xd0rest"], True, False),
        ([b"\x12\x01\xe2rest"], True, False),  # leading picture (9)
        ([b"\x42\x01abc", b"\x2a\x01\xacrest"], True, True),
        ([b"\x42\x01xyz", b"\x2a\x01\xacrest"], False, None),
        ([b"\x02\x01\x50rest"], False, None),  # not the first segment of its picture
    ],
)
def test_hevc(units, is_whole, is_key):
    facts = packet_inspector("hevc", HVCC)(with_lengths(*units))
    assert facts.is_whole is is_whole
    if is_whole:
        assert facts.is_key is is_key


@pytest.mark.parametrize(
    ("data", "is_whole", "is_key"),
    [
        (b"\x12\x00" + b"\x0a\x01\x00" + b"\x32\x02\x10\x00", True, True),
        (b"\x12\x00" + b"\x32\x02\x30\x00", True, False),  # inter frame
        (b"\x12\x00" + b"\x1a\x01\x80", True, False),  # an earlier frame shown again
        (b"\x12\x00" + b"\x30\x10\x00", True, True),  # the last unit without a size
        (b"\x12\x00" + b"\x32\x09\x10\x00", False, None),
        (b"\x12\x00", False, None),
        (b"\x92\x00" + b"\x32\x02\x10\x00", False, None),
    ],
)
def test_av1(data, is_whole, is_key):
    facts = packet_inspector("av1", b"")(data)
    assert facts.is_whole is is_whole
    if is_whole:
        assert facts.is_key is is_key


@pytest.mark.parametrize(
    ("data", "is_whole", "is_key"),
    [
        (b"\x82\x49\x83\x42rest", True, True),  # profile 0, shown
        (b"\xa2\x49\x83\x42rest", True, True),  # profile 1
        (b"\x86\x00\x40rest", True, False),
        (b"\x88", True, False),  # an earlier frame shown again
        (b"\x82\x49\x83\x43rest", False, None),
        (b"\x42\x49\x83\x42rest", False, None),
        (b"", False, None),
    ],
)
def test_vp9(data, is_whole, is_key):
    facts = packet_inspector("vp9", b"")(data)
    assert facts.is_whole is is_whole
    if is_whole:
        assert facts.is_key is is_key


def segment(kind: int, body: bytes = b"body") -> bytes:
    return bytes([0xFF, kind]) + (len(body) + 2).to_bytes(2, "big") + body


TABLES = segment(0xDB) + segment(0xC0) + segment(0xC4)


@pytest.mark.parametrize(
    ("body", "is_whole", "turns"),
    [
        (TABLES + segment(0xDA) + b"scan\xff\x00more\xff\xd0end", True, False),
        (segment(0xE1, b"Exif\0\0") + TABLES + segment(0xDA) + b"scan", True, True),
        (segment(0xDB) + segment(0xC0) + segment(0xDA) + b"scan", False, False),  # no codes
        (TABLES + segment(0xDA) + b"scan\xff\xc4more", False, False),
        (TABLES + b"scan", False, False),
    ],
)
def test_motion_jpeg(body, is_whole, turns):
    facts = packet_inspector("mjpeg", b"")(b"\xff\xd8" + body + b"\xff\xd9")
    assert (facts.is_whole, facts.turns) == (is_whole, turns)
    assert not packet_inspector("mjpeg", b"")(b"\xff\xd8" + body).is_whole


def test_mpeg4_keys_are_what_the_picture_says():
    intra, predicted = b"\0\0\1\xb6\x16data", b"\0\0\1\xb6\x56data"
    inspect = packet_inspector("mpeg4", b"")
    assert [inspect(data).pictures for data in (intra, predicted)] == ["I", "P"]
    assert [inspect(data).is_key for data in (intra, predicted)] == [True, False]
    assert not inspect(b"damage" * 5 + intra).is_whole
    assert not inspect(b"\0\0\1\xb6\x06data").is_whole


def test_other_codecs_are_taken_at_their_container_s_word():
    assert packet_inspector("ffv1", b"")(b"anything").is_whole


SLICE_REF, SLICE, SEI, SPS = b"\x41", b"\x01", b"\x06", b"\x67"


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ([SLICE_REF + b"xyz"], True),
        ([SLICE + b"xyz"], False),
        ([b"\x65x"], True),
        ([SEI + b"abcd", SLICE + b"x"], False),
        ([SPS + b"a", SEI + b"b", b"\x65"], True),
        ([SEI + b"abcd"], True),  # no slice: nothing is known
        ([], True),
    ],
)
def test_is_h264_reference(units, expected):
    for length_bytes in (1, 2, 4):
        packet = b"".join(len(unit).to_bytes(length_bytes, "big") + unit for unit in units)
        assert is_h264_reference(packet, length_bytes=length_bytes) is expected
    for code in (b"\0\0\1", b"\0\0\0\1"):
        packet = b"".join(code + unit for unit in units)
        assert is_h264_reference(packet, length_bytes=None) is expected


def from_bits(bits: str) -> bytes:
    bits = bits.replace(" ", "")
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


PLAIN_LAYER = "0 00000001 0 0001 0 00 1 0000000000011001 1"  # clock of 25 ticks a second
FULL_LAYER = (
    "0 00000001 1 0101 001 1111 00000001 00000001 1 01 0 1"
    + "1" * 79
    + "00 1 0111010100110000 1"  # clock of 30000
)


def test_layer_clock():
    assert layer_clock(from_bits(PLAIN_LAYER)) == 25
    assert layer_clock(from_bits(FULL_LAYER)) == 30000


@pytest.mark.parametrize(
    ("bits", "letter"),
    [
        ("00 0 1 00000 1 1", "I"),
        ("01 0 1 00001 1 1", "P"),
        ("10 0 1 00010 1 1", "B"),
        ("11 0 1 00011 1 1", "S"),
        ("01 0 1 00011 1 0", ""),
        ("01 110 1 00011 1 1", "P"),  # two seconds have passed
        ("01 110 1 00011 1 0", ""),
    ],
)
def test_picture_type(bits, letter):
    assert picture_type(from_bits(bits + "1"), increment_bits=5) == letter


def test_pictures_of_packets():
    vop = b"\x00\x00\x01\xb6"
    layer = b"\x00\x00\x01\x20" + from_bits(PLAIN_LAYER)
    p, b = vop + from_bits("01 0 1 00001 1 1") + b"data", vop + from_bits("10 0 1 00010 1 1 1")
    placeholder = vop + from_bits("01 0 1 00001 1 0 0111")
    finder = PictureFinder(layer)
    assert [finder.find(data) for data in (p, p + b, placeholder, b"\x7f", b"")] == [
        "P",
        "PB",
        "",
        "",
        "",
    ]
    # The layer header may come with the first packet instead.
    late = PictureFinder(b"")
    assert late.find(layer + p) == "P"
    assert late.find(placeholder) == ""


@pytest.mark.parametrize(
    ("pictures", "slots"),
    [
        (["I", "P", "P"], [0, 1, 2]),
        (["I", "P", "", "P"], [0, 1, 3]),  # a dropped picture
        (["I", "", "PB", "", "PB", ""], [0, 1, 2, 3, 4]),  # delayed and packed: nothing dropped
        (["I", "PB", "B", ""], [0, 1, 2, 3]),
        (["I", "PB", "B", "", "PB"], [0, 1, 2, 3, 4]),  # the last B is never shown
        (["I", "P", "B", "P", "B"], [0, 1, 2, 3, 4]),  # not packed
        (["I"], [0]),
        (["", ""], []),
        ([], []),
    ],
)
def test_display_slots(pictures, slots):
    assert display_slots(pictures) == slots


@pytest.mark.parametrize(
    ("clip", "num_packets", "num_frames"),
    [
        # Frames counted by `ffmpeg -i CLIP -f null -` (FFmpeg 5.1).
        ("RATRACE_wave_f_nm_np1_fr_goo_37.avi", 73, 72),
        ("v_ApplyEyeMakeup_g01_c01.avi", 164, 164),
        ("v_BaseballPitch_g01_c01.avi", 107, 107),
    ],
)
def test_real_packed_files(shared, clip, num_packets, num_frames):
    with av.open(str(shared / "clips" / clip), metadata_errors="ignore") as container:
        stream = container.streams.video[0]
        finder = PictureFinder(stream.codec_context.extradata or b"")
        pictures = [finder.find(bytes(p)) for p in container.demux(stream) if p.size]
    assert len(pictures) == num_packets
    assert len(display_slots(pictures)) == num_frames
