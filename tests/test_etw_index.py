"""The numbers of providers in the columns."""

from __future__ import annotations

import numpy as np
import pytest

from analyzer.etw import layouts
from analyzer.etw.index import Providers


@pytest.mark.parametrize("shared", [None, 0, 1])
@pytest.mark.parametrize("different", [1, 5, 300, 5000])
def test_providers_are_told_apart_however_many_share_a_place_in_the_cache(
    different: int, shared: int | None
) -> None:
    """Few, many, and those with one hash; also where one half of all GUIDs is the same."""
    rng = np.random.default_rng(different)
    guids = rng.integers(0, 1 << 63, (60_000, 2)).astype(np.uint64)
    if shared is not None:
        guids[:, shared] = guids[0, shared]
    mixed = ((guids[:, 1] >> np.uint64(7)) ^ guids[:, 0]) * np.uint64(0x9E3779B97F4A7C15)
    alike = guids[mixed >> np.uint64(52) == mixed[0] >> np.uint64(52)][:5]
    for some in (guids[:different], alike):
        rows = some[rng.integers(0, len(some), 5000)]
        providers = Providers()
        for _ in range(2):
            numbers = providers.numbers(rows[:, 0].copy(), rows[:, 1].copy())
            told = [providers.guids[k] for k in numbers.tolist()]
            assert told == [layouts.guid_text(a, b) for a, b in rows.tolist()]
        assert len(providers.guids) == 1 + len(np.unique(rows, axis=0))
