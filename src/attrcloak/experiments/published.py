"""The numbers printed in the paper (Wu et al., ICDE 2025), to be put beside ours.

Attack accuracies are plain accuracies on the users whose attribute the attacker does not know, from one run; utilities
rank the training items, nothing masked. Tables I, II, IV, V, VI and VII of the 14-page paper; the poster's version of
Table IV has three other cells and is not used. What the paper calls location is the continent.
"""

from collections.abc import Mapping

_TABLES = ("table1", "table2", "table4", "table5", "table6", "table7", "fig4", "fig5", "fig6")
_COLUMNS = (
    ("ml-100k", "gender"),
    ("ml-100k", "age"),
    ("ml-100k", "occupation"),
    ("ml-1m", "gender"),
    ("ml-1m", "age"),
    ("ml-1m", "occupation"),
    ("modcloth", "user_attr"),
    ("lastfm-1k", "gender"),
    ("lastfm-1k", "age"),
    ("lastfm-1k", "continent"),
)
_ATTACKS: Mapping[tuple[str, str], tuple[float, ...]] = {
    ("xgboost", "original"): (0.7626, 0.4496, 0.2281, 0.7955, 0.4164, 0.1995, 0.7648, 0.7513, 0.6040, 0.5876),
    ("xgboost", "attrcloak-dd"): (0.5822, 0.1989, 0.0995, 0.5608, 0.1692, 0.1024, 0.5566, 0.5485, 0.3531, 0.3493),
    ("xgboost", "rap"): (0.9310, 0.8143, 0.6034, 0.9917, 0.9611, 0.8079, 0.9903, 0.9660, 0.8789, 0.9281),
    ("xgboost", "blurme"): (0.6300, 0.3170, 0.1525, 0.6641, 0.2957, 0.1482, 0.6606, 0.5813, 0.4023, 0.4161),
    ("xgboost", "ldp-sh"): (0.6698, 0.2692, 0.1472, 0.6854, 0.3171, 0.1217, 0.6289, 0.5977, 0.4351, 0.3783),
    ("xgboost", "attrcloak-df"): (0.5995, 0.2401, 0.1419, 0.6203, 0.2503, 0.0772, 0.5663, 0.5612, 0.1892, 0.3279),
    ("xgboost", "u2u-r"): (0.9987, 0.9947, 0.9788, 0.9999, 0.9992, 0.9999, 0.9999, 0.9937, 0.9823, 0.9987),
    ("xgboost", "d2d-r"): (0.6538, 0.2798, 0.1989, 0.7113, 0.3180, 0.1551, 0.6386, 0.5927, 0.3405, 0.3960),
    ("mlp", "original"): (0.7414, 0.3289, 0.2454, 0.7243, 0.3526, 0.1660, 0.7653, 0.6179, 0.5359, 0.5612),
    ("mlp", "attrcloak-dd"): (0.5928, 0.1724, 0.0358, 0.5217, 0.1656, 0.0406, 0.5216, 0.5549, 0.1501, 0.1803),
    ("mlp", "rap"): (0.6286, 0.2056, 0.0995, 0.5235, 0.1829, 0.0257, 0.5610, 0.5549, 0.1197, 0.2421),
    ("mlp", "blurme"): (0.6605, 0.2162, 0.0902, 0.6177, 0.1573, 0.0803, 0.5637, 0.5776, 0.2245, 0.2711),
    ("mlp", "ldp-sh"): (0.6976, 0.2586, 0.0690, 0.6475, 0.1838, 0.0828, 0.6787, 0.5422, 0.3266, 0.2699),
    ("mlp", "attrcloak-df"): (0.6088, 0.1950, 0.0528, 0.6169, 0.1821, 0.0555, 0.5589, 0.5132, 0.0567, 0.2106),
    ("mlp", "u2u-r"): (0.6300, 0.2003, 0.1056, 0.6036, 0.2036, 0.0927, 0.5640, 0.5536, 0.3783, 0.4288),
    ("mlp", "d2d-r"): (0.6340, 0.2162, 0.0531, 0.6537, 0.2045, 0.0348, 0.5645, 0.4918, 0.2686, 0.2863),
    ("random", "original"): (0.5000, 0.1429, 0.0476, 0.5000, 0.1429, 0.0476, 0.5000, 0.5000, 0.1469, 0.1667),
}
_UTILITY_SETS = ("ml-100k", "ml-1m", "modcloth", "lastfm-1k")
_UTILITY_METRICS = ("ndcg@5", "ndcg@10", "hr@5", "hr@10")
_UTILITY: Mapping[str, tuple[tuple[float, float, float, float], ...]] = {
    "original": (
        (0.8116, 0.7721, 0.7979, 0.7479),
        (0.6473, 0.6095, 0.6324, 0.5853),
        (0.7297, 0.7483, 0.7678, 0.8203),
        (0.6696, 0.6318, 0.6556, 0.6097),
    ),
    "attrcloak-dd": (
        (0.8172, 0.7769, 0.8034, 0.7524),
        (0.6554, 0.6176, 0.6404, 0.5934),
        (0.7928, 0.8093, 0.8292, 0.8734),
        (0.6655, 0.6281, 0.6498, 0.6049),
    ),
    "rap": (
        (0.5819, 0.5590, 0.5784, 0.5473),
        (0.6518, 0.6224, 0.6285, 0.5979),
        (0.3842, 0.3860, 0.3956, 0.4148),
        (0.5693, 0.5297, 0.5556, 0.5062),
    ),
    "blurme": (
        (0.8053, 0.7685, 0.7941, 0.7464),
        (0.6468, 0.6089, 0.6306, 0.5840),
        (0.7168, 0.7345, 0.7512, 0.8013),
        (0.6452, 0.6008, 0.6106, 0.5694),
    ),
    "ldp-sh": (
        (0.6183, 0.5838, 0.6174, 0.5695),
        (0.4907, 0.4691, 0.4928, 0.4609),
        (0.5647, 0.6004, 0.6262, 0.7307),
        (0.6113, 0.5703, 0.5943, 0.5433),
    ),
    "attrcloak-df": (
        (0.7728, 0.7531, 0.7661, 0.7409),
        (0.6523, 0.6217, 0.6277, 0.5958),
        (0.5470, 0.5523, 0.5589, 0.5781),
        (0.6060, 0.5707, 0.5888, 0.5477),
    ),
    "u2u-r": (
        (0.6952, 0.6735, 0.6895, 0.6619),
        (0.6750, 0.6243, 0.6467, 0.5904),
        (0.5084, 0.5053, 0.5162, 0.5321),
        (0.5135, 0.4788, 0.4972, 0.4564),
    ),
    "d2d-r": (
        (0.6685, 0.6439, 0.6614, 0.6294),
        (0.6318, 0.6017, 0.5981, 0.5668),
        (0.5082, 0.5053, 0.5164, 0.5322),
        (0.5657, 0.5313, 0.5498, 0.5096),
    ),
}
_SECONDS: Mapping[str, tuple[float, float, float, float]] = {
    "attrcloak-dd": (235.78, 1322.18, 97.05, 9580.37),
    "rap": (580.35, 4317.50, 672.63, 76398.79),
    "blurme": (678.69, 4266.94, 506.78, 196695.70),
    "ldp-sh": (414.76, 2972.77, 474.38, 51290.93),
    "attrcloak-df": (12.81, 39.20, 167.52, 10.03),
    "u2u-r": (8.98, 111.36, 169.03, 88.34),
    "d2d-r": (7.45, 56.98, 88.54, 6.38),
}
_LIGHTGCN: Mapping[str, tuple[float, ...]] = {  # XGBoost gender, age, occupation; MLP likewise; the four utilities
    "original": (0.7029, 0.3422, 0.1923, 0.7520, 0.3382, 0.2255, 0.8125, 0.7847, 0.7997, 0.7657),
    "attrcloak-dd": (0.5557, 0.1499, 0.0849, 0.5530, 0.1645, 0.0836, 0.8218, 0.7944, 0.8017, 0.7768),
    "rap": (0.8302, 0.6525, 0.4748, 0.5477, 0.1790, 0.0838, 0.6019, 0.5726, 0.5870, 0.5471),
    "blurme": (0.6008, 0.2294, 0.1300, 0.6061, 0.2255, 0.0902, 0.8136, 0.7875, 0.8000, 0.7794),
    "ldp-sh": (0.6565, 0.1923, 0.1194, 0.6260, 0.2719, 0.1326, 0.6391, 0.6144, 0.6251, 0.4962),
    "attrcloak-df": (0.5066, 0.1698, 0.1154, 0.5782, 0.2069, 0.0716, 0.7470, 0.7203, 0.7343, 0.7018),
    "u2u-r": (0.9151, 0.6989, 0.8422, 0.5875, 0.2149, 0.0796, 0.6606, 0.6255, 0.6476, 0.6033),
    "d2d-r": (0.6273, 0.2228, 0.1658, 0.6153, 0.2480, 0.0822, 0.6371, 0.6150, 0.6359, 0.6036),
}
# Table I: a random 10 % of Last.FM-1K interactions forgotten by RecEraser.
_FORGETTING: Mapping[str, Mapping[tuple[str, str], float]] = {
    "original": {
        ("", "ndcg@10"): 0.632,
        ("", "hr@10"): 0.610,
        ("gender", "accuracy"): 0.751,
        ("age", "accuracy"): 0.604,
        ("continent", "accuracy"): 0.588,
    },
    "receraser": {
        ("", "ndcg@10"): 0.603,
        ("", "hr@10"): 0.589,
        ("gender", "accuracy"): 0.728,
        ("age", "accuracy"): 0.632,
        ("continent", "accuracy"): 0.609,
    },
}


