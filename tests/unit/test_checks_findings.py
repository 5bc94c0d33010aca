"""Guards CONTRACT §4 verify and repair: what is broken and why, and what is pulled to mend it."""

from __future__ import annotations

from pathlib import Path

import pytest

from arasul_supervisor.model_store.hashing import BlobSeen
from arasul_supervisor.model_store.listing import CURE, BrokenManifest, StoredModel, StoreListing
from arasul_supervisor.model_store.manifests import Layer, Manifest
from arasul_supervisor.ollama.checks.findings import (
    BEING_PULLED,
    LEFT_ALONE,
    NO_LONGER_OFFERED,
    NO_OFFER,
    Cure,
    Fault,
    Findings,
    Offer,
    broken_models,
    fault_of,
    findings_of,
    is_known,
    layers_to_check,
    may_be_insecure,
    names_to_ask_for,
    plan_cures,
)

X, Y, Z = (f"sha256:{letter * 64}" for letter in "abc")
DAMAGED = Fault("It is damaged.")
NOT_OURS = Fault("It cannot be read.", is_damaged=False)


def layer(digest: str, size_bytes: int = 10) -> Layer:
    return Layer(digest, size_bytes, "model")


def model(name: str, *digests: str) -> StoredModel:
    return StoredModel(name, Manifest(tuple(map(layer, digests))), f"sha256:{name}")


A, B, C = model("a:latest", X, Y), model("b:latest", Y), model("c:latest", Z)


def test_a_blob_that_two_models_share_is_looked_at_once() -> None:
    assert [one.digest for one in layers_to_check([A, B, C], None)] == [X, Y, Z]


def test_one_model_is_meant_by_any_spelling_of_its_name() -> None:
    assert [one.digest for one in layers_to_check([A, B, C], "C")] == [Z]


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (BlobSeen(), "is missing"),
        (BlobSeen(size_bytes=3), "3 bytes instead of 10"),
        (BlobSeen(size_bytes=10, digest=Y), "another digest"),
        (BlobSeen(trouble="Input/output error", is_disk_trouble=True), "Input/output error"),
    ],
    ids=["missing", "cut", "changed", "bad sector"],
)
def test_a_blob_that_is_not_what_its_name_says_is_damaged(seen: BlobSeen, words: str) -> None:
    fault = fault_of(layer(X), seen)

    assert fault is not None and fault.is_damaged
    assert words in fault.reason


def test_a_blob_that_is_what_its_name_says_has_no_fault() -> None:
    assert fault_of(layer(X), BlobSeen(size_bytes=10, digest=X)) is None


def test_a_blob_that_is_not_ours_to_read_is_not_called_damaged() -> None:
    fault = fault_of(layer(X), BlobSeen(trouble="Permission denied"))

    assert fault is not None and not fault.is_damaged


def test_every_model_with_a_broken_blob_is_named() -> None:
    found = Findings((C, B, A), blobs={Y: DAMAGED})

    broken = broken_models(found, None)

    assert [(one.name, one.digests) for one in broken] == [("a:latest", (Y,)), ("b:latest", (Y,))]


def test_who_shares_the_broken_blob_of_the_asked_model_is_named_too() -> None:
    found = Findings((A, B), blobs={Y: DAMAGED})

    assert [one.name for one in broken_models(found, "b")] == ["a:latest", "b:latest"]


def test_a_broken_manifest_of_another_model_is_not_told_to_who_asks_for_one() -> None:
    found = Findings((A,), manifests={"d:latest": DAMAGED})

    assert broken_models(found, "a") == ()


def test_why_a_model_was_not_mended_follows_what_is_wrong_with_it_but_once() -> None:
    found = Findings((A,), blobs={X: DAMAGED, Y: Fault("It is missing.")})

    (broken,) = broken_models(found, None, hopeless={X: NO_OFFER, Y: NO_OFFER})

    assert broken.reason == f"It is damaged. It is missing. {NO_OFFER}"


def test_a_manifest_that_is_none_is_damaged_and_its_advice_is_left_to_the_reader_of_the_job() -> None:
    listing = StoreListing((), (BrokenManifest("d:latest", f"It is empty. {CURE}", Path("/m")),), {}, True)

    assert findings_of(listing).manifests == {"d:latest": Fault("It is empty.")}


def test_a_manifest_that_is_not_ours_to_read_is_not_called_damaged() -> None:
    listing = StoreListing((), (BrokenManifest("d:latest", "It cannot be read."),), {}, True)

    assert not findings_of(listing).manifests["d:latest"].is_damaged


def test_a_model_without_one_of_its_blobs_has_no_fault_in_its_manifest() -> None:
    listing = StoreListing((A,), (BrokenManifest(A.name, "Its blob is missing."),), {}, True)

    assert findings_of(listing).manifests == {}


