"""What each of torch's operations does to places: the table of rules.

Torch runs every network as a sequence of some hundred basic operations (`aten`). Those that work
element by element are marked as such by torch; the others stand in `RULES`. Of an operation that
does not, nothing is known afterwards, and the table says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dualstream.models.inspection import mix_rules as mix
from dualstream.models.inspection import regroup_rules as regroup
from dualstream.models.inspection.call import Call, Result, unknown
from dualstream.models.inspection.joining import joined
from dualstream.models.inspection.places import Places

Rule = Callable[[Call], Result]


def _table(*rows: tuple[Rule, str]) -> dict[str, Rule]:
    return {name: rule for rule, names in rows for name in names.split()}


RULES: dict[str, Rule] = _table(
    (regroup.same, "alias clone contiguous detach lift_fresh _to_copy to"),
    # Statistics of norms are left out, as is usual for receptive fields.
    (regroup.same, "native_batch_norm _native_batch_norm_legit_no_training native_group_norm"),
    (regroup.same, "_native_batch_norm_legit _batch_norm_no_update native_dropout"),
    (regroup.reshape, "view _unsafe_view reshape _reshape_alias view_copy unflatten flatten"),
    (regroup.permute, "permute"),
    (regroup.transpose, "transpose t"),
    (regroup.unsqueeze, "unsqueeze"),
    (regroup.squeeze, "squeeze"),
    (regroup.expand, "expand"),
    (regroup.repeat, "repeat"),
    (regroup.as_strided, "as_strided"),
    (regroup.flip, "flip"),
    (regroup.roll, "roll"),
    (regroup.slice_, "slice"),
    (regroup.select, "select"),
    (regroup.unbind, "unbind"),
    (regroup.split, "split unsafe_split split_with_sizes unsafe_split_with_sizes"),
    (regroup.index_select, "index_select"),
    (regroup.index, "index"),
    (regroup.pad, "constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d"),
    (regroup.pad, "replication_pad1d replication_pad2d replication_pad3d"),
    (regroup.cat, "cat"),
    (regroup.stack, "stack"),
    (mix.convolution, "convolution"),
    (mix.pool, "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d"),
    (mix.pool, "max_pool2d_with_indices max_pool3d_with_indices"),
    (mix.adaptive_pool, "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool1d"),
    (mix.adaptive_pool, "adaptive_max_pool2d adaptive_max_pool3d adaptive_avg_pool2d"),
    (mix.reduce, "mean sum amax amin max min argmax argmin prod all any logsumexp norm"),
    (mix.reduce, "std var std_mean var_mean linalg_vector_norm"),
    (mix.spread, "_softmax _log_softmax _safe_softmax cumsum sort topk"),
    (mix.layer_norm, "native_layer_norm _fused_rms_norm"),
    (mix.product, "mm addmm bmm baddbmm mv"),
    (mix.attention, "_scaled_dot_product_flash_attention _scaled_dot_product_efficient_attention"),
    (mix.attention, "_scaled_dot_product_flash_attention_for_cpu"),
)

POOLS = frozenset(name for name, rule in RULES.items() if rule in (mix.pool, mix.adaptive_pool))
REDUCTIONS = frozenset(name for name, rule in RULES.items() if rule is mix.reduce)

SEVERAL_ARGUMENTS = frozenset(
    name
    for name, rule in RULES.items()
    if rule in (regroup.cat, regroup.stack, mix.product, mix.attention)
)
"""Operations whose rule looks at more arguments than the first."""

UNMARKED = frozenset({"copy", "hardswish", "log_sigmoid_forward", "masked_fill", "_prelu_kernel"})
"""Operations that work element by element and are not marked so."""

SEES_NOTHING = frozenset(
    {"fill", "zero"}
    | {f"{what}_like" for what in ("empty", "full", "ones", "zeros")}
    | {f"new_{what}" for what in ("empty", "full", "ones", "zeros")}
)
"""Operations that take only the shape of a tensor."""


def places_after(call: Call) -> Result:
    """What the output of an operation sees."""
    followed = [places for t in call.tensors if (places := call.places_of(t)) is not None]
    if not followed or call.name in SEES_NOTHING:
        return None
    if call.pointwise or call.name in UNMARKED:
        return _element_by_element(call, followed)
    rule = RULES.get(call.name)
    if rule is None:
        return unknown(call, followed)
    if call.name not in SEVERAL_ARGUMENTS:
        first = call.places_of(next(iter(call.arguments.values())))
        if first is None or len(followed) > 1:  # made weights, made indices
            return unknown(call, followed)
    return rule(call)


def _element_by_element(call: Call, followed: Sequence[Places]) -> Places:
    together = followed[0]
    for other in followed[1:]:
        together = joined(together, other)
    return together.expanded(call.shape)
