"""The error keys of the contract, each with its HTTP status and the sentence a person can act on.

The docstring of a class is its default sentence, so text and definition cannot drift apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping


class ArasulError(Exception):
    """Something went wrong that has no name of its own yet."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500

    def __init__(
        self,
        sentence: str | None = None,
        *,
        hint: str | None = None,
        fields: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Keep what the response needs.

        :param sentence: what failed on which thing, with the figure seen; the class's docstring otherwise
        :param hint: what to do about it; follows the sentence
        :param fields: further keys of the JSON body, beside `error`, `message` and `code`
        :param headers: further response headers, such as `Retry-After` or `Allow`
        """
        base = sentence or (self.__doc__ or "").partition("\n")[0]
        self.sentence = f"{base} {hint}" if hint else base
        self.fields: Mapping[str, object] = fields or {}
        self.headers: Mapping[str, str] = headers or {}
        super().__init__(self.sentence)


class BadInput(ArasulError):
    """The request cannot be understood."""

    code, status = "bad_input", 400


class ForbiddenOrigin(ArasulError):
    """A web page from another origin may not change anything here; name its origin in ARASUL_ORIGINS to allow it."""

    code, status = "forbidden_origin", 403


class ForbiddenHost(ArasulError):
    """This address is bound to loopback and answers only local Host names."""

    code, status = "forbidden_host", 403


class UnknownPath(ArasulError):
    """There is nothing at this path; GET /openapi.json lists what is here."""

    code, status = "not_found", 404


class ModelNotFound(ArasulError):
    """No such model is installed."""

    code, status = "model_not_found", 404


def not_installed(name: str) -> ModelNotFound:
    """The error for a model that is asked for by name and is not there."""
    return ModelNotFound(f"{name} is not installed.", hint="GET /api/models lists what is.")


class ModelNotInstalled(ArasulError):
    """The model is not installed."""

    code, status = "model_not_installed", 404


class PullNotFound(ArasulError):
    """No such pull is known; GET /api/models/pulls lists them."""

    code, status = "pull_not_found", 404


class IncidentNotFound(ArasulError):
    """No such incident is known; GET /api/incidents lists the newest ones."""

    code, status = "incident_not_found", 404


class NotQuarantined(ArasulError):
    """This model is not quarantined; GET /api/models/quarantine lists those that are."""

    code, status = "not_quarantined", 404


class MethodNotAllowed(ArasulError):
    """This path does not take that method; see the Allow header."""

    code, status = "method_not_allowed", 405


class SlowRequest(ArasulError):
    """The request did not arrive in time (head 10 s, body 30 s); send it again at once and whole."""

    code, status = "slow_request", 408


class ModelBusy(ArasulError):
    """The model is busy; try again when its pull or request has ended."""

    code, status = "model_busy", 409


class AlreadyRunning(ArasulError):
    """This is already going on."""

    code, status = "already_running", 409


class ModelQuarantined(ArasulError):
    """The model killed the engine and is kept from it; DELETE /api/models/quarantine/{name} lifts that."""

    code, status = "model_quarantined", 409


class BodyTooLarge(ArasulError):
    """The request body is larger than 1 MiB."""

    code, status = "body_too_large", 413


class UnsupportedMediaType(ArasulError):
    """The request body must be JSON in UTF-8."""

    code, status = "unsupported_media_type", 415


class EngineRefused(ArasulError):
    """Ollama refused the request."""

    code, status = "engine_refused", 502


class RegistryError(ArasulError):
    """The model registry refused or could not be reached."""

    code, status = "registry_error", 502


class EngineDown(ArasulError):
    """Ollama is not up; GET /health says why."""

    code, status = "engine_down", 503

    def __init__(
        self, sentence: str | None = None, *, hint: str | None = None, retry_after_s: int = 2
    ) -> None:
        super().__init__(sentence, hint=hint, headers={"Retry-After": str(retry_after_s)})


class EngineSilent(ArasulError):
    """Ollama did not answer in time; GET /health says what is known, POST /api/process/restart starts it anew."""

    code, status = "engine_silent", 504


class DiskFull(ArasulError):
    """The disk that holds the models is full; free space and ask again."""

    code, status = "disk_full", 507


class StoreNotWritable(ArasulError):
    """The folder of the models cannot be written; make it writable for the user of the engine."""

    code, status = "store_not_writable", 507


class CannotRunHere(ArasulError):
    """The daemon cannot run here."""

    code, status = "cannot_run_here", 500
    exit_code: ClassVar[int] = 71