def test_a_model_with_a_broken_manifest_is_known() -> None:
    assert is_known(Findings((), manifests={"d:latest": DAMAGED}), "d")


def test_the_registry_is_asked_for_the_asked_name_first() -> None:
    found = Findings((A, B), blobs={Y: DAMAGED})

    assert names_to_ask_for(found, "b") == ("b:latest", "a:latest")


def test_the_registry_is_not_asked_for_what_was_tried() -> None:
    found = Findings((A, C), manifests={"d:latest": DAMAGED}, blobs={X: DAMAGED, Z: DAMAGED})

    assert names_to_ask_for(found, None, {X, "d:latest"}) == ("c:latest",)


def test_the_registry_is_not_asked_for_what_may_be_whole() -> None:
    assert names_to_ask_for(Findings((C,), blobs={Z: NOT_OURS}), None) == ()


def test_one_name_is_pulled_for_all_that_share_the_blob() -> None:
    found = Findings((A, B), blobs={X: DAMAGED, Y: DAMAGED})
    offers = {"a:latest": Offer(frozenset({X, Y}), is_insecure=True), "b:latest": Offer(frozenset({Y}))}

    plan = plan_cures(found, offers)

    assert plan.cures == (Cure("a:latest", (X, Y), is_insecure=True),)
    assert plan.hopeless == {}


def test_a_name_whose_registry_lost_the_blob_leaves_it_to_another_that_has_it() -> None:
    found = Findings((A, B), blobs={Y: DAMAGED})
    offers = {"a:latest": Offer(frozenset({X})), "b:latest": Offer(frozenset({Y}))}

    assert plan_cures(found, offers).cures == (Cure("b:latest", (Y,), is_insecure=False),)


@pytest.mark.parametrize(
    ("offer", "reason"),
    [
        (Offer(), NO_OFFER),
        (Offer(frozenset({X})), NO_LONGER_OFFERED),
        (Offer(refusal=BEING_PULLED), BEING_PULLED),
        (Offer(refusal="It asks to wait."), "It asks to wait."),
    ],
    ids=["nobody has the model", "it has another blob now", "it is being pulled", "the registry is busy"],
)
def test_a_blob_that_nobody_offers_is_left_with_the_reason(offer: Offer, reason: str) -> None:
    plan = plan_cures(Findings((C,), blobs={Z: DAMAGED}), {"c:latest": offer})

    assert (plan.cures, plan.hopeless) == ((), {Z: reason})


def test_a_blob_of_a_model_that_is_being_pulled_is_left_alone_whoever_offers_it() -> None:
    found = Findings((A, B), blobs={Y: DAMAGED})
    offers = {"a:latest": Offer(frozenset({Y})), "b:latest": Offer(refusal=BEING_PULLED)}

    assert plan_cures(found, offers).hopeless == {Y: BEING_PULLED}


def test_a_blob_that_may_be_whole_is_left_alone() -> None:
    found = Findings((C,), blobs={Z: NOT_OURS})

    assert plan_cures(found, {"c:latest": Offer(frozenset({Z}))}).hopeless == {Z: LEFT_ALONE}


def test_nothing_is_tried_twice() -> None:
    found = Findings((C,), manifests={"d:latest": DAMAGED}, blobs={Z: DAMAGED})
    offers = {"c:latest": Offer(frozenset({Z})), "d:latest": Offer(frozenset({X}))}
    tried = {Z: "It was in vain.", "d:latest": "So was this."}

    plan = plan_cures(found, offers, tried)

    assert (plan.cures, plan.hopeless) == ((), tried)


def test_a_model_whose_manifest_is_broken_is_pulled_whatever_its_registry_has_now() -> None:
    found = Findings((), manifests={"d:latest": DAMAGED})

    plan = plan_cures(found, {"d:latest": Offer(frozenset({X}))})

    assert plan.cures == (Cure("d:latest", (), is_insecure=False),)


def test_a_model_whose_manifest_is_broken_and_that_nobody_offers_is_left() -> None:
    plan = plan_cures(Findings((), manifests={"d:latest": DAMAGED}), {"d:latest": Offer()})

    assert (plan.cures, plan.hopeless) == ((), {"d:latest": NO_OFFER})


@pytest.mark.parametrize("name", ["127.0.0.1:5000/library/a", "http://localhost/ns/a:b", "192.168.1.9/x/y"])
def test_a_registry_nearby_may_speak_plain_http(name: str) -> None:
    assert may_be_insecure(name)


@pytest.mark.parametrize("name", ["a", "ns/a:latest", "hf.co/ns/a", "8.8.8.8:5000/ns/a", "localhost/a"])
def test_any_other_registry_is_asked_by_https_only(name: str) -> None:
    assert not may_be_insecure(name)
