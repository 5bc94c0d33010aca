"""Fixtures that the system tests share."""

from __future__ import annotations

from tests.system.ground.docker import docker as docker
