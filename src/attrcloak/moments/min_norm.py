"""The weight of two objectives whose step conflicts with neither (MGDA; Désidéri 2012, Sener & Koltun 2018)."""


def leakage_weight(
    recommendation: float, cross: float, leakage: float, lower: float = 0.0, upper: float = 1.0
) -> float:
    """Weight a of the leakage gradient in the shortest convex combination a gAU + (1-a) gR (Wu et al. 2025, eq. 21).

    a = clip((gR - gAU)^T gR / ||gAU - gR||^2, lower, upper), from inner products alone, so that rows and moments
    share these lines.

    Args:
        recommendation: gR^T gR.
        cross: gR^T gAU.
        leakage: gAU^T gAU.
        lower: smallest weight. At the start of AttrCloak-DF gR is 0, the rule gives 0 and nothing would ever move, so
            the paper uses 0.1 there and 0 with the recommender's own loss.
        upper: largest weight.

    Returns:
        The weight in [lower, upper]; ``upper`` when both gradients agree, for then any weight gives the same step.
    """
    apart = leakage - 2 * cross + recommendation
    if apart <= 1e-30 * max(leakage, recommendation, 1e-300):
        return upper
    return min(max((recommendation - cross) / apart, lower), upper)
