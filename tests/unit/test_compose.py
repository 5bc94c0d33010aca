"""Guards CONTRACT §1 and §2 in compose.yaml, its overlays, .env.example and the Dockerfile."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from arasul_supervisor import __version__
from arasul_supervisor.settings.fields import FIELDS, Field
from arasul_supervisor.settings.values import parse_duration_s
from tests.engine.daemon import REPOSITORY

OVERLAYS = ("compose.nvidia.yaml", "compose.jetson.yaml")
INTERPOLATION = re.compile(r"\$\{([A-Z_]+):?-([^}]*)\}")
OFFER = re.compile(r"#([A-Z_]+)=(.*)")  # a line of .env.example
NO_LOOPBACK = {"ARASUL_HOST": "0.0.0.0"}  # Docker publishes nothing that listens on loopback


def text_of(name: str) -> str:
    return (REPOSITORY / name).read_text(encoding="utf-8")


def service(name: str = "compose.yaml") -> Any:  # Any: tests look into it freely
    return yaml.safe_load(text_of(name))["services"]["llm-service"]


def interpolations(*names: str) -> list[tuple[str, str]]:
    return [found for name in names for found in INTERPOLATION.findall(text_of(name))]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.variable)
def test_every_setting_is_passed_through_with_its_default(field: Field) -> None:
    usual = field.default if isinstance(field.default, str) else ""
    default = NO_LOOPBACK.get(field.variable, usual)

    assert service()["environment"][field.variable] == f"${{{field.variable}:-{default}}}"


@pytest.mark.parametrize("name", ["compose.yaml", *OVERLAYS])
def test_every_variable_of_the_container_comes_from_the_one_of_the_same_name(name: str) -> None:
    environment = service(name).get("environment", {})

    assert [INTERPOLATION.match(value)[1] for value in environment.values()] == list(environment)  # type: ignore[index]  # None fails here too


def test_the_example_offers_every_variable_of_the_compose_files_once_with_its_default() -> None:
    offered = OFFER.findall(text_of(".env.example"))

    assert sorted(offered) == sorted(set(interpolations("compose.yaml", *OVERLAYS)))


def test_the_example_changes_nothing_as_it_is() -> None:
    assert [line for line in text_of(".env.example").splitlines() if line and not line.startswith("#")] == []


def test_container_service_and_volume_bear_the_names_that_callers_know() -> None:
    compose = yaml.safe_load(text_of("compose.yaml"))

    assert list(compose["services"]) == ["llm-service"]
    assert service()["container_name"] == "llm-service"
    assert compose["volumes"] == {"arasul-llm-models": {"name": "arasul-llm-models"}}
    assert "${MODELS_VOLUME:-arasul-llm-models}:/root/.ollama" in service()["volumes"]


def test_both_ports_are_published_on_loopback_unless_told_otherwise() -> None:
    assert [INTERPOLATION.sub(r"\2", port) for port in service()["ports"]] == [
        "127.0.0.1:11434:11434",
        "127.0.0.1:11436:11436",
    ]


def test_the_grace_period_is_longer_than_the_ladder() -> None:
    grace_s = parse_duration_s(dict(interpolations("compose.yaml"))["STOP_GRACE_PERIOD"])
    stop_timeout_s = parse_duration_s(dict(interpolations("compose.yaml"))["ARASUL_STOP_TIMEOUT"])

    assert grace_s > stop_timeout_s + 2  # the daemon itself takes at most 2 s


def test_the_service_comes_back_by_itself_and_its_log_is_bounded() -> None:
    assert service()["restart"] == "unless-stopped"
    assert service()["logging"] == {
        "driver": "json-file",
        "options": {"max-size": "10m", "max-file": "3"},
    }


def test_the_base_image_is_the_same_in_dockerfile_and_compose() -> None:
    in_compose = dict(interpolations("compose.yaml"))["BASE_IMAGE"]

    assert f"ARG BASE_IMAGE={in_compose}\n" in text_of("Dockerfile")


def test_the_image_is_labelled_with_the_version_of_the_package() -> None:
    assert f'org.opencontainers.image.version="{__version__}"' in text_of("Dockerfile")


def test_no_stranger_s_image_is_pulled_in_the_place_of_ours() -> None:
    assert service()["pull_policy"] == "never"


def test_the_dockerfile_needs_no_front_end_from_a_registry() -> None:
    assert "syntax=" not in text_of("Dockerfile")


def test_image_and_compose_ask_for_health_in_the_same_way() -> None:
    check = service()["healthcheck"]
    options = "--interval={interval} --timeout={timeout} --start-period={start_period} --retries={retries}"
    words = ", ".join(f'"{word}"' for word in check["test"][1:])

    assert f"HEALTHCHECK {options.format(**check)} CMD [{words}]" in text_of("Dockerfile")
