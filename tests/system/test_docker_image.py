"""Guards our image by itself: what is in it, and the ways in which people run it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.system.ground.container import command_of, wait_dead
from tests.system.ground.container import run as run
from tests.system.ground.docker import IMAGE, base_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.system.ground.container import Run
    from tests.system.ground.docker import Docker

MIB = 1 << 20
PACKAGES = "dpkg-query --show --showformat '${Package}\\n'"
NOBODY = "23456"  # a uid that the image knows nothing of


@pytest.fixture
def volume(docker: Docker) -> Iterator[str]:
    """An empty named volume."""
    name = docker("volume", "create").strip()
    yield name
    docker("volume", "rm", "--force", name)


def in_image(docker: Docker, script: str, image: str = IMAGE) -> str:
    """What a shell script says in a fresh container."""
    return docker("run", "--rm", "--entrypoint", "bash", image, "-c", script)


def sizes_of(docker: Docker, image: str) -> list[int]:
    """Bytes of each layer, the newest first."""
    return [int(size) for size in docker("history", "--human=false", "--format", "{{.Size}}", image).split()]


def test_it_adds_no_build_tools_and_no_pip_to_its_base(docker: Docker) -> None:
    added = set(in_image(docker, PACKAGES).split()) - set(in_image(docker, PACKAGES, base_image()).split())

    assert not [name for name in added if name.startswith(("gcc", "g++", "make", "build-", "binutils"))]
    assert not [name for name in added if name.endswith(("-dev", "-pip", "-venv", "-setuptools"))]
    ours = in_image(docker, "ls /opt/arasul-supervisor/lib/*/site-packages").split()
    assert not [name for name in ours if name.startswith(("pip", "setuptools", "wheel"))]


def test_its_layers_are_small_and_the_last_one_is_our_code_alone(docker: Docker) -> None:
    ours, base = sizes_of(docker, IMAGE), sizes_of(docker, base_image())
    sizes = [size for size in ours[: len(ours) - len(base)] if size]

    print(
        f"over its base: {sum(sizes) / MIB:.0f} MiB, newest layer first: {[f'{size / MIB:.1f}' for size in sizes]}"
    )
    assert sizes[0] < 6 * MIB
    assert sum(sizes) < 100 * MIB


def test_a_command_in_the_place_of_run_is_one_of_ours(docker: Docker) -> None:
    assert "ARASUL_HOST = 0.0.0.0   [environment]" in docker("run", "--rm", IMAGE, "config")


def test_wrong_settings_end_the_container_with_code_2_and_say_why(run: Run) -> None:
    container = run("--env", "ARASUL_PULLS=none")

    assert container.wait_exit() == 2
    assert "ARASUL_PULLS is 'none'" in container.errors()


def test_under_an_init_it_ends_with_code_0_on_sigterm(run: Run) -> None:
    container = run("--init").wait_ready()

    container.docker("stop", container.name)

    assert container.state["ExitCode"] == 0


def test_under_an_init_a_killed_daemon_leaves_no_engine(run: Run) -> None:
    container = run("--init").wait_ready()
    all_of_it = container.pids()
    daemon = next(pid for pid in all_of_it if command_of(pid)[-1] == "run" and "python" in command_of(pid)[0])

    os.kill(daemon, signal.SIGKILL)

    assert container.wait_exit() == 128 + signal.SIGKILL
    wait_dead(all_of_it)


def test_it_runs_on_a_read_only_root_without_capabilities(volume: str, run: Run) -> None:
    container = run(
        "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
        "--volume", f"{volume}:/root/.ollama",
    ).wait_ready()  # fmt: skip

    assert "Listening on" in container.exec("cat", "/var/log/ollama.log")
    assert container.exec("ollama", "list").startswith("NAME")
    container.docker("stop", container.name)
    assert container.state["ExitCode"] == 0


def test_an_empty_folder_of_the_host_will_do_as_the_volume(run: Run, tmp_path: Path) -> None:
    run("--volume", f"{tmp_path}:/root/.ollama").wait_ready()

    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [
        "logs",
        "models",
        "supervisor",
    ]
    assert (tmp_path / "logs" / "ollama.log").stat().st_size > 0


def test_the_prepared_user_keeps_everything_in_the_volume_at_its_home(volume: str, run: Run) -> None:
    options = ("--user", "arasul", "--volume", f"{volume}:/home/arasul/.ollama")
    first = run(*options).wait_ready()
    installation = first.exec("cat", "/home/arasul/.ollama/supervisor/installation-id")
    first.docker("rm", "--force", first.name)

    second = run(*options).wait_ready()

    assert second.exec("id", "--user") == "10001\n"
    assert second.exec("cat", "/home/arasul/.ollama/supervisor/installation-id") == installation
    assert "Listening on" in second.exec("cat", "/home/arasul/.ollama/supervisor/ollama.log")
    assert second.exec("ollama", "list").startswith("NAME")


def test_any_user_with_a_home_runs_it_with_models_elsewhere(run: Run, tmp_path: Path) -> None:
    for name in ("home", "models"):
        (tmp_path / name).mkdir()
        os.chown(tmp_path / name, int(NOBODY), int(NOBODY))
    container = run(
        "--user", NOBODY, "--env", "HOME=/data", "--env", "OLLAMA_MODELS=/models",
        "--volume", f"{tmp_path}/home:/data", "--volume", f"{tmp_path}/models:/models",
    ).wait_ready()  # fmt: skip

    assert (tmp_path / "models" / "blobs").stat().st_uid == int(NOBODY)
    assert (tmp_path / "home/.local/state/arasul-supervisor/ollama.log").stat().st_uid == int(NOBODY)
    assert container.get("/health").json()["status"] == "healthy"


def test_a_user_who_may_write_nowhere_is_told_what_to_set(run: Run) -> None:
    container = run("--user", NOBODY)

    assert container.wait_exit() == 71
    assert "set ARASUL_STATE_DIR to a folder that is" in container.errors()
