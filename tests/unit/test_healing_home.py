"""Guards CONTRACT §3, exit code 72: the daemon leaves for a new start only where that start gives the GPU back."""

from __future__ import annotations

import pytest

from arasul_supervisor.healing.treatment.home import Home, HomeKind, home_of

NOTIFIED = {"NOTIFY_SOCKET": "/run/systemd/notify", "INVOCATION_ID": "abc"}


def home(
    environ: dict[str, str] | None = None,
    *,
    pid: int = 4242,
    parent_pid: int = 4000,
    init: str | None = "systemd",
    is_container: bool = False,
) -> Home:
    return home_of(environ or {}, pid=pid, parent_pid=parent_pid, init=init, is_container=is_container)


def test_process_one_is_the_container() -> None:
    found = home(pid=1, parent_pid=0, init="arasul-supervis", is_container=True)

    assert (found.kind, found.can_start_anew) == (HomeKind.CONTAINER, True)


@pytest.mark.parametrize("init", ["tini", "docker-init", "dumb-init", "catatonit", "podman-init"])
def test_the_only_child_of_a_tiny_init_ends_the_container_too(init: str) -> None:
    found = home(pid=7, parent_pid=1, init=init, is_container=True)

    assert (found.kind, found.can_start_anew) == (HomeKind.CONTAINER, True)


@pytest.mark.parametrize(("parent_pid", "init"), [(50, "tini"), (1, "bash"), (1, "s6-svscan"), (0, "pause")])
def test_another_process_of_a_container_does_not_end_it(parent_pid: int, init: str) -> None:
    found = home(parent_pid=parent_pid, init=init, is_container=True)

    assert (found.kind, found.can_start_anew) == (HomeKind.SHELL, False)
    assert "docker restart" in found.remedy


@pytest.mark.parametrize("parent_pid", [1, 900], ids=["of the system", "of a user"])
def test_the_process_that_systemd_started_is_a_service(parent_pid: int) -> None:
    found = home({**NOTIFIED, "SYSTEMD_EXEC_PID": "4242"}, parent_pid=parent_pid)

    assert (found.kind, found.can_start_anew) == (HomeKind.SYSTEMD, True)


@pytest.mark.parametrize("variable", ["NOTIFY_SOCKET", "INVOCATION_ID"])
def test_an_older_systemd_is_known_as_the_parent(variable: str) -> None:
    assert home({variable: "x"}, parent_pid=1).kind is HomeKind.SYSTEMD
    assert home({variable: "x"}, parent_pid=77).kind is HomeKind.SHELL
    assert home({variable: "x"}, parent_pid=1, init="init").kind is HomeKind.SHELL


def test_a_shell_below_a_service_is_not_that_service() -> None:
    found = home({**NOTIFIED, "SYSTEMD_EXEC_PID": "900"}, parent_pid=1)

    assert (found.kind, found.can_start_anew) == (HomeKind.SHELL, False)


def test_a_service_inside_a_container_gets_no_device_by_a_new_start() -> None:
    found = home({**NOTIFIED, "SYSTEMD_EXEC_PID": "4242"}, parent_pid=1, is_container=True)

    assert (found.kind, found.can_start_anew) == (HomeKind.SYSTEMD, False)


@pytest.mark.parametrize("is_container", [True, False])
def test_supervisord_starts_anew_and_the_gpu_stays_away(is_container: bool) -> None:
    found = home({**NOTIFIED, "SUPERVISOR_ENABLED": "1"}, parent_pid=1, is_container=is_container)

    assert (found.kind, found.can_start_anew) == (HomeKind.SUPERVISORD, False)


def test_nobody_starts_a_daemon_of_a_bare_shell() -> None:
    assert home() == Home(HomeKind.SHELL, False, home().remedy)
