"""CLIP and DINOv2 with tiny random weights, and the scores on their features, against the libraries' own numbers."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from transformers import (
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    CLIPVisionConfig,
    Dinov2Config,
    Dinov2Model,
)

from amed_lightning.bench.cell import prepare
from amed_lightning.bench.results import Results
from amed_lightning.bench.suite import load_suite
from amed_lightning.bench.sweep import run
from amed_lightning.config import InputError
from amed_lightning.metrics.cmmd import CLIPDiscrepancy, gaussian_discrepancy
from amed_lightning.metrics.files import load_detector
from amed_lightning.metrics.reference import build_evaluator
from amed_lightning.sampling.images import generate
from amed_lightning.seeds import Seeds, Stream

from ..bench.suites import CPU, Alone, entry, write_suite
from ..data.files import pictures, write_folder
from ..denoisers.pipelines import drawn, stable_diffusion, text_config, tokenizer
from ..denoisers.transformers import sd3

DIGITS = {"name": "digits"}
SIZE = 16
PROMPTS = ["cat", "a dog", "dog", "a cat and a dog", ""]
VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip") / "model"
    words = len(tokenizer(folder))
    vision = CLIPVisionConfig(**VISION, image_size=SIZE, patch_size=8, projection_dim=8)
    config = CLIPConfig(text_config=text_config(words, projection_dim=8), vision_config=vision, projection_dim=8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn(CLIPModel(config), seed=1).save_pretrained(folder)
    size = {"height": SIZE, "width": SIZE}
    CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=size).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def dinov2_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dinov2")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, image_size=40, patch_size=8)
        drawn(Dinov2Model(config), seed=1).save_pretrained(folder)
    size = {"height": SIZE, "width": SIZE}
    BitImageProcessor(size={"shortest_edge": 20}, crop_size=size).save_pretrained(folder)
    return folder


def squeezed(images, clipped):
    """Each channel resized by PIL as numbers, which neither rounds nor, by itself, clips."""

    def channel(values):
        return np.asarray(Image.fromarray(values.float().numpy()).resize((SIZE, SIZE), Image.BICUBIC))

    found = torch.stack([torch.stack([torch.tensor(channel(values)) for values in image]) for image in images])
    return found.clip(0, 255) if clipped else found


def normalised(pixels, processor):
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (processor.image_mean, processor.image_std))
    return (pixels / 255 - mean) / deviation


class TestDINOv2:
    def test_features_are_the_librarys_class_token_of_squeezed_and_clipped_images(self, dinov2_folder):
        detector, _ = load_detector({"name": "dinov2", "model": str(dinov2_folder)})
        network = Dinov2Model.from_pretrained(dinov2_folder).eval()
        for images in (pictures(3, size=40), pictures(2, size=12)):
            pixels = normalised(squeezed(images, clipped=True), BitImageProcessor.from_pretrained(dinov2_folder))
            with torch.no_grad():
                expected = network(pixels).pooler_output
            found = detector(images)
            torch.testing.assert_close(found.features, expected, rtol=1e-3, atol=1e-4)
            assert found.logits.shape == (len(images), 0)
        assert detector.feature_size == 16
        assert not any(weights.requires_grad for weights in detector.parameters())

    def test_grey_images_are_rgb_with_equal_channels(self, dinov2_folder):
        detector, _ = load_detector({"name": "dinov2", "model": str(dinov2_folder)})
        grey = pictures(2, size=24)[:, :1]
        assert detector(grey).features.equal(detector(grey.expand(-1, 3, -1, -1)).features)

    def test_fd_is_torch_fidelitys_on_these_features(self, dinov2_folder, tmp_path):
        real, generated = pictures(40, size=16), pictures(30, size=16, seed=1) // 2
        reference = {"name": "images", "path": str(write_folder(tmp_path, real))}
        metric = {"name": "fd_dinov2", "model": str(dinov2_folder), "reference": reference}
        evaluator = build_evaluator(DIGITS, DIGITS, [metric])
        detector, scores = evaluator.measures["fd_dinov2"].detector, evaluator.scores(30)
        for numbers in torch.arange(30).split(11):
            scores.update(generated[numbers], numbers)
        statistics = [fid_features_to_statistics(detector(each).features.double()) for each in (generated, real)]
        expected = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
        assert scores.compute() == {"fd_dinov2": pytest.approx(expected, rel=1e-4)}
        assert set(scores.sums()) == {"fd_dinov2.count", "fd_dinov2.feature_sum", "fd_dinov2.feature_outer"}


class TestCMMD:
    def test_it_is_the_mean_over_all_pairs(self):
        x, y = (torch.randn(count, 5, generator=torch.Generator().manual_seed(count)) for count in (13, 9))

        def kernel(a, b):
            return np.mean([[np.exp(-float((one - two).square().sum()) / 200) for two in b] for one in a])

        expected = 1000 * (kernel(x, x) + kernel(y, y) - 2 * kernel(x, y))
        assert gaussian_discrepancy(x, y) == pytest.approx(expected, rel=1e-6)
        assert gaussian_discrepancy(x, x) == pytest.approx(0, abs=1e-9)

    def test_many_images_are_treated_in_parts(self):
        x, y = (torch.randn(count, 3, generator=torch.Generator().manual_seed(count)) for count in (1300, 1100))
        means = [
            torch.exp(-(torch.cdist(a.double(), b.double()) ** 2) / 200).mean() for a, b in ((x, x), (y, y), (x, y))
        ]
        assert gaussian_discrepancy(x, y) == pytest.approx(float(1000 * (means[0] + means[1] - 2 * means[2])), rel=1e-6)

    def test_features_are_the_librarys_embeddings_of_squeezed_images_at_length_one(self, clip_folder):
        detector, _ = load_detector({"name": "clip", "model": str(clip_folder)})
        network, images = CLIPModel.from_pretrained(clip_folder).eval(), pictures(3, size=40)
        pixels = normalised(squeezed(images, clipped=False), CLIPImageProcessor.from_pretrained(clip_folder))
        with torch.no_grad():
            expected = network.get_image_features(pixel_values=pixels).pooler_output
        found = detector(images).features
        torch.testing.assert_close(found, expected / expected.norm(dim=1, keepdim=True), rtol=1e-3, atol=1e-4)

    def test_in_a_sweep_it_keeps_the_embeddings(self, clip_folder, tmp_path):
        real, generated = pictures(12, size=16), pictures(10, size=16, seed=1) // 2
        dataset = {"name": "images", "path": str(write_folder(tmp_path, real))}
        evaluator = build_evaluator(
            {"name": "clip", "model": str(clip_folder)}, dataset, [{"name": "cmmd", "model": str(clip_folder)}]
        )
        scores = evaluator.scores(10)
        scores.update(generated, torch.arange(10))
        features = [evaluator.detector(each).features for each in (generated, real)]
        assert scores.compute()["cmmd"] == pytest.approx(gaussian_discrepancy(*features), rel=1e-6)
        assert scores.sums()["cmmd.features"].shape == (10, 8)


class TestCLIPScore:
    def test_it_is_a_hundred_times_the_librarys_cosine(self, clip_folder):
        images = pictures(len(PROMPTS), size=40)
        evaluator = build_evaluator(DIGITS, DIGITS, [{"name": "clip_score", "model": str(clip_folder)}])
        scores = evaluator.scores(len(PROMPTS))
        for numbers in torch.arange(len(PROMPTS)).split(4):
            scores.update(images[numbers], numbers, [PROMPTS[number] for number in numbers])
        parts = (kind.from_pretrained(clip_folder) for kind in (CLIPImageProcessor, CLIPTokenizer))
        given = CLIPProcessor(*parts)(text=PROMPTS, images=list(images), return_tensors="pt", padding=True)
        network = CLIPModel.from_pretrained(clip_folder).eval()
        with torch.no_grad():
            cosines = network(**given).logits_per_image.diagonal() / network.logit_scale.exp()
        expected = 100 * float(cosines.mean())
        assert cosines.std() > 0.01
        assert scores.compute()["clip_score"] == pytest.approx(expected, rel=1e-4)

    def test_long_prompts_are_cut(self, clip_folder):
        detector, _ = load_detector({"name": "clip", "model": str(clip_folder), "crop": True})
        cut, whole = detector.texts(["cat " * 40, "cat " * 14])
        assert cut.equal(whole)

    @pytest.mark.parametrize(
        ("name", "make", "schedule"),
        [("stable_diffusion", stable_diffusion, "discrete"), ("transformer", sd3, "flow")],
    )
    def test_a_sweep_scores_each_image_with_its_seeds_prompt(self, clip_folder, tmp_path, name, make, schedule):
        prompts = {"evaluation": ["a dog", "cat", "dog"]}
        path = str(make(tmp_path / "pipeline"))
        suite = load_suite(
            write_suite(
                tmp_path,
                model={"name": name, "path": path, "prompts": prompts},
                detector={"name": "clip", "model": str(clip_folder)},
                dataset={"name": "images", "path": str(write_folder(tmp_path, pictures(8, size=16)))},
                reference=None,
                metrics=[{"name": "clip_score", "model": str(clip_folder)}],
                entries=[entry({"name": "euler"}, 4, schedules=[{"name": schedule}])],
                **{"block_size": 4, "batch_size": 2},
            )
        )
        (bench,), results = prepare(suite), Results(tmp_path / "results")
        assert run([bench], results, Alone(), CPU) == []
        detector, _ = load_detector({"name": "clip", "model": str(clip_folder), "crop": True})
        images = [
            each.pixels for each in generate(bench.sampler(bench.cells[0]), Seeds(Stream.evaluation, 0, 8), 2, CPU)
        ]
        texts = detector.texts([prompts["evaluation"][seed % 3] for seed in range(8)])
        expected = 100 * float((detector(torch.cat(images)).features * texts).sum(1).mean())
        row = results.finished(bench.cells[0].key)
        assert row.values["clip_score"] == pytest.approx(expected, rel=1e-4)
        assert row.n == 8


class TestRefusals:
    def test_a_folder_of_another_network_is_named(self, clip_folder, dinov2_folder, tmp_path):
        with pytest.raises(InputError, match=rf"{tmp_path}: no Dinov2Model of transformers"):
            load_detector({"name": "dinov2", "model": str(tmp_path)})
        (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "elsewhere"}))
        with pytest.raises(InputError, match=r"adapter_config.json: names another model"):
            load_detector({"name": "clip", "model": str(tmp_path)})

    def test_without_a_network_the_folder_is_asked_for(self, monkeypatch, tmp_path):
        monkeypatch.setenv("AMED_OFFLINE", "1")
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(InputError, match=r"facebook/dinov2-large: no such folder, .*AMED_OFFLINE forbids"):
            load_detector({"name": "dinov2"})

    def test_other_weights_and_another_way_to_pixels_have_another_digest(self, clip_folder):
        ways = [load_detector({"name": "clip", "model": str(clip_folder), "crop": crop})[1] for crop in (True, False)]
        assert ways[0] != ways[1]
        assert CLIPDiscrepancy(str(clip_folder)).detector == {"name": "clip", "model": str(clip_folder)}
