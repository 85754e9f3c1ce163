"""Encoders that make the calling thread a real-time one, and what is left of that."""

import os

import av
import numpy as np
import pytest

from dualstream.engine.doctor import check_codecs
from dualstream.video.scheduling import kept_scheduling

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getscheduler"), reason="the system has no scheduling policies"
)


def scheduling():
    return os.sched_getscheduler(0), os.sched_getparam(0).sched_priority


def encode(path, encoder):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_svt_av1_leaves_the_thread_as_it_was(tmp_path, monkeypatch):
    monkeypatch.setenv("SVT_LOG", "0")
    before = scheduling()
    with kept_scheduling():
        encode(tmp_path / "a.mkv", "libsvtav1")
    assert scheduling() == before


def test_an_error_leaves_it_as_it_was():
    def changed():
        with kept_scheduling():
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
            assert scheduling() != before
            raise ZeroDivisionError

    before = scheduling()
    with pytest.raises(ZeroDivisionError):
        changed()
    assert scheduling() == before


def test_the_doctor_leaves_its_caller_as_it_was():
    before = scheduling()
    _, found, _ = check_codecs()
    assert "AV1" in found
    assert scheduling() == before
