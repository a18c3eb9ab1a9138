"""``!py -g -m analyzer.live COMMAND``: what ``!dumpstart`` is an alias of."""

from __future__ import annotations

import sys

from analyzer.live.extension import main

if __name__ == "__main__":
    main(sys.argv[1:])
