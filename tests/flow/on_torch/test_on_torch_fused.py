"""Functions that are compiled for a GPU; here for the CPU, which any machine has."""

import logging
import shutil

import pytest
import torch

from dualstream.flow.on_torch.iterate import fused, iteration


def arguments(seed: int, *shape: int, tau: float = 0.25) -> tuple[torch.Tensor | float, ...]:
    """Of `iteration`."""
    generator = torch.Generator().manual_seed(seed)
    count, height, width = shape
    flow, dual_x, dual_y, normal = torch.randn(4, count, 2, height, width, generator=generator)
    offset, limit = torch.rand(2, count, height, width, generator=generator)
    dual_x[..., -1], dual_y[..., -1, :] = 0, 0
    return flow, dual_x / 3, dual_y / 3, normal, offset, limit, tau


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on the CPU")
def test_the_compiled_iteration_is_the_plain_one(caplog):
    field, plane = (5, 2, 7, 11), (5, 7, 11)
    example = (field, field, field, field, plane, plane, 0.25)
    compiled = fused(*example, device_types=("cpu",))(iteration.__wrapped__)
    quick_to_compile = torch._inductor.config.patch(
        {"cpp.vec_isa_ok": False, "cpp_cache_precompile_headers": False}
    )
    with (
        quick_to_compile,
        torch.inference_mode(),
        caplog.at_level(logging.DEBUG, "dualstream"),
    ):
        compiled_once = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        for seed, (shape, tau) in enumerate([((3, 20, 30), 0.25), ((2, 17, 17), 0.2)]):
            inputs = arguments(seed, *shape, tau=tau)
            before = [value.clone() for value in inputs[:-1]]
            for found, expected in zip(compiled(*inputs), iteration(*inputs), strict=True):
                assert found.numpy() == pytest.approx(expected.numpy(), abs=1e-4)
            assert all(torch.equal(*pair) for pair in zip(before, inputs[:-1], strict=True))
        compiled_now = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert not [r for r in caplog.records if r.name.startswith("dualstream")]
    assert compiled_now == compiled_once + 1  # for both sizes and step sizes


def test_what_cannot_be_compiled_runs_as_it_is_written(monkeypatch, caplog):
    def compiler(function, **options):
        def compiled(*args):
            raise torch._inductor.exc.TritonMissing(None)

        return compiled

    monkeypatch.setattr(torch, "compile", compiler)

    @fused((2,), device_types=("cpu",))
    def doubled(values):
        return 2 * values

    with caplog.at_level(logging.DEBUG, "dualstream"):
        assert doubled(torch.ones(3)).tolist() == [2, 2, 2]
        assert doubled(torch.ones(3)).tolist() == [2, 2, 2]
    assert ["doubled runs uncompiled" in record.message for record in caplog.records] == [True]


def test_the_cpu_needs_no_compiler(monkeypatch):
    monkeypatch.delattr(torch, "compile")
    added = fused((2,))(lambda values: values + 1)
    assert added(torch.zeros(2)).tolist() == [1, 1]
