"""Started as a script in a process of its own: only the package's folder is put on the path.

Invariant: the current folder is never searched for modules; it may hold a stranger's files.
"""

import os
import sys

sys.path[0] = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

if __name__ == "__main__":
    from analyzer.dryrun.child import main

    sys.exit(main())
