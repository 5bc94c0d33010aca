"""A Docker engine of the tests' own, with a stand-in for Ollama's image, and our image built on it by compose.

The engine's data is kept outside the repository, in `$XDG_CACHE_HOME/arasul-supervisor/docker`, so that a later
run builds only what changed. One engine runs at a time; nobody else's is touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest

from tests.engine.daemon import REPOSITORY
from tests.engine.processes import wait_until
from tests.system.ground.base import HOST_CERTIFICATES, base_tarball, leave_out, need
from tests.system.ground.docker_network import network_restored

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

IMAGE: Final = "arasul/llm-service:latest"
PROGRAMS: Final = (
    "dockerd", "/usr/bin/docker", "/usr/bin/docker-compose", "runc", "iptables", "ip", "setpriv", "mmdebstrap",
    "zstd",
)  # fmt: skip
NO_ENV_FILE: Final = ("--env-file", ".env.example")  # it changes nothing, and keeps anybody's `.env` out
PLUGIN: Final = "cli-plugins/docker-compose"
PLUGIN_FOLDERS: Final = ("/usr/libexec/docker", "/usr/lib/docker", "/usr/local/lib/docker", "~/.docker")
_DEBIAN: Final = "arasul-test-debian"
_SYSTEM_SOCKET: Final = "/var/run/docker.sock"
# Ollama's image is Ubuntu with certificates and few libraries: no Python, no curl. Its variables are these.
_OLLAMA_IMAGE: Final = f"""
FROM {_DEBIAN}
RUN apt-mark manual libgomp1 && apt-get purge -y 'python3*' 'libpython3*' curl && apt-get autoremove -y --purge \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
COPY bin/ollama /usr/bin/ollama
COPY lib/ /usr/lib/ollama/
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib:/usr/local/nvidia/lib64
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility NVIDIA_VISIBLE_DEVICES=all OLLAMA_HOST=0.0.0.0:11434
EXPOSE 11434
ENTRYPOINT ["/bin/ollama"]
CMD ["serve"]
"""
# `docker --gpus` and `runtime: nvidia` ask for this program; a board without a GPU has none
_GPU_HOOK: Final = "#!/bin/sh\ncat >/dev/null\nexit 0\n"


@dataclass(frozen=True, slots=True)
class Docker:
    """The running engine, and what its clients need to know."""

    folder: Path
    environment: dict[str, str]

    def __call__(
        self,
        *words: str,
        env: Mapping[str, str] | None = None,
        limit_s: float = 60,
        gives: Literal["stdout", "stderr"] = "stdout",
    ) -> str:
        """What `docker` says; the test fails, with all that was said, when the command does."""
        done = self._run(["/usr/bin/docker", *words], env or {}, limit_s)
        return done.stdout if gives == "stdout" else done.stderr

    def compose(self, *words: str, env: Mapping[str, str] | None = None) -> str:
        """What `docker-compose` says on stdout, in the repository."""
        return self._run(["/usr/bin/docker-compose", *NO_ENV_FILE, *words], env or {}, 170).stdout

    def compose_2(self, *words: str, env: Mapping[str, str] | None = None) -> str:
        """The same by the plugin `docker compose`."""
        return self("compose", *NO_ENV_FILE, *words, env=env, limit_s=170)

    @property
    def has_compose_2(self) -> bool:
        """Whether the plugin was found on this machine."""
        return _plugin_of(self.folder).exists()

    def inspect(self, name: str) -> Any:  # Any: tests look into it freely
        """All that the engine knows of a container or an image."""
        return json.loads(self("inspect", name))[0]

    def _run(
        self, command: list[str], env: Mapping[str, str], limit_s: float
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, env={**self.environment, **env}, cwd=REPOSITORY, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=limit_s, check=False,
        )  # fmt: skip
        if done.returncode:
            pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory, engine_binary: Path) -> Iterator[Docker]:
    """An engine that holds the stand-in for Ollama's image under its exact name, and our image built by compose."""
    need("the image and the compose files in a Docker engine", *PROGRAMS)
    if _system_engine_answers():
        leave_out(
            "the image and compose files: a Docker engine runs here, and one of ours would take its bridge"
        )
    folder = tmp_path_factory.mktemp("docker")
    with _lock() as lock, network_restored(_cache() / "network-before"):
        running = _start(folder, lock)
        try:
            docker = _client_of(folder)
            wait_until(lambda: _answers(docker), limit_s=30, what=f"dockerd answers ({folder}/dockerd.log)")
            _remove_leftovers(docker)
            _make_ollama_image(docker, base_image(), engine_binary)
            docker.compose("build", "llm-service")
            yield docker
            _remove_leftovers(docker)
        finally:
            running.send_signal(signal.SIGTERM)
            running.wait(60)
            _remove_empty_groups()


