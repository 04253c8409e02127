"""A sample is a function of its seed and the sampler; what does not fit together is refused in one line."""

import re
from dataclasses import replace

import pytest
import torch

from amed_lightning.amed.files import load_learned, save_learned
from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.config import InputError, build
from amed_lightning.denoisers.prompts import PromptLists
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.flow.probability_flow import ProbabilityFlow, analytic_first_step
from amed_lightning.noise.schedules import Discrete, levels
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import SamplerParts, build_sampler, learned_path
from amed_lightning.sampling.sampler import repeated_prompts, require_planned_runs, sample_seeds
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.placement import FixedPlacement
from amed_lightning.solvers.registry import SOLVERS, network_runs
from amed_lightning.solvers.state import trajectory

from ..noise.found import LEVELS, write_found
from .models import mixture, random_network, watched, within_table

CPU = torch.device("cpu")
EXACT = {"name": "anisotropic_gaussian"}
BATCH = 4


def config(**changes):
    plain = {"model": EXACT, "solver": {"name": "amed"}, "schedule": {"name": "logsnr"}, "num_intervals": 3}
    return SamplerConfig(**(plain | changes))


def images(sampler, start, stop, **options):
    batches = sample_seeds(sampler, Seeds(Stream.evaluation, start, stop), BATCH, CPU, **options)
    return torch.cat([state.x for state in batches])


@pytest.fixture(params=[0, 3], ids=["without labels", "with labels"])
def network(request, tmp_path):
    return build("model", DENOISERS, random_network(tmp_path, request.param))


def test_prompts_that_repeat_are_said_to_repeat():
    lists = PromptLists(training=("a",), evaluation=("b", "c", "d"))
    plain = build("model", DENOISERS, EXACT)
    seeds = [Seeds(Stream.evaluation, *ends) for ends in ((0, 3), (2, 5), (0, 4))]
    said = [repeated_prompts(replace(plain, prompts=lists), each) for each in seeds]
    assert said[:2] == [[], []]
    assert said[2] == ["4 images of 3 prompts, which repeat: their scores are not those of as many prompts"]
    assert repeated_prompts(plain, seeds[2]) == []


class TestSeeds:
    @pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 6), (4, 12), (8, 11), (4, 5)])
    def test_an_image_has_the_same_bits_in_every_range_that_puts_it_at_the_same_place_of_a_batch(
        self, network, start, stop
    ):
        sampler = build_sampler(config(), network)
        assert images(sampler, start, stop).equal(images(sampler, 0, 12)[start:stop])

    def test_an_image_hardly_changes_at_another_place_of_a_batch(self, network):
        sampler = build_sampler(config(), network)
        torch.testing.assert_close(images(sampler, 3, 9), images(sampler, 0, 12)[3:9], rtol=0, atol=1e-4)

    def test_images_of_other_seeds_differ(self, network):
        assert len(images(build_sampler(config(), network), 0, 12).unique(dim=0)) == 12

    def test_every_network_run_has_a_whole_batch_and_the_filling_is_dropped(self):
        model, calls = watched(mixture())
        sizes = [
            len(state.x)
            for state in sample_seeds(build_sampler(config(), model), Seeds(Stream.evaluation, 0, 10), BATCH, CPU)
        ]
        assert sizes == [4, 4, 2]
        assert calls.sizes == [BATCH] * (3 * 6)

    def test_an_image_starts_from_the_noise_and_label_of_its_seed(self, network):
        seeds = Seeds(Stream.evaluation, 4, 8)
        sampler = build_sampler(config(), network)
        sigmas = sampler.sigmas
        flow = ProbabilityFlow(network.denoiser, network.condition_for(seeds))
        x = seeds.noise(network.shape) * sigmas[0].float()
        with torch.inference_mode():
            *_, last = trajectory(sampler.solver, flow, x, sigmas)
        assert images(sampler, 4, 8).equal(last.x)

    def test_samples_carry_no_gradient(self):
        (state,) = sample_seeds(build_sampler(config(), mixture()), Seeds(Stream.evaluation, 0, 2), BATCH, CPU)
        assert state.x.is_inference()
        assert (state.known, state.history) == (None, ())


