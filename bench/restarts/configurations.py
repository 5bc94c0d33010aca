"""`python -m bench.restarts.configurations`: how each contender of these benches is started, all of it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.restarts.contenders import Floor, Ours
from bench.restarts.ground import CannotMeasure, Ground
from bench.restarts.guest import Systemd
from bench.restarts.peers import S6, BusyCircus, Circus, Runit, S6WithoutReadiness, Supervisord

if TYPE_CHECKING:
    from bench.restarts.contenders import Contender

ALL: Final[tuple[type[Contender], ...]] = (
    *(Ours, Floor, Runit, S6, S6WithoutReadiness, Systemd, Supervisord, Circus, BusyCircus),
)


def main() -> int:
    """Print them; nothing is started."""
    with tempfile.TemporaryDirectory(prefix="arasul-bench-") as name:
        folder = Path(name)
        ground = Ground(folder, folder / "engine", folder / "python" / "bin" / "python")
        for number, kind in enumerate(ALL):
            try:
                contender = kind(ground, f"contender{number}")
            except CannotMeasure as error:
                print(f"=== {kind.name}\nNOT MEASURED here: {error}\n")
                continue
            print(contender.configuration)
            contender.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
