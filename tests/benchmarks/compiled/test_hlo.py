"""Bytes of kernels in a program small enough to count by hand."""

import pytest

from benchmarks.compiled import hlo

PROGRAM = """HloModule jit_step, is_scheduled=true

%region_add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%fused_slices (param_0: bf16[8,100], param_1: bf16[8,10]) -> bf16[8,10] {
  %param_0 = bf16[8,100]{1,0} parameter(0)
  %param_1 = bf16[8,10]{1,0} parameter(1)
  %wide = f32[8,100]{1,0} convert(%param_0)
  %part = f32[8,10]{1,0} slice(%wide), slice={[0:8], [10:20]}
  %narrow = bf16[8,10]{1,0} convert(%part)
  ROOT %out = bf16[8,10]{1,0} add(%narrow, %param_1)
}

%fused_update (param_0.1: f32[15,4], param_1.1: f32[4], param_2.1: s32[]) -> f32[15,4] {
  %param_0.1 = f32[15,4]{1,0} parameter(0)
  %param_1.1 = f32[4]{0} parameter(1)
  %row = f32[1,4]{1,0} bitcast(%param_1.1)
  %param_2.1 = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %updated = f32[15,4]{1,0} dynamic-update-slice(%param_0.1, %row, %param_2.1, %zero)
}

%body (state: (s32[], f32[15,4], f32[4])) -> (s32[], f32[15,4], f32[4]) {
  %state = (s32[], f32[15,4]{1,0}, f32[4]{0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %rows = f32[15,4]{1,0} get-tuple-element(%state), index=1
  %row.1 = f32[4]{0} get-tuple-element(%state), index=2
  %new = f32[15,4]{1,0} fusion(%rows, %row.1, %i), kind=kLoop, calls=%fused_update
  ROOT %next = (s32[], f32[15,4]{1,0}, f32[4]{0}) tuple(%i, %new, %row.1)
}

%condition (state.1: (s32[], f32[15,4], f32[4])) -> pred[] {
  %state.1 = (s32[], f32[15,4]{1,0}, f32[4]{0}) parameter(0)
  ROOT %less = pred[] constant(true)
}

ENTRY %main (x: bf16[8,100], y: bf16[8,10], w: bf16[100,10], rows.1: f32[15,4], r: f32[4]) -> f32[] {
  %x = bf16[8,100]{1,0} parameter(0)
  %y = bf16[8,10]{1,0:T(8,128)(2,1)} parameter(1)
  %w = bf16[100,10]{1,0} parameter(2)
  %rows.1 = f32[15,4]{1,0} parameter(3)
  %r = f32[4]{0} parameter(4)
  %zero.1 = s32[] constant(0)
  %sliced = bf16[8,10]{1,0} fusion(%x, %y), kind=kInput, calls=%fused_slices, metadata={op_name="jit(step)/slice"}
  %product = (bf16[8,10]{1,0}, s8[33554432]{0}) custom-call(%x, %w), custom_call_target="__cublas$lt$matmul"
  %first = bf16[8,10]{1,0} get-tuple-element(%product), index=0
  %tuple = (s32[], f32[15,4]{1,0}, f32[4]{0}) tuple(%zero.1, %rows.1, %r)
  %loop = (s32[], f32[15,4]{1,0}, f32[4]{0}) while(%tuple), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"15"}}
  %near = bf16[8,100]{1,0:T(8,128)(2,1)S(1)} copy(%x)
  %start = (f32[4]{0}, f32[4]{0}) all-reduce-start(%r), to_apply=%region_add
  ROOT %done = f32[4]{0} all-reduce-done(%start)
}
"""  # noqa: E501


@pytest.fixture(scope="module")
def by_name():
    return {kernel.name: kernel for kernel in hlo.kernels(PROGRAM)}


@pytest.mark.parametrize(
    ("name", "kind", "bytes_", "calls"),
    [
        ("sliced", "fusion, input", 3 * 160, 1),  # only the slice of x
        ("product", "matrix product, cuBLAS", 1600 + 2000 + 160, 1),  # without the workspace
        ("new", "fusion, loop", 15 * (16 + 16 + 4), 15),  # an in-place update
        ("near", "copy", 1600, 1),  # to on-chip memory
        ("start", "all-reduce-start", 16 + 16, 1),
    ],
)
def test_kernel(by_name, name, kind, bytes_, calls):
    kernel = by_name[name]
    assert (kernel.kind, kernel.bytes, kernel.calls) == (kind, bytes_, calls)
    assert kernel.travels == (16 if name == "start" else 0)


def test_nothing_else_is_a_kernel(by_name):
    assert set(by_name) == {"sliced", "product", "new", "near", "start"}
    assert by_name["sliced"].source == "jit(step)/slice"


def test_bytes_of_types():
    assert (
        hlo.bytes_of("(bf16[2,3]{1,0}, pred[5], f8e4m3fn[7]{0}, s4[4], f32[])")
        == 12 + 5 + 7 + 2 + 4
    )
