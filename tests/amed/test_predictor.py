"""AMED's predictor: its size, its forward pass computed a second way, its gradients, its files."""

import json
import math

import pytest
import safetensors.torch
import torch

from amed_lightning.amed.files import load_learned, save_learned
from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.config import InputError, digest, file_digest
from amed_lightning.flow.probability_flow import Evaluation, ProbabilityFlow, analytic_first_step
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.tensors import squared_distance

from ..solvers.problems import RANGE, mixture, start

BATCH = 5
SIGMA, SIGMA_NEXT = torch.tensor(14.6, dtype=torch.float64), torch.tensor(0.7, dtype=torch.float64)
SCALES = {"ratio": (0.0, 0.0), "direction": (0.01, 0.0), "time": (0.0, 0.2), "both": (0.01, 0.2)}
every_scale = pytest.mark.parametrize("scales", SCALES.values(), ids=SCALES)
PURPOSE = {"model": "ab12", "solver": {"name": "amed"}, "schedule": {"name": "logsnr"}, "num_intervals": 3, "afs": True}


def predictor(feature_size=64, scales=(0.01, 0.2)):
    torch.manual_seed(6)
    made = AMEDPredictor(feature_size, *scales)
    for name, weights in made.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weights, std=0.3)
    return made


def answer(features, sigma=SIGMA):
    x = torch.zeros(len(features), 1, 2, 2, dtype=features.dtype)
    return Evaluation(sigma, x, x, features, 1)


def features(size=64, dtype=torch.float32):
    return torch.randn(BATCH, size, generator=torch.Generator().manual_seed(7), dtype=torch.float64).to(dtype)


def by_hand(made, row, sigma, sigma_next):
    """One sample's ratio and scales, in plain Python, from the published description."""
    weights = {name: value.double().tolist() for name, value in made.state_dict().items()}
    frequencies = ((1 / 10_000) ** (torch.arange(4, dtype=torch.float32) / 3)).tolist()

    def linear(name, values):
        products = (sum(w * v for w, v in zip(line, values, strict=True)) for line in weights[f"{name}.weight"])
        return [product + bias for product, bias in zip(products, weights[f"{name}.bias"], strict=True)]

    def sigmoid(value):
        return 1 / (1 + math.exp(-value))

    def silu(values):
        return [value * sigmoid(value) for value in values]

    def embed(level):
        angles = [level * frequency for frequency in frequencies]
        return silu(linear("map_layer0", [*map(math.sin, angles), *map(math.cos, angles)]))

    code = linear("enc_layer1", silu(linear("enc_layer0", row)))
    merged = [*code, *embed(sigma), *embed(sigma_next)]

    def scale(name, bound):
        return 1 + bound * (2 * sigmoid(*linear(name, merged)) - 1) if f"{name}.weight" in weights else 1.0

    scales = scale("fc_scale_dir", made.scale_dir), scale("fc_scale_time", made.scale_time)
    return (sigmoid(*linear("fc_r", merged)), *scales)


def entries(placement):
    """Ratio, direction scale and time scale as rows of numbers, one per sample."""
    parts = (placement.ratio, placement.direction_scale, placement.time_scale)
    return torch.stack([torch.as_tensor(part).double().reshape(-1).expand(BATCH) for part in parts], 1)


class TestArchitecture:
    @pytest.mark.parametrize(
        ("scales", "published"), [((0.0, 0.0), 8929), ((0.01, 0.0), 8950), ((0.0, 0.2), 8950), ((0.01, 0.2), 8971)]
    )
    def test_it_has_the_published_number_of_weights(self, scales, published):
        assert sum(weights.numel() for weights in AMEDPredictor(64, *scales).parameters()) == published

    def test_it_starts_as_published(self):
        torch.manual_seed(0)
        fresh = AMEDPredictor(64, 0.01, 0.2)
        assert not any(weights.any() for name, weights in fresh.named_parameters() if name.endswith("bias"))
        for layer in (fresh.enc_layer0, fresh.enc_layer1):
            spread = layer.weight.std() * math.sqrt(layer.in_features)
            assert spread.item() == pytest.approx(1, abs=0.1)
            assert layer.weight.abs().max() * math.sqrt(layer.in_features) > 2
        bound = math.sqrt(6 / (8 + 8))
        assert 0.9 * bound < fresh.map_layer0.weight.abs().max() <= bound

    def test_other_bottlenecks_change_the_first_layer_alone(self):
        shapes = [{name: value.shape for name, value in AMEDPredictor(size).state_dict().items()} for size in (64, 16)]
        assert {name for name in shapes[0] if shapes[0][name] != shapes[1][name]} == {"enc_layer0.weight"}


