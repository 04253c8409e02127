"""Text to image by transformers: cards, recipes and the suite, on tiny files of the published layouts."""

import copy
from pathlib import Path

import diffusers
import pytest
import torch

from amed_lightning.bench.forecast import estimates
from amed_lightning.bench.needed import require_files
from amed_lightning.bench.plan import plan
from amed_lightning.bench.suite import load_suite
from amed_lightning.config import InputError, complete
from amed_lightning.denoisers.registry import DENOISERS, load
from amed_lightning.denoisers.zoo.card import load_card
from amed_lightning.noise.schedules import SCHEDULES
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import build_sampler, learned_path
from amed_lightning.sampling.sampler import sample_seeds
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.registry import SOLVERS

from ..denoisers import transformers
from ..denoisers.zoo.cards import TRANSFORMERS
from ..recipes import content_of
from . import shrunken
from .command import call

pytestmark = pytest.mark.usefixtures("unchecked")

ROOT = Path(__file__).parents[2]
SUITE = load_suite(ROOT / "benchmarks" / "t2i.yaml")
RECIPES = {name: content_of(f"{name}/union") for name in TRANSFORMERS}
GUIDANCE = {"sd35_medium": 4.5, "flux_dev": 3.5, "sana": 4.5}
EVALUATIONS = (3, 4, 5, 6, 8)
COST = {name: load_card(name).facts.cost for name in TRANSFORMERS}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Cards of tiny transformers, and the cache that has their prompts."""
    zoo, cache = tmp_path_factory.mktemp("zoo"), tmp_path_factory.mktemp("cache")
    shrunken.shrink(zoo, cache, TRANSFORMERS)
    return zoo, cache


@pytest.fixture
def _tiny(places, tmp_path, monkeypatch):
    shrunken.stand_in(monkeypatch, *places, tmp_path)


class TestCards:
    @pytest.mark.parametrize("name", TRANSFORMERS)
    def test_it_names_the_hub_s_folder_and_the_published_guidance(self, name):
        model = load_card(name).model
        owner, _, folder = model["path"].partition("/")
        assert owner
        assert folder
        assert model["guidance"] == GUIDANCE[name]

    def test_parameters_are_those_of_the_published_sizes(self):
        sd35 = {"num_layers": 24, "num_attention_heads": 24, "caption_projection_dim": 1536, "pos_embed_max_size": 384}
        with torch.device("meta"):
            networks = {
                "sd35_medium": diffusers.SD3Transformer2DModel(
                    **sd35, dual_attention_layers=tuple(range(13)), qk_norm="rms_norm"
                ),
                "flux_dev": diffusers.FluxTransformer2DModel(guidance_embeds=True),
                "sana": diffusers.SanaTransformer2DModel(),
            }
        for name, network in networks.items():
            card = load_card(name)
            assert card.parameters == sum(weights.numel() for weights in network.parameters())
            channels = network.config.in_channels // (4 if name == "flux_dev" else 1)
            assert (channels, network.config.get("sample_size", 128)) == card.facts.shape[:2]

    @pytest.mark.usefixtures("_tiny")
    @pytest.mark.parametrize("name", TRANSFORMERS)
    def test_a_folder_of_that_layout_is_the_model_that_its_card_says(self, name):
        model = load({"name": "pretrained", "card": name})
        assert model.denoiser.cost == COST[name]
        assert model.prompts is not None
        assert model.prompts.evaluation == ("a dog", "a cat")

    @pytest.mark.usefixtures("_tiny")
    def test_a_folder_of_another_shift_is_refused(self, tmp_path):
        other = transformers.sd3(tmp_path / "other", shift=2.0)
        with pytest.raises(InputError, match=r"card 'sd35_medium': .* sigma_min is 0.002002, not 0.003003"):
            load({"name": "pretrained", "card": "sd35_medium", "overrides": {"path": str(other)}})


class TestRecipes:
    def test_they_differ_from_that_of_ms_coco_in_model_levels_and_batches_alone(self):
        for name, found in RECIPES.items():
            expected = copy.deepcopy(content_of("ms_coco/union"))
            student, teacher = expected["model"]["init_args"]["student"], expected["data"]["init_args"]["teacher"]
            student |= {"model": {"name": "pretrained", "card": name}, "nfe": 5 * COST[name]}
            student["schedule"] = {"name": "flow"}
            teacher["batch_size"] = 4
            expected["trainer"]["default_root_dir"] = f"runs/{name}/union-{{nfe}}"
            assert found == expected

    @pytest.mark.usefixtures("unchecked", "_tiny")
    @pytest.mark.parametrize(
        "name", [pytest.param(name, marks=[] if name == "flux_dev" else [pytest.mark.slow]) for name in TRANSFORMERS]
    )
    def test_a_table_takes_a_step_and_samples_with_the_network_runs_that_are_asked_for(self, name, tmp_path):
        nfe = 3 * COST[name]
        assert call("fit", f"{name}/union-{nfe}", *self.short()) == 0
        student = RECIPES[name]["model"]["init_args"]["student"] | {"nfe": nfe}
        student["solver"] = student["solver"] | {
            "learned": str(tmp_path / "runs" / name / f"union-{nfe}" / "table.json")
        }
        sampler = build_sampler(SamplerConfig(**student))
        (state,) = sample_seeds(sampler, Seeds(Stream.evaluation, 0, 2), 2, torch.device("cpu"))
        assert state.nfe == nfe == sampler.nfe
        assert state.x.isfinite().all()

    def short(self):
        once = ("max_epochs", "limit_train_batches", "limit_val_batches", "log_every_n_steps")
        options = [f"--trainer.{option}=1" for option in once] + ["--trainer.accelerator=cpu"]
        options += [f"--data.{option}=4" for option in ("trajectories", "validation_trajectories", "batch_size")]
        options += ["--model.first_trajectories=4", "--model.first_epochs=1"]
        return [*options, "--data.teacher.inner_levels=6"]


class TestSuite:
    def test_every_model_has_a_dataset_scored_as_the_others(self):
        assert [dataset.name for dataset in SUITE.datasets] == ["sd35_medium", "flux_dev", "sana"]
        for dataset in SUITE.datasets:
            assert dataset.model == {"name": "pretrained", "card": dataset.name}
            assert (dataset.detector, dataset.dataset) == (
                {"name": "inception"},
                {"name": "published", "card": "ms_coco"},
            )
        names = [metric if isinstance(metric, str) else metric["name"] for metric in SUITE.metrics]
        assert names == ["clip_score", "fd_dinov2", "fid"]

    def test_a_dry_run_without_weights_knows_all_but_the_time(self, tmp_path, monkeypatch):
        monkeypatch.setenv("AMED_CACHE", str(tmp_path))
        monkeypatch.setenv("AMED_OFFLINE", "1")
        monkeypatch.chdir(tmp_path)
        for expected in estimates(SUITE, torch.device("cpu")):
            assert expected.unknown.startswith("not timed: ")
            cost = COST[expected.dataset]
            assert expected.cost == cost
            assert len({cell.id for cell in expected.cells}) == len(expected.cells) == 4 * len(EVALUATIONS)
            assert expected.network_runs == 4 * sum(EVALUATIONS) * cost * 5000
            assert {cell.intervals(cost) for cell in expected.cells} == set(EVALUATIONS)
            solvers = [cell.rule["name"] for cell in expected.cells if cell.learned is None]
            assert sorted(set(solvers)) == ["dpm_solver_pp", "euler", "ipndm"]
            assert not any(cell.lacks_thresholding for cell in expected.cells)

    @pytest.mark.usefixtures("_tiny")
    def test_a_dry_run_where_the_weights_are_times_them(self):
        for expected in estimates(SUITE, torch.device("cpu")):
            assert (expected.unknown, expected.hours is not None) == ("", True)

    def test_what_is_missing_is_what_the_recipes_make(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        missing = [cell for cell in plan(SUITE) if cell.learned is not None]
        with pytest.raises(InputError) as refusal:
            require_files(missing)
        for name in TRANSFORMERS:
            for nfe in (count * COST[name] for count in EVALUATIONS):
                fit = f"amed-lightning fit {name}/union-{nfe}"
                assert f"runs/{name}/union-{nfe}/table.json ({fit})" in str(refusal.value)

    def test_tables_are_for_the_use_that_the_recipes_export_them_for(self):
        for cell in plan(SUITE):
            if cell.learned is not None:
                student = RECIPES[cell.dataset]["model"]["init_args"]["student"]
                assert complete("model", DENOISERS, cell.model) == complete("model", DENOISERS, student["model"])
                assert cell.rule == complete("solver", SOLVERS, student["solver"], hidden=["placer"])
                mine, its = (complete("schedule", SCHEDULES, spec) for spec in (cell.schedule, student["schedule"]))
                assert (mine, cell.afs) == (its, student["afs"])
                assert learned_path(cell.solver) == Path(f"runs/{cell.dataset}/union-{cell.nfe}/table.json")
