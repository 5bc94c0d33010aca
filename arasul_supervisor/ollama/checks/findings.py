"""Which blobs a check looks at, what is broken, and what can be mended from where. Pure."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from arasul_supervisor.model_store.listing import CURE
from arasul_supervisor.ollama.job_view import BrokenModel
from arasul_supervisor.ollama.names import same_model
from arasul_supervisor.settings.model_names import name_parts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from arasul_supervisor.model_store.hashing import BlobSeen
    from arasul_supervisor.model_store.listing import StoredModel, StoreListing
    from arasul_supervisor.model_store.manifests import Layer

NO_OFFER: Final = (
    "No registry offers it: it was made here, was removed from its registry, or that cannot be reached."
)
NO_LONGER_OFFERED: Final = (
    "Its registry does not have this blob: the model was made here, or is newer there; then pull it anew."
)
LEFT_ALONE: Final = "It was left as it is: nothing says that it is damaged."
BEING_PULLED: Final = "It is being pulled now; ask again when that pull has ended."


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a blob or a manifest, in sentences. Only what is damaged for certain may be replaced."""

    reason: str
    is_damaged: bool = True


@dataclass(frozen=True, slots=True)
class Findings:
    """The models of the store and what is wrong: `blobs` by digest, `manifests` by the name of the model."""

    models: Sequence[StoredModel]
    manifests: Mapping[str, Fault] = field(default_factory=dict)
    blobs: Mapping[str, Fault] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a registry would send for a name: these digests; None when none answered for it.

    `refusal`: why it cannot be pulled now; then `digests` is None.
    """

    digests: frozenset[str] | None = None
    is_insecure: bool = False
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Cure:
    """Pull this name, after its damaged blobs were removed; none are where its manifest is what is broken."""

    name: str
    digests: tuple[str, ...]
    is_insecure: bool


@dataclass(frozen=True, slots=True)
class CurePlan:
    """What to do, and why nothing can be done: by digest of a blob, or by name of a manifest."""

    cures: tuple[Cure, ...]
    hopeless: Mapping[str, str]


def findings_of(listing: StoreListing, blobs: Mapping[str, Fault] | None = None) -> Findings:
    """What a look at the store says of its models and manifests, beside what is known of its blobs."""
    named = {model.name for model in listing.models}
    manifests = {
        broken.name: Fault(broken.reason.removesuffix(CURE).strip(), broken.corrupt_file is not None)
        for broken in listing.broken
        if broken.name not in named  # else its blobs are what is wrong
    }
    if blobs is not None:
        manifests.update(_wrong_sizes(listing, blobs))
    return Findings(listing.models, manifests, blobs or {})


def _wrong_sizes(listing: StoreListing, faults: Mapping[str, Fault]) -> Mapping[str, Fault]:
    """Manifests that state another size than a blob has that was found whole: other models may be right about it."""
    wrong = {}
    for model in listing.models:
        for layer in model.manifest.layers:
            size_bytes = listing.blob_bytes.get(layer.digest, layer.size_bytes)
            if size_bytes != layer.size_bytes and layer.digest not in faults:
                wrong[model.name] = Fault(
                    f"Its manifest gives blob {shown_digest(layer.digest)} {layer.size_bytes} bytes; "
                    f"the blob has {size_bytes}, and is what its digest says.",
                    is_damaged=False,
                )
    return wrong


def is_known(found: Findings, name: str) -> bool:
    """True when the store has a manifest of that name, be it broken."""
    names = (*(model.name for model in found.models), *found.manifests)
    return any(same_model(name, known) for known in names)


def layers_to_check(models: Iterable[StoredModel], name: str | None) -> tuple[Layer, ...]:
    """Each blob of the named model, of all models when none is named, once."""
    chosen = (model for model in models if _is_asked(model.name, name))
    layers = {layer.digest: layer for model in chosen for layer in model.manifest.layers}
    return tuple(layers.values())


def fault_of(layer: Layer, seen: BlobSeen) -> Fault | None:
    """What is wrong with a blob that was looked at; None when it is what its name says."""
    blob = shown_digest(layer.digest)
    if seen.trouble is not None:
        return Fault(f"Blob {blob} cannot be read: {seen.trouble}.", seen.is_disk_trouble)
    if seen.size_bytes is None:
        return Fault(f"Blob {blob} is missing.")
    if seen.digest == layer.digest:
        return None
    if seen.size_bytes != layer.size_bytes:
        sizes = f"{seen.size_bytes} bytes instead of {layer.size_bytes}"
        return Fault(f"Blob {blob} is damaged: it has {sizes}.")
    return Fault(f"Blob {blob} is damaged: its content has another digest.")


def broken_models(
    found: Findings, name: str | None, *, hopeless: Mapping[str, str] | None = None
) -> tuple[BrokenModel, ...]:
    """The models that cannot be trusted, by name: also those that were not asked for and share a broken blob.

    :param hopeless: why it was not mended, by digest of a blob or by name of a manifest
    """
    why = hopeless or {}
    broken = [
        BrokenModel(unread, _joined(fault.reason, why.get(unread)))
        for unread, fault in found.manifests.items()
        if _is_asked(unread, name)
    ]
    for model in found.models:
        digests = tuple(layer.digest for layer in model.manifest.layers if layer.digest in found.blobs)
        if digests:
            told = dict.fromkeys(why[digest] for digest in digests if digest in why)  # each but once
            reasons = [*(found.blobs[digest].reason for digest in digests), *told]
            broken.append(BrokenModel(model.name, _joined(*reasons), digests))
    return tuple(sorted(broken, key=lambda model: model.name))


def users_of(models: Iterable[StoredModel], digests: Collection[str]) -> tuple[StoredModel, ...]:
    """The models with any of these blobs."""
    return tuple(model for model in models if any(layer.digest in digests for layer in model.manifest.layers))


def names_to_ask_for(found: Findings, name: str | None, tried: Collection[str] = ()) -> tuple[str, ...]:
    """Names under which a registry may have what is broken; the one that was asked for comes first."""
    users = users_of(found.models, _damaged(found.blobs, tried))
    manifests = (unread for unread in _damaged(found.manifests, tried) if _is_asked(unread, name))
    names = [*(model.name for model in users), *manifests]
    return tuple(sorted(names, key=lambda other: not _is_asked(other, name)))


def plan_cures(
    found: Findings, offers: Mapping[str, Offer], tried: Mapping[str, str] | None = None
) -> CurePlan:
    """What to pull so that each broken blob comes anew: one name for all that share it.

    :param offers: by name, in the order in which they are to be taken
    :param tried: what is not to be tried again, with the reason; by digest, or by name of a manifest
    """
    faults = {**found.blobs, **found.manifests}
    hopeless = {key: LEFT_ALONE for key, fault in faults.items() if not fault.is_damaged} | dict(tried or {})
    digests_of: dict[str, list[str]] = {}
    for digest in _damaged(found.blobs, hopeless):
        users = {model.name for model in users_of(found.models, {digest})}
        of_users = {name: offer for name, offer in offers.items() if name in users}
        has_it = [name for name, offer in of_users.items() if digest in (offer.digests or ())]
        if not has_it or any(offer.refusal == BEING_PULLED for offer in of_users.values()):
            hopeless[digest] = _why_hopeless(of_users.values())
        else:
            digests_of.setdefault(has_it[0], []).append(digest)
    for name in offers.keys() & _damaged(found.manifests, hopeless):
        if offers[name].digests is None:
            hopeless[name] = _why_hopeless([offers[name]])
        else:
            digests_of.setdefault(name, [])
    cures = (
        Cure(name, tuple(digests_of[name]), offers[name].is_insecure) for name in offers if name in digests_of
    )
    return CurePlan(tuple(cures), hopeless)


def may_be_insecure(name: str) -> bool:
    """True for a registry on this host or in a private network, given by its address: such speak plain HTTP."""
    host = name_parts(name)[0].partition(":")[0].casefold()
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False


def shown_digest(digest: str) -> str:
    """A digest as a person compares it: `sha256-cb823f5d9f88`, the start of the file's name."""
    return digest.replace(":", "-")[: len("sha256-") + 12]


def _is_asked(name: str, asked: str | None) -> bool:
    return asked is None or same_model(name, asked)


def _damaged(faults: Mapping[str, Fault], left_out: Collection[str]) -> list[str]:
    return [key for key, fault in faults.items() if fault.is_damaged and key not in left_out]


def _why_hopeless(offers: Iterable[Offer]) -> str:
    known = tuple(offers)
    refusals = [offer.refusal for offer in known if offer.refusal is not None]
    if refusals:
        return BEING_PULLED if BEING_PULLED in refusals else refusals[0]
    return NO_OFFER if all(offer.digests is None for offer in known) else NO_LONGER_OFFERED


def _joined(*sentences: str | None) -> str:
    return " ".join(filter(None, sentences))
