"""What is told of damaged inputs changes no more unnoticed than what is told of whole ones.

See damaged.py, which also writes the digests that are compared here.
"""

from __future__ import annotations

import sys
from pathlib import Path

import damaged
import pytest

INPUTS = damaged.inputs()


def test_every_input_has_its_digests() -> None:
    """Nothing is left out, nothing is left over."""
    assert set(INPUTS) == set(damaged.KNOWN)


@pytest.mark.parametrize("name", damaged.KNOWN)
def test_damaged_copies_are_told_as_before(name: str, tmp_path: Path) -> None:
    """One digest for each copy: the place in the list says which one changed."""
    if name.endswith(".evtx") and sys.version_info < (3, 10):
        pytest.skip("an older evtx is all there is for it, which reads damaged logs otherwise")
    assert damaged.digests(name, INPUTS[name], tmp_path) == damaged.KNOWN[name]