class TestClasses:
    @pytest.fixture
    def labelled(self, tmp_path):
        return build("model", DENOISERS, random_network(tmp_path, label_dim=3))

    @pytest.mark.parametrize(("start", "stop"), [(0, 7), (3, 6), (5, 6)])
    def test_seeds_take_the_labels_in_turn_whatever_the_range(self, labelled, start, stop):
        model, calls = watched(labelled)
        images(build_sampler(config(), model), start, stop, classes=(2, 0, 1))
        asked = torch.cat(calls.conditions[:: len(calls.sizes) // -(-(stop - start) // BATCH)])
        expected = [(2, 0, 1)[seed % 3] for seed in range(start, stop)]
        filling = len(asked) - len(expected)
        assert asked.tolist() == expected + filling * [expected[-1]]

    def test_one_label_for_all_gives_the_images_of_that_label(self, labelled):
        sampler = build_sampler(config(), labelled)
        noise = Seeds(Stream.evaluation, 0, BATCH).noise(labelled.shape)
        with torch.inference_mode():
            expected = sampler.sample(noise, torch.full((BATCH,), 2)).x
        assert images(sampler, 0, BATCH, classes=(2,)).equal(expected)
        assert not images(sampler, 0, BATCH, classes=(1,)).allclose(expected, atol=1e-3)

    def test_without_them_each_seed_draws_its_own(self, labelled):
        model, calls = watched(labelled)
        images(build_sampler(config(), model), 0, 12)
        drawn = torch.cat(calls.conditions[::6])
        assert drawn.equal(Seeds(Stream.evaluation, 0, 12).labels(labelled.shape, 3))
        assert drawn.unique().tolist() == [0, 1, 2]


class TestNetworkRuns:
    @pytest.mark.parametrize("placer", ["none", {"fixed": 0.4}], ids=["plain", "placed"])
    @pytest.mark.parametrize("afs", [False, True])
    @pytest.mark.parametrize("name", SOLVERS)
    def test_the_state_counts_the_calls_and_the_analytic_first_step_saves_one(self, name, afs, placer):
        model, calls = watched(mixture())
        sampler = build_sampler(config(solver={"name": name, "placer": placer}, afs=afs), model)
        state = sampler.sample(Seeds(Stream.evaluation, 0, BATCH).noise(model.shape))
        doubled = name in ("heun", "dpm_solver_2", "amed") or placer != "none"
        assert state.nfe == len(calls.sizes) == 3 * (1 + doubled) - afs
        assert network_runs(sampler.solver, 3, afs) == state.nfe

    @pytest.mark.parametrize("afs", [False, True])
    def test_the_sampler_knows_its_own_count_and_denoising_to_zero_costs_one(self, afs):
        for extra in (False, True):
            model, calls = watched(mixture())
            sampler = build_sampler(config(afs=afs, denoise_to_zero=extra), model)
            state = sampler.sample(Seeds(Stream.evaluation, 0, BATCH).noise(model.shape))
            assert sampler.nfe == state.nfe == len(calls.sizes) == 6 - afs + extra

    def test_denoising_to_zero_ends_with_the_answer_at_the_last_level(self):
        model = mixture()
        noise = Seeds(Stream.evaluation, 0, BATCH).noise(model.shape)
        plain, denoised = (
            build_sampler(config(denoise_to_zero=extra), model).sample(noise).x for extra in (False, True)
        )
        assert denoised.equal(model.denoiser(plain, torch.tensor(0.002, dtype=torch.float64), None).image)
        assert not denoised.equal(plain)

    def test_nothing_is_known_at_the_start_without_the_analytic_first_step(self):
        assert build_sampler(config()).known_at_start(torch.ones(2, 1, 4, 4)) is None

    def test_the_analytic_first_step_is_taken_at_the_first_level(self):
        model = mixture()
        sampler = build_sampler(config(afs=True), model)
        x = 80 * torch.randn(2, 1, 4, 4)
        known = sampler.known_at_start(x)
        expected = analytic_first_step(x, torch.tensor(80.0, dtype=torch.float64), 3)
        assert known.derivative.equal(expected.derivative)
        assert known.features.equal(torch.zeros(2, 3))
        assert known.sigma == 80


class TestOwnStart:
    """The published discrete schedule with rho 2 starts at 7.2349 where the model's largest level is 10."""

    def parts(self, model=None, **options):
        changes = {"afs": True} | options
        schedule = {"name": "discrete", "rho": 2.0} | changes.pop("schedule", {})
        return SamplerParts(config(solver={"name": "euler"}, schedule=schedule, **changes), model or within_table())

    @pytest.mark.parametrize("afs", [False, True])
    def test_noise_and_analytic_first_step_are_those_of_its_first_level(self, afs):
        parts = self.parts(afs=afs)
        first, *others = parts.sigmas.tolist()
        assert first == pytest.approx(7.23490375, abs=1e-8)
        noise = Seeds(Stream.evaluation, 0, BATCH).noise(parts.model.shape)
        x, sigma = first * noise, first
        for sigma_next in others:
            analytic = afs and sigma == first
            image = parts.model.denoiser(x, torch.tensor(sigma, dtype=torch.float64), None).image
            x = x + (sigma_next - sigma) * (x / (1 + sigma**2) ** 0.5 if analytic else (x - image) / sigma)
            sigma = sigma_next
        torch.testing.assert_close(parts.sampler(None).sample(noise).x, x, rtol=1e-5, atol=1e-5)

    def test_a_predictor_for_one_form_does_not_serve_the_other(self, tmp_path):
        published, textbook = (self.parts(schedule={"form": form}) for form in ("published", "textbook"))
        assert published.purpose["sigmas"][0] == pytest.approx(7.23490375, abs=1e-8)
        save_learned(tmp_path / "p.json", AMEDPredictor(1), published.purpose, {})
        assert load_learned(tmp_path / "p.json", published.purpose)
        with pytest.raises(InputError, match="made for sigmas"):
            load_learned(tmp_path / "p.json", textbook.purpose)

    def test_a_start_above_the_models_largest_level_is_refused(self, tmp_path):
        beyond = build("model", DENOISERS, random_network(tmp_path))
        with pytest.raises(
            InputError, match=r"starts at 704\.403, above the model's largest level 80; take form: textbook"
        ):
            self.parts(beyond)
        assert self.parts(beyond, schedule={"form": "textbook"}).sigmas[0] == 80


class TestFound:
    """Levels serve the model, the number of intervals and the first step that they were found for."""

    def built(self, path, **changes):
        schedule = {"name": "gits", "path": str(path)}
        return SamplerParts(config(**{"solver": {"name": "euler"}, "schedule": schedule, "afs": True} | changes))

    @pytest.fixture
    def path(self, tmp_path):
        return write_found(tmp_path / "gits.json", model=build("model", DENOISERS, EXACT).digest, afs=True)

    def test_their_own_use_is_served_whatever_the_placer(self, path):
        assert self.built(path).sigmas.tolist() == list(LEVELS)
        assert self.built(path, solver={"name": "euler", "placer": {"fixed": 0.4}}).sigmas.tolist() == list(LEVELS)

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"model": EXACT | {"height": 2, "width": 8}}, 'found for model ".*", not ".*"'),
            ({"num_intervals": 6}, "found for num_intervals 3, not 6"),
            ({"num_intervals": 4}, "the list has 3 intervals, which 4 do not refine"),
            ({"afs": False}, "found for afs true, not false"),
            ({"solver": {"name": "ipndm"}}, 'found for solver {"name":"euler"}, not {"name":"ipndm","order":4}'),
        ],
    )
    def test_another_is_refused_by_what_differs(self, path, changes, named):
        with pytest.raises(InputError, match=rf"gits\.json.*{named}") as refusal:
            self.built(path, **changes)
        assert "\n" not in str(refusal.value)

    def test_without_an_analytic_first_step_no_level_depends_on_the_solver(self, path):
        write_found(path, model=build("model", DENOISERS, EXACT).digest)
        assert self.built(path, solver={"name": "ipndm"}, afs=False).sigmas.tolist() == list(LEVELS)


