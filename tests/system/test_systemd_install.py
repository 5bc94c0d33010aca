"""The install step on boxes of all kinds: with Ollama's own service, with the models on a disk, again, and away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.system.ground.nspawn import Guest, need_systemd
from tests.system.ground.service import ENV_FILE, LOG, MODELS, UNIT, Service, binds_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.engine.store import ModelFiles

SSD = "/mnt/ssd/ollama"
OLLAMA_UNIT = """[Service]
ExecStart=/usr/local/bin/ollama serve
User=ollama
Group=ollama
Environment=PATH=/usr/local/bin:/usr/bin
[Install]
WantedBy=multi-user.target
"""
BY_A_PERSON = f"""[Service]
Environment="OLLAMA_MODELS={SSD}" OLLAMA_NUM_PARALLEL=3
Environment="NAME_OF_IT=a \\"b\\" c"
"""
OWN_PLACES = (
    "/opt/arasul-supervisor", f"/etc/systemd/system/{UNIT}", f"/etc/systemd/system/{UNIT}.d",
    f"/etc/systemd/system/multi-user.target.wants/{UNIT}", "/usr/local/bin/arasul-supervisor", "/var/log/ollama.log",
)  # fmt: skip


@pytest.fixture(scope="module")
def make_guest(
    tmp_path_factory: pytest.TempPathFactory, engine_binary: Path, model_files: ModelFiles
) -> Callable[[], Guest]:
    """Boots a guest with Ollama's program and nothing else of it."""
    need_systemd()
    return lambda: Guest(binds=binds_for(engine_binary, model_files(), tmp_path_factory.mktemp("store")))


@pytest.fixture
def bare_box(make_guest: Callable[[], Guest]) -> Iterator[Service]:
    """A box of this test's own."""
    guest = make_guest()
    yield Service(guest)
    guest.off()


@pytest.fixture(scope="module")
def box_of_ollama(make_guest: Callable[[], Guest]) -> Iterator[Service]:
    """A box as Ollama's installer leaves it, and a person who moved the models to a disk and set a thing or two."""
    guest = make_guest()
    try:
        home = ("--create-home", "--home-dir", "/usr/share/ollama")
        guest.run("useradd", "--system", "--user-group", *home, "ollama")
        guest.run("mkdir", "-p", "/mnt/ssd")
        guest.run("cp", "-r", MODELS, SSD)
        guest.run("chown", "-R", "ollama:", SSD)
        guest.write("/etc/systemd/system/ollama.service", OLLAMA_UNIT)
        guest.write("/etc/systemd/system/ollama.service.d/override.conf", BY_A_PERSON)
        guest.run("systemctl", "daemon-reload")
        guest.run("systemctl", "enable", "--now", "ollama")
        yield Service(guest)
    finally:
        guest.off()


@pytest.fixture
def official_box(box_of_ollama: Service) -> Service:
    """That box, without us."""
    if box_of_ollama.guest.has(f"/etc/systemd/system/{UNIT}"):
        box_of_ollama.uninstall("--purge")
        box_of_ollama.guest.run("systemctl", "enable", "--now", "ollama")
    return box_of_ollama


@pytest.fixture
def changed_over(box_of_ollama: Service) -> Service:
    """That box, with us in the place of Ollama's own service."""
    if box_of_ollama.guest.run("systemctl", "is-active", UNIT, check=False).returncode != 0:
        said = box_of_ollama.install("--disable-ollama").stdout
        assert f"{UNIT} is active: Ollama" in said
    return box_of_ollama


def test_with_ollamas_own_service_running_it_asks_what_is_to_become_of_it(official_box: Service) -> None:
    refused = official_box.install(check=False)
    assert refused.returncode == 1
    assert "--disable-ollama" in refused.stdout
    assert "--keep-ollama" in refused.stdout
    assert [place for place in OWN_PLACES if official_box.guest.has(place)] == []


def test_kept_ollama_goes_on_and_the_way_to_change_over_is_said(official_box: Service) -> None:
    said = official_box.install("--keep-ollama").stdout
    assert official_box.guest.show("ollama", "ActiveState") == {"ActiveState": "active"}
    assert official_box.show("UnitFileState") == "disabled"
    assert "systemctl disable --now ollama && sudo systemctl enable --now" in said


def test_with_bad_settings_ollamas_own_service_goes_on(official_box: Service) -> None:
    official_box.guest.write(ENV_FILE, "LLM_CONTEXT_LENGTH=many\n")
    refused = official_box.install("--disable-ollama", check=False)
    official_box.uninstall("--purge")
    assert refused.returncode == 1
    assert "LLM_CONTEXT_LENGTH is 'many'" in refused.stdout
    ollama = official_box.guest.show("ollama", "ActiveState", "UnitFileState")
    assert ollama == {"ActiveState": "active", "UnitFileState": "enabled"}


def test_it_takes_the_place_of_ollamas_service(changed_over: Service) -> None:
    ollama = changed_over.guest.show("ollama", "ActiveState", "UnitFileState")
    assert ollama == {"ActiveState": "inactive", "UnitFileState": "disabled"}
    assert changed_over.guest.said("ps", "-o", "user=", "-p", str(changed_over.pid)) == "ollama"


