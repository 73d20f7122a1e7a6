"""Rows of kernels, compiled: only the widest is ever written down. Needs the extra ``fast``, which is Numba."""

import numpy as np

from attrcloak.moments.compiling import compiled
from attrcloak.unlearning.kernel_rows import BANDS, Codes, Floats, KernelSums, References


def compiled_rows(kernel: Floats, codes: Codes, references: References) -> KernelSums:
    """See ``KernelRows``."""
    within = np.zeros((len(kernel), codes.shape[1], BANDS), dtype=np.float32)
    density = np.empty((len(kernel), BANDS + 1), dtype=np.float32)
    _rows(
        kernel,
        np.ascontiguousarray(codes),
        references.own,
        references.drawn,
        references.away,
        references.toward,
        references.speeds,
        within,
        density,
    )
    return KernelSums(within, density)


@compiled("contract", "reassoc", "nsz")
def _rows(
    kernel: Floats,
    codes: Codes,
    own: Codes,
    drawn: Codes,
    away: Floats,
    toward: Floats,
    speeds: Floats,
    within: Floats,
    density: Floats,
) -> None:
    # Written out for five kernels: sums in registers, powers by squaring.
    zero, one, least = np.float32(0), np.float32(1), np.float32(1e-12)
    rows, others = kernel.shape
    weights = np.empty(others, np.float32)
    for i in range(rows):
        row = kernel[i]
        t1, t2, t4, t8, t16, t32 = zero, zero, zero, zero, zero, zero
        for j in range(others):
            k1 = row[j]
            k2 = k1 * k1
            k4 = k2 * k2
            k8 = k4 * k4
            k16 = k8 * k8
            t1 += k1
            t2 += k2
            t4 += k4
            t8 += k8
            t16 += k16
            t32 += k16 * k16
        density[i, 0], density[i, 1], density[i, 2] = t1, t2, t4
        density[i, 3], density[i, 4], density[i, 5] = t8, t16, t32
        weights[:] = zero
        for a in range(codes.shape[1]):
            c = codes[i, a]
            if c < 0:
                continue
            mine, theirs = own[a], drawn[a]
            push, pull = away[c], toward[c]
            c1, c2, c4 = speeds[c, 0] / (t1 + least), speeds[c, 1] / (t2 + least), speeds[c, 2] / (t4 + least)
            c8, c16 = speeds[c, 3] / (t8 + least), speeds[c, 4] / (t16 + least)
            s1, s2, s4, s8, s16 = zero, zero, zero, zero, zero
            for j in range(others):
                k1 = row[j]
                k2 = k1 * k1
                k4 = k2 * k2
                k8 = k4 * k4
                k16 = k8 * k8
                same = one if mine[j] == c else zero
                chosen = pull if theirs[j] == c else zero
                s1 += same * k1
                s2 += same * k2
                s4 += same * k4
                s8 += same * k8
                s16 += same * k16
                weights[j] += (same * push - chosen) * (c1 * k1 + c2 * k2 + c4 * k4 + c8 * k8 + c16 * k16)
            within[i, a, 0], within[i, a, 1], within[i, a, 2] = s1, s2, s4
            within[i, a, 3], within[i, a, 4] = s8, s16
        row[:] = weights