class TestBuilding:
    def test_a_placer_of_none_is_no_placer(self):
        left_out, none = (
            build_sampler(config(solver=spec)) for spec in ({"name": "euler"}, {"name": "euler", "placer": "none"})
        )
        assert left_out.solver == none.solver

    @pytest.mark.parametrize(
        ("solver", "nfe", "more", "intervals"),
        [
            ({"name": "euler"}, 4, {}, 4),
            ({"name": "euler"}, 4, {"afs": True, "denoise_to_zero": True}, 4),
            ({"name": "heun"}, 5, {"afs": True}, 3),
            ({"name": "euler", "placer": {"fixed": 0.5}}, 4, {}, 2),
        ],
    )
    def test_intervals_follow_from_network_runs(self, solver, nfe, more, intervals):
        parts = SamplerParts(config(solver=solver, num_intervals=None, nfe=nfe, **more))
        assert parts.num_intervals == intervals
        assert parts.configured().nfe == nfe

    def test_they_do_from_what_a_placer_yet_to_be_learned_will_take(self):
        assert SamplerParts(config(solver={"name": "euler"}, num_intervals=None, nfe=4), placed=True).num_intervals == 2

    @pytest.mark.parametrize("ratio", [0.25, 1])
    def test_a_fixed_ratio_reaches_the_solver(self, ratio):
        assert build_sampler(
            config(solver={"name": "amed", "placer": {"fixed": ratio}})
        ).solver.placer == FixedPlacement(float(ratio))

    def test_the_discrete_schedule_reads_the_table_of_the_model(self, network):
        sigmas = build_sampler(config(schedule={"name": "discrete"}), network).sigmas
        assert sigmas.equal(levels(Discrete(), 3, network.noise_range))

    def test_the_path_of_a_predictor_is_found_only_where_one_is_named(self):
        for spelled in (
            {"learned": "a/b.json"},
            {"learned": "a/b.json", "placer": "none"},
            {"placer": {"predictor": "a/b.json"}},
            {"placer": {"coefficients": "a/b.json"}},
        ):
            assert learned_path({"name": "amed", **spelled}).parts == ("a", "b.json")
        assert [
            learned_path({"name": "amed", **rest}) for rest in ({}, {"placer": "none"}, {"placer": {"fixed": 1}})
        ] == [
            None,
            None,
            None,
        ]