def test_it_goes_on_with_the_variables_that_a_person_had_set(changed_over: Service) -> None:
    environ = changed_over.guest.said("cat", f"/proc/{changed_over.engine_pid()}/environ").split("\0")
    assert {f"OLLAMA_MODELS={SSD}", "OLLAMA_NUM_PARALLEL=3", 'NAME_OF_IT=a "b" c'} <= set(environ)


def test_models_on_another_disk_are_read_and_written(changed_over: Service) -> None:
    changed_over.load_model()
    wanted = '{"source": "tiny", "destination": "other"}'
    changed_over.guest.run("curl", "--fail", "http://127.0.0.1:11434/api/copy", "--data", wanted)
    assert changed_over.guest.has(f"{SSD}/manifests/registry.ollama.ai/library/other/latest")


def test_starting_ollamas_own_service_ends_ours_and_the_other_way_round(changed_over: Service) -> None:
    guest = changed_over.guest
    guest.run("systemctl", "start", "ollama")
    assert changed_over.show("ActiveState") == "inactive"
    guest.run("systemctl", "start", UNIT)
    assert guest.show("ollama", "ActiveState") == {"ActiveState": "inactive"}
    assert changed_over.status.endswith("answers.")


def test_taken_away_it_leaves_the_box_as_it_was(changed_over: Service) -> None:
    guest = changed_over.guest
    changed_over.uninstall("--purge")
    purged = ("/etc/default/arasul-supervisor", "/var/lib/arasul-supervisor", "/var/log/arasul-supervisor")
    assert [place for place in (*OWN_PLACES, *purged) if guest.has(place)] == []
    assert guest.has(f"{SSD}/manifests")
    ollama = guest.show("ollama", "ActiveState", "UnitFileState")
    assert ollama == {"ActiveState": "active", "UnitFileState": "enabled"}


def test_without_purge_settings_state_and_logs_stay(bare_box: Service) -> None:
    bare_box.install()
    said = bare_box.uninstall()
    assert [place for place in OWN_PLACES if bare_box.guest.has(place)] == []
    kept = (ENV_FILE, "/var/lib/arasul-supervisor/installation-id", "/var/log/arasul-supervisor/ollama.log")
    assert [place for place in kept if not bare_box.guest.has(place)] == []
    assert "--purge" in said


def test_models_in_a_persons_home_are_reached_and_the_rest_of_it_is_not(bare_box: Service) -> None:
    guest = bare_box.guest
    guest.run("useradd", "--create-home", "jan")
    guest.run("chmod", "700", "/home/jan")
    guest.write(ENV_FILE, "OLLAMA_MODELS=/home/jan/models\n")
    refused = bare_box.install(check=False)
    remedy = refused.stdout.partition("sudo ")[2].splitlines()[0]  # what the message says to do
    guest.run("sh", "-c", remedy)
    guest.run("cp", "-r", f"{MODELS}/.", "/home/jan/models")
    guest.run("chown", "-R", "arasul-supervisor:", "/home/jan/models")
    bare_box.install()
    bare_box.load_model()
    inside = ("nsenter", "--target", str(bare_box.engine_pid()), "--mount", "ls", "-A", "/home/jan")
    assert (refused.returncode, guest.said(*inside)) == (1, "models")


def test_ollamas_service_of_a_person_goes_on_as_that_person_with_the_models_of_that_home(
    bare_box: Service,
) -> None:
    guest = bare_box.guest
    guest.run("useradd", "--create-home", "jan")
    guest.run("chmod", "700", "/home/jan")
    guest.run("mkdir", "/home/jan/.ollama")
    guest.run("cp", "-r", MODELS, "/home/jan/.ollama/models")
    guest.run("chown", "-R", "jan:", "/home/jan/.ollama")
    guest.write("/etc/systemd/system/ollama.service", OLLAMA_UNIT.replace("=ollama\n", "=jan\n"))
    guest.run("systemctl", "enable", "--now", "ollama")
    bare_box.install("--disable-ollama")
    bare_box.load_model()
    assert guest.said("ps", "-o", "user=", "-p", str(bare_box.pid)) == "jan"


def test_an_ollama_that_does_not_answer_is_said_with_the_way_back(bare_box: Service) -> None:
    holder = ("systemd-run", "--quiet", "--unit=holder", "python3", "-m", "http.server", "11434")
    bare_box.guest.run(*holder)
    said = bare_box.install(check=False)
    assert said.returncode == 1
    assert "Ollama does not answer: Port 11434 is held by" in said.stdout
    assert "sudo make uninstall-systemd" in said.stdout


def test_the_documented_path_of_the_log_may_be_named_in_the_settings(bare_box: Service) -> None:
    bare_box.guest.write(ENV_FILE, "ARASUL_LOG_FILE=/var/log/ollama.log\n")
    bare_box.install()
    assert "Listening on" in bare_box.guest.said("cat", LOG)


def test_without_an_engine_nothing_is_changed(bare_box: Service) -> None:
    bare_box.guest.run("umount", "/usr/local/bin/ollama")
    refused = bare_box.install(check=False)
    assert refused.returncode == 1
    assert "There is no Ollama on this box" in refused.stdout
    assert [place for place in OWN_PLACES if bare_box.guest.has(place)] == []


def test_a_dry_run_says_all_and_does_nothing(bare_box: Service) -> None:
    said = bare_box.install("--dry-run").stdout
    assert f"would start {UNIT}" in said
    assert [place for place in OWN_PLACES if bare_box.guest.has(place)] == []
