"""`python -m arasul_supervisor` is the command `arasul-supervisor`."""

from __future__ import annotations

import sys

from arasul_supervisor.cli import main

if __name__ == "__main__":
    sys.exit(main())
