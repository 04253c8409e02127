"""Published models under the names that configurations call, and how they can be computed."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from amed_lightning.config import InputError, build
from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.denoisers.computing import computing
from amed_lightning.denoisers.files import save_weights
from amed_lightning.denoisers.guidance import ClassifierGuidance
from amed_lightning.denoisers.published import read_published
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.denoisers.thresholding import Clipped
from amed_lightning.denoisers.untold import NOTHING_SAID
from amed_lightning.flow.probability_flow import analytic_first_step
from amed_lightning.noise.schedules import Polynomial, levels
from amed_lightning.sampling.sampler import Sampler
from amed_lightning.solvers.registry import SOLVERS

from . import published
from .described import cosine_alphas, level
from .published import TINY_OPTIONS, UNTOLD

SIGMA = torch.tensor([0.3, 20.0]).reshape(2, 1, 1, 1)
LABELS = torch.tensor([4, 8])


@pytest.fixture(scope="module")
def specs(tmp_path_factory):
    """Every published family under its name."""
    folder = tmp_path_factory.mktemp("published")
    network, judge = published.guided(folder), published.classifier(folder)
    return {
        "ddpmpp": {"name": "edm", "path": str(published.edm_unconditional(folder))},
        "adm": {"name": "edm", "path": str(published.edm_conditional(folder))},
        "edm2": {"name": "edm2", "path": str(published.edm2(folder))},
        "consistency": {"name": "consistency", "path": str(published.consistency(folder)), **TINY_OPTIONS},
        "guided": {"name": "guided_diffusion", "path": str(network), **TINY_OPTIONS},
        "classifier": {"name": "guided_diffusion", "path": str(network), "classifier": str(judge), "scale": 2.0}
        | TINY_OPTIONS,
    }


FAMILIES = ["ddpmpp", "adm", "edm2", "consistency", "guided", "classifier"]
every_family = pytest.mark.parametrize("family", FAMILIES)


def model(spec, **changes):
    return build("model", DENOISERS, {**spec, **changes})


def states():
    return SIGMA * torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))


def answer(model, x=None):
    return model.denoiser(states() if x is None else x, SIGMA, LABELS if model.num_classes else None)


class TestNames:
    @every_family
    def test_a_model_samples_with_its_predictor_s_features(self, specs, family):
        made = model(specs[family])
        assert made.shape == (3, 16, 16)
        assert made.feature_size == 64
        assert answer(made).features.shape == (2, 64)
        sampler = Sampler(made, SOLVERS["amed"](), levels(Polynomial(), 2, made.noise_range), afs=True)
        with torch.inference_mode():
            state = sampler.sample(states() / SIGMA, LABELS if made.num_classes else None)
        assert state.nfe == sampler.nfe == 3
        assert state.x.isfinite().all()
        known = analytic_first_step(states(), torch.tensor(made.noise_range.sigma_max), made.feature_size)
        assert not known.features.any()
        assert known.features.shape == (2, 64)

    @every_family
    def test_its_weights_are_frozen(self, specs, family):
        weights = list(model(specs[family]).denoiser.parameters())
        assert weights
        assert not any(tensor.requires_grad for tensor in weights)

    @every_family
    def test_a_converted_model_is_the_same_model(self, specs, family, tmp_path):
        converted = dict(specs[family])
        for key in ("path", "classifier"):
            if key in converted:
                stored = read_published(
                    Path(converted[key]), UNTOLD if TINY_OPTIONS.items() <= converted.items() else NOTHING_SAID
                )
                save_weights(tmp_path / f"{key}.json", stored.weights, stored.card)
                converted[key] = str(tmp_path / f"{key}.json")
        before, after = model(specs[family]), model(converted)
        assert before.digest == after.digest
        assert answer(before).image.equal(answer(after).image)

    def test_models_of_another_name_are_refused_with_it(self, specs):
        for family, name in (
            ("ddpmpp", "consistency"),
            ("edm2", "consistency"),
            ("consistency", "edm"),
            ("guided", "consistency"),
        ):
            right = specs[family]["name"]
            with pytest.raises(InputError, match=f"name it as '{right}'"):
                model(specs[family], name=name) if name != "edm" else model(
                    {"name": "edm", "path": specs[family]["path"]}
                )

    @pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
    def test_a_state_with_a_number_that_is_not_finite_is_refused(self, specs, tmp_path, wrong):
        state = torch.load(specs["guided"]["path"])
        state["middle_block.1.qkv.bias"][3] = wrong
        torch.save(state, tmp_path / "network.pt")
        with pytest.raises(InputError, match=r"network\.pt: .*a NaN or an infinity is in '.*'$"):
            model(specs["guided"], path=str(tmp_path / "network.pt"))

    def test_a_file_of_no_known_kind_is_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"network\.onnx: not a model's file"):
            model({"name": "edm", "path": str(tmp_path / "network.onnx")})

    def test_guided_adm_is_clipped_and_follows_its_classifier(self, specs):
        plain, guided, x = model(specs["guided"]), model(specs["classifier"]), states()
        assert answer(plain).image.abs().max() <= 1
        assert len({plain.digest, guided.digest, model(specs["classifier"], scale=3.0).digest}) == 3
        network = read_published(Path(specs["classifier"]["path"]), UNTOLD).denoiser()
        judge = read_published(Path(specs["classifier"]["classifier"]), UNTOLD).classifier()
        by_hand = Clipped(ClassifierGuidance(network, judge, 2.0))(x, SIGMA, LABELS)
        torch.testing.assert_close(answer(guided, x).image, by_hand.image, rtol=0, atol=0)
        assert not answer(guided, x).image.equal(answer(plain, x).image)
        assert guided.denoiser.cost == 1

    def test_a_model_without_classes_can_follow_a_classifier(self, specs, tmp_path):
        network = published.write_openai(tmp_path / "network.pt", replace(published.TINY, num_classes=0))
        made = model(specs["classifier"], path=str(network))
        assert made.num_classes == 10
        assert answer(made).image.isfinite().all()

    def test_a_classifier_of_other_classes_or_images_is_refused(self, specs, tmp_path):
        other = replace(published.TINY_CLASSIFIER, num_classes=7)
        judge = str(published.write_openai(tmp_path / "other.pt", other))
        with pytest.raises(InputError, match="the model knows 10 classes and the classifier 7"):
            model(specs["classifier"], classifier=judge)
        stored = read_published(Path(specs["classifier"]["classifier"]), UNTOLD)
        card = replace(stored.card, network=stored.card.network | {"img_resolution": 32})
        save_weights(tmp_path / "larger.json", stored.weights, card)
        with pytest.raises(InputError, match="of images of another shape"):
            model(specs["classifier"], classifier=str(tmp_path / "larger.json"))

    def test_a_classifier_says_for_itself_what_its_file_does_not_tell(self, specs, capsys):
        """Unless it does, its heads are those said of the network, its images and its noise are the network's."""
        path, shared = specs["classifier"]["classifier"], model(specs["classifier"])
        own = {"path": path, "head_channels": 16, "attention_order": "legacy"}
        capsys.readouterr()
        by_itself = model(specs["guided"], classifier=own, scale=2.0, num_heads=None)
        assert path not in capsys.readouterr().err
        assert by_itself.digest == shared.digest
        for other in ({"head_channels": 32}, {"attention_order": "new"}):
            assert model(specs["guided"], classifier=own | other, scale=2.0).digest != shared.digest

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"head_channels": None, "num_heads": 2}, r"16x16_classifier\.pt: give head_channels or num_heads"),
            ({"classifier": {"head_channels": 16}}, "expected a path, or a mapping with 'path'"),
            ({"classifier": {"path": "JUDGE", "heads": 16}}, "heads"),
            ({"classifier": {"path": "JUDGE", "img_resolution": 32}}, "16x16_classifier.pt: "),
            ({"classifier": {"path": "JUDGE", "noise_schedule": "cosine"}}, "trained on other noise than"),
        ],
    )
    def test_a_classifier_that_is_not_described_or_of_other_noise_is_refused(self, specs, changes, message):
        spec = specs["classifier"] | changes
        if isinstance(spec["classifier"], dict) and "path" in spec["classifier"]:
            spec["classifier"] = spec["classifier"] | {"path": specs["classifier"]["classifier"]}
        with pytest.raises(InputError, match=message) as refusal:
            build("model", DENOISERS, spec)
        assert len(str(refusal.value).splitlines()) == 1

    def test_a_classifier_beside_a_cosine_network_is_told_its_steps(self, specs):
        """By hand: its logarithm's gradient at the step that the cosine table says."""
        cosine = {"noise_schedule": "cosine"}
        made, judge = (
            model(specs["classifier"], **cosine),
            read_published(
                Path(specs["classifier"]["classifier"]), replace(UNTOLD, noise_schedule="cosine")
            ).classifier(),
        )
        alpha = cosine_alphas(1000)[400]
        sigma = float(level(alpha))
        x = (sigma * states() / SIGMA).requires_grad_()
        logits = judge.model(x * alpha.sqrt().float(), torch.full((2,), 400.0))
        (gradient,) = torch.autograd.grad(logits.log_softmax(1)[[0, 1], LABELS].sum(), x)
        plain, guided = (
            spec.denoiser.denoiser(x.detach(), torch.tensor(sigma), LABELS).image
            for spec in (model(specs["guided"], **cosine), made)
        )
        torch.testing.assert_close(guided - plain, 2.0 * sigma**2 * gradient, rtol=1e-3, atol=1e-4)

    def test_options_that_a_file_tells_itself_must_agree(self, specs, tmp_path):
        stored = read_published(Path(specs["guided"]["path"]), UNTOLD)
        save_weights(tmp_path / "network.json", stored.weights, stored.card)
        spec = specs["guided"] | {"path": str(tmp_path / "network.json")}
        assert model(spec, noise_schedule="linear", diffusion_steps=1000).digest == model(specs["guided"]).digest
        for option, value in {"noise_schedule": "cosine", "head_channels": 8, "attention_order": "legacy"}.items():
            with pytest.raises(InputError, match=rf"network\.json: known to have .*; leave out {option} {value}"):
                model(spec, **{option: value})


