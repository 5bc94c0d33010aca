"""When a call to Ollama is worth another try: pure."""

from __future__ import annotations

from typing import Final

# CONTRACT §4: three retries with back-off factor 0.5, only for GET, HEAD and unload.
RETRY_WAITS_S: Final = (0.0, 0.5, 1.0)
NO_RETRIES: Final[tuple[float, ...]] = ()

_RETRIED_STATUSES: Final = frozenset({500, 502, 503, 504})


def wait_before_retry(
    waits_s: tuple[float, ...], n_failed: int, *, status: int | None, left_s: float | None
) -> float | None:
    """Seconds to wait before the next try, or None when the failure is to be told now.

    :param waits_s: the schedule of this call, one entry per retry
    :param n_failed: tries that failed before this one
    :param status: the HTTP status that came, None when the connection failed
    :param left_s: what is left of the call's bound, None for no bound; a wait that does not fit is no retry
    """
    is_passing = status is None or status in _RETRIED_STATUSES
    if not is_passing or n_failed >= len(waits_s):
        return None
    wait_s = waits_s[n_failed]
    if left_s is not None and wait_s >= left_s:
        return None
    return wait_s
