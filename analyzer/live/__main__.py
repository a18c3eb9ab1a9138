"""``!py -g -m analyzer.live COMMAND``: what ``!dumpstart`` is an alias of."""

from __future__ import annotations

import sys

from analyzer.errors import AnalyzerError
from analyzer.live.extension import main

if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AnalyzerError as error:  # not inside a debugger
        raise SystemExit(str(error)) from None
