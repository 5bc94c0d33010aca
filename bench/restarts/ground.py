"""What these benches stand on: the engine, compiled here, and an interpreter as a user's is."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
import tempfile
import venv
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.machine import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.figures import Outcome

SOURCE: Final = Path(__file__).with_name("engine.c")


class CannotMeasure(Exception):
    """Why a measurement is not possible on this machine, as a sentence."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A folder that is gone at the end, and in it the `engine` and the `python` that runs us."""

    folder: Path
    engine: Path
    python: Path


@contextmanager
def prepared_ground(outcome: Outcome) -> Iterator[Ground | None]:
    """The ground of one bench; None where the engine cannot be compiled, which the remarks say."""
    with tempfile.TemporaryDirectory(prefix="arasul-bench-") as name:
        folder = Path(name)
        try:
            engine = build_engine(folder)
        except CannotMeasure as error:
            outcome.remarks.append(f"NOT MEASURED: {error}")
            yield None
            return
        yield Ground(folder, engine, make_interpreter(folder))


def build_engine(folder: Path) -> Path:
    """Compile the engine into the folder.

    :raises CannotMeasure: there is no C compiler, or it does not take the source
    """
    engine = folder / "engine"
    if shutil.which("cc") is None:
        raise CannotMeasure("there is no C compiler `cc` here, which makes the engine of this bench.")
    ran = subprocess.run(
        ["cc", "-O2", "-o", str(engine), str(SOURCE)], capture_output=True, text=True, check=False
    )
    if ran.returncode != 0:
        raise CannotMeasure(f"`cc` does not take {SOURCE.name}: {ran.stderr.strip()}")
    return engine


def make_interpreter(folder: Path) -> Path:
    """An interpreter with all that is installed beside this one, and with this package where a user's has it.

    An editable install brings a finder that costs every start 12 ms and that no user has; it is left out, for the
    `.pth` files of a folder that a `.pth` file names are not read.
    """
    place = folder / "python"
    venv.create(place, symlinks=True, with_pip=False)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "all.pth").write_text(f"{REPOSITORY}\n{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    return place / "bin" / "python"