def _remove_empty_groups() -> None:
    """Remove the control groups that dockerd leaves; no other engine runs here, and the kernel keeps one in use."""
    for group in Path("/sys/fs/cgroup").glob("*/docker"):
        for folder, _, _ in os.walk(group, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def base_image() -> str:
    """The base that the Dockerfile names."""
    found = re.search(r"^ARG BASE_IMAGE=(\S+)$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    assert found, "Dockerfile without `ARG BASE_IMAGE=…`"
    return found[1]


def _system_engine_answers() -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(_SYSTEM_SOCKET)
        except OSError:
            return False
        return True


def _cache() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "arasul-supervisor" / "docker"


def _plugin_of(folder: Path) -> Path:
    return folder / "config" / PLUGIN


@contextlib.contextmanager
def _lock() -> Iterator[int]:
    """The descriptor of the lock on the engine's data. dockerd holds it too, in case this process is killed."""
    _cache().mkdir(parents=True, exist_ok=True)
    with (_cache() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file.fileno()


def _start(folder: Path, lock: int) -> subprocess.Popen[bytes]:
    """dockerd in a session of its own, which ends with this process whatever becomes of it."""
    hook = folder / "bin" / "nvidia-container-runtime-hook"
    hook.parent.mkdir()
    hook.write_text(_GPU_HOOK)
    hook.chmod(0o755)
    command = [
        "setpriv", "--pdeathsig", "TERM", "dockerd", "--data-root", str(_cache() / "data"),
        "--exec-root", str(folder / "exec"), "--host", f"unix://{folder}/docker.sock",
        "--pidfile", str(folder / "dockerd.pid"), "--add-runtime", "nvidia=/usr/sbin/runc",
    ]  # fmt: skip
    environment = {**os.environ, "PATH": f"{hook.parent}:/usr/sbin:/usr/bin:/sbin:/bin"}
    with (folder / "dockerd.log").open("wb") as log:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True, pass_fds=[lock],
        )  # fmt: skip


def _client_of(folder: Path) -> Docker:
    """The clients' environment: nobody's own configuration, and the plugin `docker compose` where there is one."""
    plugins = (place / PLUGIN for place in (*map(Path.expanduser, map(Path, PLUGIN_FOLDERS)), _cache()))
    if (plugin := next(filter(Path.exists, plugins), None)) is not None:
        _plugin_of(folder).parent.mkdir(parents=True)
        _plugin_of(folder).symlink_to(plugin)
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(folder),
        "DOCKER_HOST": f"unix://{folder}/docker.sock",
        "DOCKER_CONFIG": str(folder / "config"),
        "DOCKER_BUILDKIT": "1",
        "COMPOSE_DOCKER_CLI_BUILD": "1",
        "COMPOSE_PROJECT_NAME": "arasul-test",
    }
    return Docker(folder, environment)


def _answers(docker: Docker) -> bool:
    command = ["/usr/bin/docker", "version"]
    return subprocess.run(command, env=docker.environment, capture_output=True, check=False).returncode == 0


def _remove_leftovers(docker: Docker) -> None:
    """Containers, volumes, networks and nameless images, also those of a run that was cut off."""
    for container in docker("ps", "--all", "--quiet").split():
        docker("rm", "--force", "--volumes", container)
    for volume in docker("volume", "ls", "--quiet").split():
        docker("volume", "rm", volume)
    docker("network", "prune", "--force")
    docker("image", "prune", "--force")
    docker("builder", "prune", "--force", "--keep-storage", "3GB")


def _make_ollama_image(docker: Docker, name: str, engine_binary: Path) -> None:
    """Build the stand-in, unless it is there and was made from this base and this engine."""
    tarball, program = base_tarball(), engine_binary.resolve()
    recipe = hashlib.sha256(_OLLAMA_IMAGE.encode()).hexdigest()[:8]
    label = f"{tarball.parent.name}-{recipe}-{program.stat().st_mtime_ns}-{program.stat().st_size}"
    # the filter knows images of this registry by their short name only
    if docker("images", "--quiet", "--filter", f"label=made-of={label}", name.removeprefix("docker.io/")):
        return
    import_debian = (
        f"zstd -dc '{tarball}' | /usr/bin/docker import -c 'ENV PIP_CERT={HOST_CERTIFICATES}' - {_DEBIAN}"
    )
    subprocess.run(["sh", "-c", import_debian], env=docker.environment, check=True, stdout=subprocess.DEVNULL)
    context = docker.folder / "ollama-image"
    shutil.copytree(program.parent.parent / "lib" / "ollama", context / "lib", symlinks=True)
    (context / "bin").mkdir()
    shutil.copy(program, context / "bin" / "ollama")
    (context / "Dockerfile").write_text(_OLLAMA_IMAGE)
    docker("build", "--quiet", "--label", f"made-of={label}", "--tag", name, str(context), limit_s=120)
    shutil.rmtree(context)
