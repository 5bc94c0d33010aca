"""Guards CONTRACT §4 `disk_bytes`: what goes with a model, and what stays because others have it too."""

from __future__ import annotations

from arasul_supervisor.model_store.listing import StoredModel, StoreListing
from arasul_supervisor.model_store.manifests import MODEL_LAYER, Layer, Manifest
from arasul_supervisor.model_store.usage import DiskUsage, disk_usage, own_blobs, sharers, weights_of

WEIGHTS = Layer("sha256:" + "a" * 64, 1000, MODEL_LAYER)
PARAMS = Layer("sha256:" + "b" * 64, 10, "application/vnd.ollama.image.params")
CONFIG = Layer("sha256:" + "c" * 64, 5, "application/vnd.docker.container.image.v1+json")
BLOBS = {layer.digest: layer.size_bytes for layer in (WEIGHTS, PARAMS, CONFIG)}


def model(name: str, *layers: Layer) -> StoredModel:
    return StoredModel(name, Manifest(layers), "sha256:" + "0" * 64)


TINY, COPY = model("tiny:latest", WEIGHTS, CONFIG), model("copy:v1", WEIGHTS, CONFIG)
TUNED = model("tuned:latest", WEIGHTS, PARAMS)


def store(*models: StoredModel) -> StoreListing:
    return StoreListing(models, (), BLOBS, is_whole=True)


def test_a_model_alone_owns_all_its_bytes() -> None:
    assert disk_usage(store(TINY)) == {"tiny:latest": DiskUsage(1005, 0)}


def test_a_second_name_of_a_model_shares_all() -> None:
    assert disk_usage(store(TINY, COPY)) == {"tiny:latest": DiskUsage(0, 1005), "copy:v1": DiskUsage(0, 1005)}


def test_a_model_made_from_another_owns_what_it_adds() -> None:
    assert disk_usage(store(TINY, TUNED))["tuned:latest"] == DiskUsage(10, 1000)


def test_what_is_missing_takes_no_bytes() -> None:
    listing = StoreListing((TINY,), (), {CONFIG.digest: 5}, is_whole=True)

    assert disk_usage(listing)["tiny:latest"] == DiskUsage(5, 0)


def test_the_blobs_that_go_with_a_model_are_those_that_nobody_else_names() -> None:
    assert own_blobs(store(TINY, TUNED), TUNED) == {PARAMS.digest: 10}


def test_who_shares_the_weights_is_named_and_who_shares_a_license_is_not() -> None:
    other = model("other:latest", CONFIG)

    assert sharers(store(TINY, TUNED, other), TINY) == ("tuned:latest",)


def test_a_model_in_the_cloud_has_no_weights() -> None:
    assert weights_of(model("gpt-oss:20b-cloud", CONFIG)) == frozenset()
