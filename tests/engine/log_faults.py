"""All faults that the real engine can be brought into on a machine without a GPU, by name.

What each looks like in the log is recorded in `tests/recorded`; `record_logs` makes those recordings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.engine.faults_of_models import MODEL_FAULTS
from tests.engine.faults_of_pulls import PULL_FAULTS
from tests.engine.faults_of_runners import RUNNER_FAULTS
from tests.engine.faults_of_starts import START_FAULTS

if TYPE_CHECKING:
    from tests.engine.fault_ground import Fault

FAULTS: Final[dict[str, Fault]] = {**START_FAULTS, **MODEL_FAULTS, **RUNNER_FAULTS, **PULL_FAULTS}