def computed(spec, **options):
    return computing(model(spec), Arithmetic(**options))


class TestArithmetic:
    @every_family
    @pytest.mark.parametrize(("precision", "tolerance"), [("float16", 1e-2), ("bfloat16", 8e-2)])
    def test_half_precision_is_near_and_the_same_model(self, specs, family, precision, tolerance):
        single, half = model(specs[family]), computed(specs[family], precision=precision)
        expected, got = answer(single), answer(half)
        assert {got.image.dtype, got.features.dtype} == {torch.float32}
        assert not got.image.equal(expected.image)
        torch.testing.assert_close(got.features, expected.features, rtol=0, atol=tolerance)
        torch.testing.assert_close(got.image / SIGMA, expected.image / SIGMA, rtol=0, atol=tolerance)
        assert half.digest == single.digest
        assert half.denoiser.cost == single.denoiser.cost

    def test_the_preconditioning_stays_in_single_precision(self, specs):
        """A level for the whole batch has no dimension, and would give way to the precision of the network's answer."""
        half, level = computed(specs["consistency"], precision="bfloat16"), torch.tensor(0.3)
        alike = half.denoiser(states(), level.expand(2, 1, 1, 1), None).image
        torch.testing.assert_close(half.denoiser(states(), level, None).image, alike, rtol=0, atol=0)

    @every_family
    def test_channels_side_by_side_give_the_same_numbers(self, specs, family):
        plain, last = model(specs[family]), computed(specs[family], channels_last=True)
        kernels = [weights for weights in last.denoiser.parameters() if weights.ndim == 4 and weights.shape[-1] > 1]
        assert any(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
        torch.testing.assert_close(answer(last).image, answer(plain).image, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:FutureWarning")  # torch's own, on first use
class TestDerivatives:
    @pytest.mark.parametrize("family", ["ddpmpp", "adm", "consistency", "guided"])
    def test_both_modes_agree(self, specs, family):
        denoiser = model(specs[family]).denoiser.double()
        labels = LABELS if family in ("adm", "guided") else None
        generator = torch.Generator().manual_seed(5)
        direction = torch.randn(2, 3, 16, 16, generator=generator, dtype=torch.float64)

        def both(x):
            said = denoiser(x, SIGMA.double(), labels)
            return said.image, said.features

        said, moved = torch.func.jvp(both, (states().double() / 10,), (direction,))
        (pulled,) = torch.func.vjp(both, states().double() / 10)[1](said)
        forward = sum((a * b).sum() for a, b in zip(said, moved, strict=True))
        torch.testing.assert_close(forward, (pulled * direction).sum())

    def test_a_student_can_learn_through_the_guidance(self, specs):
        """The slope of a slope, against a difference of slopes."""
        denoiser = model(specs["classifier"]).denoiser.denoiser.double()
        x, step = states().double(), 1e-5
        direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        moved = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(denoiser(moved, SIGMA.double(), LABELS).image.sum(), moved)
        ahead, behind = (denoiser(x + side * step * direction, SIGMA.double(), LABELS).image for side in (1, -1))
        torch.testing.assert_close((slope * direction).sum(), (ahead - behind).sum() / (2 * step), rtol=1e-5, atol=1e-5)


class TestPooling:
    def test_features_are_averaged_over_neighbours_where_it_is_asked_for(self, specs):
        plain, small = model(specs["ddpmpp"]), model({"name": "pooled", "of": specs["ddpmpp"], "resolution": 4})
        full, got = answer(plain), answer(small)
        assert (plain.feature_size, small.feature_size) == (64, 16)
        expected = full.features.reshape(2, 4, 2, 4, 2).mean((2, 4)).flatten(1)
        torch.testing.assert_close(got.features, expected)
        assert got.image.equal(full.image)
        assert small.digest != plain.digest
        assert small.denoiser.cost == plain.denoiser.cost

    @pytest.mark.parametrize("resolution", [0, 3, 16])
    def test_a_resolution_that_does_not_divide_is_refused(self, specs, resolution):
        with pytest.raises(InputError, match=rf"64 features cannot be averaged down to {resolution}x{resolution}"):
            model({"name": "pooled", "of": specs["ddpmpp"], "resolution": resolution})


COMPILED = """
import sys
import torch
from amed_lightning.config import build
from amed_lightning.denoisers.registry import DENOISERS
for path in sys.argv[1:]:
    model = build("model", DENOISERS, {"name": "edm", "path": path})
    x, sigma = torch.randn(2, 3, 16, 16), torch.tensor(0.7)
    labels = torch.tensor([1, 2]) if model.num_classes else None
    compiled = torch.compile(model.denoiser, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, sigma, labels).image, model.denoiser(x, sigma, labels).image)
"""


@pytest.mark.slow
def test_a_network_compiles_in_one_piece(specs):
    """In a process of its own, because checking shapes at each call cuts it to pieces."""
    command = [sys.executable, "-W", "ignore", "-c", COMPILED, specs["ddpmpp"]["path"], specs["adm"]["path"]]
    subprocess.run(command, check=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})


@pytest.mark.gpu
@every_family
def test_a_device_gives_the_same_numbers(specs, family, device):
    """Up to TF32, in which convolutions run there."""
    made = model(specs[family])
    expected = answer(made).image
    made.to(device)
    labels = LABELS.to(device) if made.num_classes else None
    got = made.denoiser(states().to(device), SIGMA.to(device), labels).image.cpu()
    torch.testing.assert_close(got / SIGMA, expected / SIGMA, rtol=0, atol=1e-2)