WRONG = {
    "unknown solver": (
        {"solver": {"name": "amde"}},
        r"unknown solver 'amde': use one of euler, .*, amed, or the import path of your own class",
    ),
    "solver without a name": ({"solver": {"order": 3}}, r"solver: expected a mapping with a 'name' \(one of euler, "),
    "unknown solver option": (
        {"solver": {"name": "ipndm", "oder": 3}},
        r"solver 'ipndm': .*\boder\b.*: use one of order; did you mean 'order'",
    ),
    "refused solver option": (
        {"solver": {"name": "ipndm", "order": 9}},
        r"solver 'ipndm': order 9 does not exist; use 1",
    ),
    "option of another type": (
        {"solver": {"name": "ipndm", "order": "high"}},
        r"solver 'ipndm': order: expected a whole number",
    ),
    "exponent of zero": ({"schedule": {"name": "polynomial", "rho": 0}}, r"schedule .*'rho': 0"),
    "unknown schedule": ({"schedule": {"name": "cosine"}}, r"unknown schedule 'cosine': use one of polynomial, "),
    "unknown schedule option": (
        {"schedule": {"name": "polynomial", "roh": 7}},
        r"schedule 'polynomial': .*\broh\b.* use one of rho",
    ),
    "unknown model": ({"model": {"name": "digit"}}, r"unknown model 'digit': use one of digits, "),
    "discrete schedule without a table": (
        {"schedule": {"name": "discrete"}},
        r"'discrete' needs a model with a table of alphas",
    ),
    "neither intervals nor network runs": (
        {"num_intervals": None},
        r"^a sampler has either num_intervals or nfe; give one",
    ),
    "intervals and network runs": ({"nfe": 6}, r"either num_intervals or nfe; give one"),
    "network runs that no number of intervals takes": (
        {"num_intervals": None, "nfe": 5, "solver": {"name": "heun"}},
        r"^solver 'heun' at 5 NFE: 5 evaluations are not possible without .* nearest are 4 and 6",
    ),
    "no interval": ({"num_intervals": 0}, r"at least one interval, got 0"),
    "ratio of zero": (
        {"solver": {"name": "amed", "placer": {"fixed": 0}}},
        r"placer.fixed: .* above 0 and at most at 1",
    ),
    "ratio beyond one": ({"solver": {"name": "amed", "placer": {"fixed": 1.5}}}, r"placer.fixed: .*, got 1.5"),
    "ratio as a word": (
        {"solver": {"name": "amed", "placer": {"fixed": "half"}}},
        r"none, \{fixed: <ratio>\}; what a fit has learned ",
    ),
    "a bare number": ({"solver": {"name": "amed", "placer": 0.5}}, r"solver.placer: 0.5 is not one of none, "),
    "two placers": (
        {"solver": {"name": "amed", "placer": {"fixed": 0.5, "predictor": "p.json"}}},
        r"is not one of none, \{fixed: <ratio>\}; what a fit has learned is named as learned: <path of its .json>",
    ),
    "a placer besides what was learned": (
        {"solver": {"name": "amed", "placer": {"fixed": 0.5}, "learned": "p.json"}},
        r"solver: it has both 'learned' and a 'placer'",
    ),
    "no path": ({"solver": {"name": "amed", "learned": 3}}, r"solver\.learned: 3 is no path"),
    "another placer": ({"solver": {"name": "amed", "placer": "learned"}}, r"'learned' is not one of none, "),
    "missing predictor": (
        {"solver": {"name": "amed", "learned": "nowhere/p.json"}},
        r"nowhere/p.json: no such file; `amed-lightning fit` writes a predictor",
    ),
    "missing model file": (
        {"model": {"name": "file", "path": "nowhere/m.json"}},
        r"nowhere/m.json: no such file; a model is a .json card",
    ),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_built_is_refused_in_one_line_that_names_the_cure(changes, message):
    with pytest.raises(InputError, match=message) as refusal:
        build_sampler(config(**changes))
    assert "\n" not in str(refusal.value)


class TestPredictor:
    """A predictor made for AMED on the exact model: three intervals, log-SNR, no analytic first step."""

    @pytest.fixture
    def path(self, tmp_path):
        torch.manual_seed(3)
        path = tmp_path / "predictor.json"
        save_learned(path, AMEDPredictor(1), SamplerParts(config()).purpose, {})
        return path

    def placed(self, path, solver="amed", **options):
        return {"name": solver, "learned": str(path), **options}

    def test_its_own_use_gets_its_weights_frozen(self, path):
        placer = build_sampler(config(solver=self.placed(path))).solver.placer
        torch.manual_seed(3)
        fresh = AMEDPredictor(1)
        assert all(value.equal(fresh.state_dict()[name]) for name, value in placer.state_dict().items())
        assert not any(weights.requires_grad for weights in placer.parameters())

    def test_defaults_that_are_spelled_out_are_the_same_use(self, tmp_path):
        path = tmp_path / "plugin.json"
        short = config(solver={"name": "ipndm"}, schedule={"name": "polynomial"})
        save_learned(path, AMEDPredictor(1), SamplerParts(short).purpose, {})
        spelled = self.placed(path, "ipndm", order=4)
        assert build_sampler(config(solver=spelled, schedule={"name": "polynomial", "rho": 7})).solver.placer

    @pytest.mark.parametrize(
        ("changes", "named"),
        [
            ({"schedule": {"name": "polynomial"}}, 'schedule "logsnr", not "polynomial"'),
            ({"num_intervals": 4}, "num_intervals 3, not 4"),
            ({"afs": True}, "afs false, not true"),
            ({"model": EXACT | {"height": 2, "width": 8}}, "model "),
        ],
        ids=["schedule", "intervals", "afs", "model"],
    )
    def test_another_use_is_refused_by_what_differs(self, path, changes, named):
        with pytest.raises(InputError, match=re.escape(f"{path}: this predictor was made for {named}")) as refusal:
            build_sampler(config(solver=self.placed(path), **changes))
        assert "fit one for this use" in str(refusal.value)
        assert "\n" not in str(refusal.value)

    def test_another_solver_is_refused(self, path):
        with pytest.raises(InputError, match=re.escape('made for solver {"name":"amed"}, not {"name":"euler"}')):
            build_sampler(config(solver=self.placed(path, "euler")))


class TestDevice:
    """A device without data stands for any other: it accepts shapes and refuses to mix with the CPU."""

    def follows(self, folder, name, placer):
        device, model = torch.device("meta"), build("model", DENOISERS, random_network(folder, label_dim=3))
        sampler = SamplerParts(config(solver={"name": name}, afs=True), model).sampler(placer)
        sampler.to(device)
        (state,) = sample_seeds(sampler, Seeds(Stream.evaluation, 0, BATCH), BATCH, device)
        return state.x.device == device

    @pytest.mark.parametrize("name", SOLVERS)
    def test_levels_history_and_weights_follow_the_samples(self, tmp_path, name):
        assert self.follows(tmp_path, name, None)

    @pytest.mark.parametrize("name", ["amed", "ipndm"])
    def test_a_learned_placer_does_too(self, tmp_path, name):
        assert self.follows(tmp_path, name, AMEDPredictor(16))


@pytest.mark.parametrize("interval", [(0.1, 1.0), (0.5, 100.0)])
@pytest.mark.parametrize(("name", "nfe"), [("euler", 6), ("heun", 8), ("unipc", 8)])
def test_runs_are_counted_before_as_they_are_made_under_guidance_in_an_interval(
    network_with_labels, name, nfe, interval
):
    model = {"name": "guided", "of": network_with_labels, "scale": 2.0, "interval": list(interval)}
    sampler = build_sampler(config(model=model, solver={"name": name}, num_intervals=None, nfe=nfe))
    seeds = Seeds(Stream.evaluation, 0, 2)
    with torch.inference_mode():
        made = sampler.sample(seeds.noise(sampler.model.shape), sampler.model.condition_for(seeds)).nfe
    assert made < nfe
    with pytest.raises(InputError, match=f"{made} network runs are made where a row would say {nfe}"):
        require_planned_runs(sampler)


@pytest.fixture
def network_with_labels(tmp_path):
    return random_network(tmp_path, 3)
