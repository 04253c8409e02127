"""The published implementations' numbers, from tiny networks written as published files and read back.

The tolerances tell wrong readings apart: halves of the embedding that are not swapped show as 0.6, an endpoint as 0.01,
the norms' epsilon as 5e-5, queries, keys and values in another order as 0.6, a factor 1000 in place of 999 as 0.5.
"""

import pytest
import torch

from amed_lightning.denoisers.edm import read_edm
from amed_lightning.denoisers.guidance import ClassifierGuidance
from amed_lightning.denoisers.openai import read_openai
from amed_lightning.denoisers.preconditioning import VP
from amed_lightning.denoisers.thresholding import Clipped

from .persistent import edm_object, write_pickle
from .published import UNTOLD
from .reference import reference

SCALE = 2.0
BOTTLENECKS = {
    "a": "enc.8x8_block1",
    "b": "enc.8x8_block0",
    "c": "enc.8x8_block0",
    "d": "dec.8x8_in1",
    "e": "dec.8x8_in1",
}
PRECISIONS = {"single": (torch.float32, "", 2e-5), "double": (torch.float64, "64", 1e-9)}
every_precision = pytest.mark.parametrize(("dtype", "suffix", "tolerance"), PRECISIONS.values(), ids=PRECISIONS)


def denoisers(instance, folder):
    """Write an instance as a published file, read it, and return what was written, its U-Net, and its classifier."""
    content = reference(instance)
    if instance in "abc":
        arguments = {name: value for name, value in content.arguments.items() if name != "cls"}
        path = write_pickle(folder / "network.pkl", lambda: {"ema": edm_object(arguments, content.state)})
        return content, read_edm(path).denoiser(), None
    if instance == "d":
        torch.save(content.state, folder / "network.pt")
        return content, read_openai(folder / "network.pt", UNTOLD).denoiser(), None
    for part in ("model", "classifier"):
        torch.save(content.part(part), folder / f"{part}.pt")
    classifier = read_openai(folder / "classifier.pt", UNTOLD).classifier()
    return content, read_openai(folder / "model.pt", UNTOLD).denoiser(), classifier


def answer(denoiser, content, dtype, labels=None):
    """Ask at the instance's states and levels."""
    x, sigma = content.values["x"].to(dtype), content.values["sigma"].to(dtype).reshape(-1, 1, 1, 1)
    return denoiser(x, sigma, labels)


def close(got, expected, tolerance):
    torch.testing.assert_close(got, expected.to(got.dtype), rtol=0, atol=tolerance)


@pytest.mark.parametrize("instance", "abcd")
@every_precision
def test_a_network_and_its_bottleneck_are_the_published_ones(tmp_path, instance, dtype, suffix, tolerance):
    content, denoiser, _ = denoisers(instance, tmp_path)
    seen = []
    denoiser.model.get_submodule(BOTTLENECKS[instance]).register_forward_hook(lambda *call: seen.append(call[-1]))
    got = answer(denoiser.to(dtype), content, dtype, content.labels)
    close(got.image, content.values[f"out{suffix}"], tolerance)
    (bottleneck,) = seen
    close(bottleneck, content.values[f"bottleneck{suffix}"], tolerance)
    close(got.features, bottleneck.mean(1).flatten(1), 1e-7)
    assert got.features.shape == (len(got.image), denoiser.model.feature_size) == (len(got.image), 64)


@pytest.mark.parametrize("instance", "bc")
def test_without_labels_the_class_is_open(tmp_path, instance):
    content, denoiser, _ = denoisers(instance, tmp_path)
    close(answer(denoiser, content, torch.float32).image, content.values["out_nolabels"], 2e-5)


@pytest.mark.parametrize("caller", [torch.inference_mode, torch.no_grad, torch.enable_grad])
@pytest.mark.parametrize(("dtype", "suffix", "tolerance"), [(torch.float32, "", 2e-4), (torch.float64, "64", 1e-9)])
def test_adm_under_its_classifier_is_the_published_one(tmp_path, caller, dtype, suffix, tolerance):
    content, denoiser, classifier = denoisers("e", tmp_path)
    guided = ClassifierGuidance(denoiser, classifier, SCALE).to(dtype)
    with caller():
        got = answer(guided, content, dtype, content.labels)
        clipped = answer(Clipped(guided), content, dtype, content.labels)
    close(got.image, content.values[f"unclamped{suffix}"], tolerance)
    close(clipped.image, content.values[f"out{suffix}"], tolerance)
    close(clipped.features, content.values[f"bottleneck{suffix}"].mean(1).flatten(1), tolerance)


def test_the_parts_of_guided_adm_are_the_published_ones(tmp_path):
    content, denoiser, classifier = denoisers("e", tmp_path)
    values = content.values
    x, sigma = values["x"].double(), values["sigma"].double().reshape(-1, 1, 1, 1)
    close(VP().step(sigma).flatten(), values["c_noise64"], 1e-9)
    noise = (x - answer(denoiser.double(), content, torch.float64, content.labels).image) / sigma
    close(noise, values["raw_eps64"], 1e-9)
    scale = (1 + sigma.square()).sqrt()
    scaled = (x / scale).requires_grad_()
    classifier = classifier.double()
    close(classifier.model(scaled, VP().step(sigma).flatten()), values["logits64"], 1e-9)
    (gradient,) = torch.autograd.grad(SCALE * classifier(scaled * scale, sigma, content.labels).sum(), scaled)
    close(gradient, values["grad64"], 1e-9)


def test_in_half_precision_it_is_the_published_half_precision(tmp_path):
    """The published network casts its convolutions alone; both stay within what half precision leaves undecided."""
    content, denoiser, _ = denoisers("d", tmp_path)
    with torch.autocast("cpu", torch.float16):
        got = answer(denoiser, content, torch.float32)
    assert got.image.dtype == torch.float32
    assert not torch.equal(got.image, answer(denoiser, content, torch.float32).image)
    close(got.image, content.values["out_fp16"], 2e-2)
    close(got.features, content.values["bottleneck_fp16"].float().mean(1).flatten(1), 2e-2)
