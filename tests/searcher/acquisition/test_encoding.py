"""Gene encoding: codes, params and features of an Optuna search space."""

from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from nas.searcher.acquisition.encoding import MAX_LEVELS, GeneEncoding, as_bytes

SPACE: dict[str, BaseDistribution] = {
    "word": CategoricalDistribution(("a", "b", "c")),
    "number": CategoricalDistribution((32, 8, 16)),
    "truth": CategoricalDistribution((True, False)),
    "one": CategoricalDistribution((48,)),
    "step": FloatDistribution(-1.0, 1.0, step=0.1),
    "log": FloatDistribution(1e-4, 1.0, log=True),
    "int": IntDistribution(1, 9, step=2),
    "wide": IntDistribution(1, 100_000, log=True),
    "many": IntDistribution(0, 999),
}


def test_decoding_inverts_encoding() -> None:
    genes = GeneEncoding(SPACE)
    codes = genes.sample(200, np.random.default_rng(0))
    params_list = genes.decode(codes)
    for row, params in zip(codes, params_list, strict=True):
        assert (genes.encode(params) == row).all()
        for name, distribution in SPACE.items():
            assert distribution._contains(distribution.to_internal_repr(params[name]))
            assert type(params[name]) is not np.float64
    assert genes.encode({"word": "a"}) is None
    assert genes.encode({**params_list[0], "word": "z"}) is None


def test_encoding_many_params_equals_encoding_each() -> None:
    genes = GeneEncoding(SPACE)
    params_list: list[dict[str, Any]] = genes.decode(genes.sample(60, np.random.default_rng(1)))
    # Rounded by a storage, and between two levels.
    params_list[3] |= {
        "step": params_list[3]["step"] + 1e-14,
        "log": params_list[3]["log"] * 1.01,
    }
    params_list[5] = {"word": "a"}
    params_list[7] |= {"word": "z"}
    codes, rows = genes.encode_all(params_list)
    single = {i: found for i, params in enumerate(params_list) if (found := genes.encode(params)) is not None}
    assert rows.tolist() == list(single) == [i for i in range(60) if i not in (5, 7)]
    np.testing.assert_array_equal(codes, list(single.values()))
    assert as_bytes(codes) == [found.tobytes() for found in single.values()]
    for short in (genes.encode_all([]), genes.encode_all(params_list[5:6])):
        assert (short[0].shape, short[1].shape) == ((0, len(SPACE)), (0,))
    one = GeneEncoding({"word": SPACE["word"]})
    assert one.encode_all([{"word": "c"}, {}])[0].tolist() == [[2]]


def test_narrow_ranges_keep_their_options_and_wide_ones_have_a_grid() -> None:
    sizes = dict(zip(SPACE, GeneEncoding(SPACE).n_options.tolist(), strict=True))
    assert (sizes["word"], sizes["one"], sizes["step"], sizes["int"]) == (3, 1, 21, 5)
    assert (sizes["log"], sizes["many"]) == (MAX_LEVELS, MAX_LEVELS)
    assert 32 < sizes["wide"] <= MAX_LEVELS


def test_features_order_numbers_and_put_categories_equally_far_apart() -> None:
    genes = GeneEncoding({"n": SPACE["number"], "w": SPACE["word"]})
    f = genes.features(np.array([[1, 0], [2, 1], [0, 2]]))  # 8 a, 16 b, 32 c
    np.testing.assert_allclose(f[:, 0], [0, 0.5, 1])
    words = f[:, 4:]
    distances = ((words[:, None] - words[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(distances, 1 - np.eye(3))


def test_all_codes_enumerates_each_point_once() -> None:
    genes = GeneEncoding({"a": IntDistribution(0, 2), "b": CategoricalDistribution(("x", "y"))})
    assert genes.n_points == 6
    assert len({tuple(row) for row in genes.all_codes().tolist()}) == 6
