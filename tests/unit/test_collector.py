"""Guards that the collector works on in a daemon, and passes over what its launch has made."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc
gc.disable()
from arasul_supervisor.process_ground import let_the_collector_pass_over_what_is_there
let_the_collector_pass_over_what_is_there()
print(gc.isenabled(), gc.get_freeze_count() > 1000, len(gc.get_objects()) < 1000)
"""


def test_what_the_launch_has_made_is_passed_over_and_what_comes_later_is_collected() -> None:
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    assert said == "True True True\n"
