"""Pairs of images whose optical flow is known: rendered ones, and public ones read from files."""

from .pairs import (
    DEVELOPMENT_SEEDS,
    FINAL_SEEDS,
    GENERATED_GROUPS,
    KnownPair,
    development_pairs,
    final_pairs,
    generated_pair,
    public_pairs,
)

__all__ = [
    "DEVELOPMENT_SEEDS",
    "FINAL_SEEDS",
    "GENERATED_GROUPS",
    "KnownPair",
    "development_pairs",
    "final_pairs",
    "generated_pair",
    "public_pairs",
]
