"""Installs the daemon as a systemd service, or takes it away: `sudo make install-systemd`, `… uninstall-systemd`.

Standard library only, for the system's own Python: it runs before anything is installed.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.dont_write_bytecode = True  # root's files do not belong into a person's checkout
sys.path[0] = str(Path(__file__).resolve().parents[1])

from scripts.systemd.command import main  # noqa: E402 (the path to it stands above)

if __name__ == "__main__":
    sys.exit(main())