class TestForward:
    @every_scale
    @pytest.mark.parametrize(
        ("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float64, 1e-12)], ids=["single", "double"]
    )
    def test_it_is_the_published_description(self, scales, dtype, tolerance):
        """In double precision too, the table of frequencies is the one computed in single."""
        made, seen = predictor(scales=scales).to(dtype), features(dtype=dtype)
        expected = [by_hand(made, row, SIGMA.item(), SIGMA_NEXT.item()) for row in seen.double().tolist()]
        with torch.no_grad():
            placement = made(answer(seen), SIGMA, SIGMA_NEXT)
        expected = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(entries(placement), expected, rtol=0, atol=tolerance)

    def test_each_part_of_the_placement_has_a_value_per_sample(self):
        placement = predictor()(answer(features()), SIGMA, SIGMA_NEXT)
        for part in (placement.ratio, placement.direction_scale, placement.time_scale):
            assert part.shape == (BATCH, 1, 1, 1)
            assert len(part.unique()) == BATCH

    def test_levels_given_per_sample_are_the_same_levels(self):
        made, here = predictor(), answer(features())
        spread = (level.expand(BATCH, 1, 1, 1) for level in (SIGMA, SIGMA_NEXT))
        assert entries(made(here, *spread)).equal(entries(made(here, SIGMA, SIGMA_NEXT)))

    def test_both_levels_matter_and_so_does_their_order(self):
        made, here = predictor(), answer(features())
        other = torch.tensor(1.0, dtype=torch.float64)
        pairs = [(SIGMA, SIGMA_NEXT), (SIGMA_NEXT, SIGMA), (SIGMA, other), (other, SIGMA_NEXT)]
        assert len({tuple(made(here, *pair).ratio.flatten().tolist()) for pair in pairs}) == len(pairs)

    def test_permuting_the_features_over_the_batch_permutes_the_placements(self):
        made, order = predictor(), torch.tensor([3, 0, 4, 1, 2])
        straight = entries(made(answer(features()), SIGMA, SIGMA_NEXT))
        permuted = entries(made(answer(features()[order]), SIGMA, SIGMA_NEXT))
        torch.testing.assert_close(permuted, straight[order], rtol=0, atol=1e-7)
        assert not permuted.allclose(straight, rtol=0, atol=1e-4)

    def test_a_range_of_ratios_is_covered_as_the_whole_interval_is(self):
        whole, within = predictor(), AMEDPredictor(64, 0.01, 0.2, ratio_range=(0.1, 0.7))
        within.load_state_dict(whole.state_dict())
        expected, found = (entries(made(answer(features()), SIGMA, SIGMA_NEXT)) for made in (whole, within))
        torch.testing.assert_close(found[:, 0], 0.1 + 0.6 * expected[:, 0])
        assert found[:, 1:].equal(expected[:, 1:])

    @pytest.mark.parametrize("bias", [-8.0, 0.0, 8.0])
    def test_the_ratio_stays_inside_the_interval_and_the_scales_inside_their_bounds(self, bias):
        made = predictor()
        for head in (made.fc_r, made.fc_scale_dir, made.fc_scale_time):
            torch.nn.init.constant_(head.bias, bias)
        ratio, direction, time = entries(made(answer(features()), SIGMA, SIGMA_NEXT)).unbind(1)
        side = 0 if bias == 0 else math.copysign(1, bias)
        assert ((ratio > 0) & (ratio < 1)).all()
        for scale, bound in ((direction, 0.01), (time, 0.2)):
            assert ((scale - 1).abs() <= bound * (1 + 1e-4)).all()
            if side:
                torch.testing.assert_close(scale, torch.full_like(scale, 1 + side * bound), rtol=0, atol=0.02 * bound)

    @every_scale
    def test_a_scale_without_a_bound_is_exactly_one(self, scales):
        placement = predictor(scales=scales)(answer(features()), SIGMA, SIGMA_NEXT)
        for scale, bound in zip((placement.direction_scale, placement.time_scale), scales, strict=True):
            assert isinstance(scale, torch.Tensor) if bound else scale == 1.0

    def test_the_analytic_first_step_gives_every_sample_the_same_placement(self):
        here = analytic_first_step(torch.randn(BATCH, 1, 2, 2), SIGMA, 64)
        placed = entries(predictor()(here, SIGMA, SIGMA_NEXT))
        assert placed.equal(placed[:1].expand(BATCH, 3))


class TestGradient:
    @every_scale
    @pytest.mark.parametrize("make", SOLVERS.values(), ids=SOLVERS)
    def test_one_step_gives_every_weight_a_gradient(self, make, scales):
        made = predictor(feature_size=3, scales=scales).double()
        solver, sigmas = make(made), torch.tensor([RANGE.sigma_max, RANGE.sigma_min], dtype=torch.float64)
        state = solver.step(ProbabilityFlow(mixture()), solver.init(start(), sigmas), sigmas[1])
        squared_distance(state.x, torch.zeros_like(state.x)).mean().backward()
        assert [name for name, weights in made.named_parameters() if not (weights.grad != 0).all()] == []

    def test_it_is_the_slope_of_the_loss(self):
        made = predictor(feature_size=3).double()
        sigmas = torch.tensor([RANGE.sigma_max, RANGE.sigma_min], dtype=torch.float64)
        solver = SOLVERS["amed"](made)

        def loss():
            state = solver.step(ProbabilityFlow(mixture()), solver.init(start(), sigmas), sigmas[1])
            return state.x.square().sum()

        loss().backward()
        for head in (made.fc_r, made.fc_scale_dir, made.fc_scale_time, made.map_layer0, made.enc_layer0):
            before, step = head.bias[0].item(), 1e-4
            losses = []
            for side in (-1, 1):
                with torch.no_grad():
                    head.bias[0] = before + side * step
                    losses.append(loss().item())
                    head.bias[0] = before
            assert head.bias.grad[0].item() == pytest.approx((losses[1] - losses[0]) / (2 * step), rel=1e-5)


class TestFiles:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "predictor.json"
        save_learned(path, predictor(), PURPOSE, {"trajectories": 10})
        return path

    @every_scale
    @pytest.mark.parametrize("size", [64, 3])
    def test_it_comes_back_frozen_and_equal(self, tmp_path, scales, size):
        made, path = predictor(size, scales), tmp_path / "predictor.json"
        save_learned(path, made, PURPOSE, {})
        loaded = load_learned(path, PURPOSE)
        assert (loaded.scale_dir, loaded.scale_time) == scales
        assert not loaded.training
        assert not any(weights.requires_grad for weights in loaded.parameters())
        torch.testing.assert_close(loaded.state_dict(), made.state_dict(), rtol=0, atol=0)
        seen = answer(features(size))
        assert entries(loaded(seen, SIGMA, SIGMA_NEXT)).equal(entries(made(seen, SIGMA, SIGMA_NEXT)))

    def test_saving_leaves_the_predictor_learning_and_only_two_files(self, path):
        made = predictor()
        save_learned(path, made, PURPOSE, {})
        assert all(weights.requires_grad for weights in made.parameters())
        assert {file.name for file in path.parent.iterdir()} == {"predictor.json", "predictor.safetensors"}

    def test_its_description_tells_how_it_was_made(self, path):
        content = json.loads(path.read_text())
        assert (content["purpose"], content["training"]) == (PURPOSE, {"trajectories": 10})

    @pytest.mark.parametrize(
        ("key", "other"),
        [
            ("model", "cd34"),
            ("solver", {"name": "amed", "order": 2}),
            ("schedule", {"name": "polynomial"}),
            ("num_intervals", 4),
            ("afs", False),
            ("guidance", 7.5),
        ],
    )
    def test_another_use_is_refused_and_named(self, path, key, other):
        with pytest.raises(InputError, match=rf"predictor\.json: this predictor was made for {key} ") as refusal:
            load_learned(path, PURPOSE | {key: other})
        assert json.dumps(other, separators=(",", ":")) in str(refusal.value)
        assert json.dumps(PURPOSE.get(key), separators=(",", ":")) in str(refusal.value)

    def test_a_use_that_says_less_is_another_use(self, path):
        with pytest.raises(InputError, match="made for afs true, not null"):
            load_learned(path, {key: value for key, value in PURPOSE.items() if key != "afs"})

    def test_a_purpose_with_a_tuple_survives_the_file(self, tmp_path):
        path, purpose = tmp_path / "predictor.json", PURPOSE | {"schedule": {"name": "own", "ends": (0.1, 2.0)}}
        save_learned(path, predictor(), purpose, {})
        assert load_learned(path, purpose).scale_time == 0.2

    @pytest.mark.parametrize(("suffix", "why"), [(".json", "no such file"), (".safetensors", "not the weights")])
    def test_a_missing_file_is_named(self, path, suffix, why):
        path.with_suffix(suffix).unlink()
        with pytest.raises(InputError, match=rf"predictor\{suffix}: {why}"):
            load_learned(path, PURPOSE)

    @pytest.mark.parametrize("position", [-1, -1000])
    def test_weights_that_were_changed_are_refused(self, path, position):
        weights = path.with_suffix(".safetensors")
        content = bytearray(weights.read_bytes())
        content[position] ^= 1
        weights.write_bytes(bytes(content))
        with pytest.raises(InputError, match=r"predictor\.safetensors: not the weights that predictor\.json describes"):
            load_learned(path, PURPOSE)

    @pytest.mark.parametrize("wrong", [math.nan, math.inf])
    def test_weights_that_are_not_finite_are_refused_though_they_are_the_described_ones(self, path, wrong):
        weights = path.with_suffix(".safetensors")
        tensors = safetensors.torch.load_file(weights)
        tensors["fc_r.bias"][0] = wrong
        weights.write_bytes(safetensors.torch.save(tensors))
        content = json.loads(path.read_text()) | {"weights_sha256": file_digest(weights)}
        content["digest"] = digest({key: content[key] for key in ("options", "purpose", "weights_sha256")})
        path.write_text(json.dumps(content))
        with pytest.raises(
            InputError, match=r"predictor\.safetensors: 'fc_r\.bias' has a NaN or an infinity; fit"
        ) as one:
            load_learned(path, PURPOSE)
        assert len(str(one.value).splitlines()) == 1

    @pytest.mark.parametrize(("key", "wrong"), [("scale_dir", math.nan), ("scale_time", math.inf)])
    def test_a_description_with_a_number_that_is_not_finite_is_refused(self, path, key, wrong):
        content = json.loads(path.read_text())
        content["options"][key] = wrong
        path.write_text(json.dumps(content))
        with pytest.raises(
            InputError, match=r"predictor\.json: not a description of what was learned: .* is not finite"
        ):
            load_learned(path, PURPOSE)

    def test_one_that_is_not_finite_or_was_made_so_is_not_written(self, tmp_path):
        made = predictor()
        with pytest.raises(FloatingPointError, match=r"new\.json: not written, val_losses\.1 is inf"):
            save_learned(tmp_path / "new.json", made, PURPOSE, {"val_losses": [1.0, math.inf]})
        torch.nn.init.constant_(made.fc_r.bias, math.nan)
        with pytest.raises(FloatingPointError, match=r"new\.json: not written, its 'fc_r\.bias' has a NaN"):
            save_learned(tmp_path / "new.json", made, PURPOSE, {})
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("content", [b"", b"not json", b"\xff\xfe", b"[]", b"null", b"3", b'{"purpose": {}}'])
    def test_what_is_no_description_is_refused(self, path, content):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"predictor\.json: not a description of what was learned"):
            load_learned(path, PURPOSE)

    @pytest.mark.parametrize("key", ["options", "purpose", "weights_sha256", "digest"])
    def test_a_missing_entry_is_refused_and_named(self, path, key):
        content = json.loads(path.read_text())
        del content[key]
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match=rf"predictor\.json: not a description of what was learned: '{key}'"):
            load_learned(path, PURPOSE)

    @pytest.mark.parametrize(
        ("key", "value"), [("purpose", ["amed"]), ("options", {"scale_dir": 0.5}), ("digest", "00")]
    )
    def test_a_description_that_was_changed_is_refused(self, path, key, value):
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
        with pytest.raises(InputError, match=r"predictor\.json: changed since it was written"):
            load_learned(path, PURPOSE)

    def test_a_predictor_s_file_says_what_it_always_said(self, tmp_path):
        save_learned(tmp_path / "predictor.json", predictor(), PURPOSE, {})
        assert "kind" not in json.loads((tmp_path / "predictor.json").read_text())