def published(
    table: str, dataset: str, backbone: str, method: str, attacker: str, attribute: str, metric: str
) -> float | None:
    """The number the paper prints for this cell, None where it prints none.

    Args:
        table: such as "table4"; "table2" repeats numbers of tables IV and V.
        dataset: of the cell.
        backbone: "ncf", or "lightgcn" in Table VII.
        method: of the cell.
        attacker: "xgboost", "mlp" or "random"; empty for utility and seconds.
        attribute: its name; empty for utility and seconds.
        metric: "accuracy", one of the utility metrics, or "seconds".
    """
    if table not in _TABLES:
        return None
    if table == "table7":
        return (
            _lightgcn(method, attacker, attribute, metric) if (dataset, backbone) == ("ml-100k", "lightgcn") else None
        )
    if backbone != "ncf":
        return None
    if table == "table1":
        if dataset != "lastfm-1k" or attacker not in ("", "xgboost"):
            return None
        return _FORGETTING.get(method, {}).get((attribute, metric))
    if metric == "accuracy" and (dataset, attribute) in _COLUMNS:
        cells = _ATTACKS.get((attacker, method))
        return None if cells is None else cells[_COLUMNS.index((dataset, attribute))]
    if dataset not in _UTILITY_SETS:
        return None
    place = _UTILITY_SETS.index(dataset)
    if metric in _UTILITY_METRICS and method in _UTILITY:
        return _UTILITY[method][place][_UTILITY_METRICS.index(metric)]
    if metric == "seconds" and method in _SECONDS:
        return _SECONDS[method][place]
    return None


def _lightgcn(method: str, attacker: str, attribute: str, metric: str) -> float | None:
    if method not in _LIGHTGCN:
        return None
    attributes = ("gender", "age", "occupation")
    if metric == "accuracy" and attribute in attributes and attacker in ("xgboost", "mlp"):
        return _LIGHTGCN[method][attributes.index(attribute) + (3 if attacker == "mlp" else 0)]
    return _LIGHTGCN[method][6 + _UTILITY_METRICS.index(metric)] if metric in _UTILITY_METRICS else None
