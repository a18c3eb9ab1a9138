"""Columns of addresses and codes: integers to compute with, shown in hexadecimal.

Invariant: the dtype is pandas' own (UInt64, UInt32), so arithmetic, CSV and Parquet see numbers;
only the way a frame is printed differs. Arithmetic gives pandas' plain arrays again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd


class HexArray(pd.arrays.IntegerArray):
    """An array of unsigned integers that prints as 0x with all of its digits."""

    def _formatter(self, boxed: bool = False) -> Callable[[Any], str]:
        digits = 2 * self.dtype.itemsize
        return lambda value: "<NA>" if value is pd.NA else f"0x{int(value):0{digits}x}"
