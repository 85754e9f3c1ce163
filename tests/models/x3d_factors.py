"""Factors of X2D and of the published networks, for tests of X3D and of its expansion."""

from dualstream.models.x3d_expansion import Factors

X2D = Factors()

PUBLISHED: dict[str, Factors] = {
    "x3d_xs": Factors(gamma_tau=12, gamma_t=4, gamma_s=2**0.5, gamma_b=2.25, gamma_d=2.2),
    "x3d_s": Factors(gamma_tau=6, gamma_t=13, gamma_s=2**0.5, gamma_b=2.25, gamma_d=2.2),
    "x3d_m": Factors(gamma_tau=5, gamma_t=16, gamma_s=2.0, gamma_b=2.25, gamma_d=2.2),
    "x3d_l": Factors(gamma_tau=5, gamma_t=16, gamma_s=312 / 112, gamma_b=2.25, gamma_d=5.0),
    "x3d_xl": Factors(
        gamma_tau=5, gamma_t=16, gamma_s=312 / 112, gamma_w=1.45, gamma_b=2.25, gamma_d=5.0
    ),
}
"""Factors of the published networks, from the paper's tables and PySlowFast's configurations."""
