import av
import pytest

from dualstream.video.packets import PictureFinder, display_slots, layer_clock, picture_type


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
