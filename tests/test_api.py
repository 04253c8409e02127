"""``import amed_lightning as al``: light until it is used, and what a file knows has not to be told again."""

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

import amed_lightning as al
from amed_lightning import api
from amed_lightning.amed.files import save_learned
from amed_lightning.denoisers.registry import ASSETS
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.images import generate
from amed_lightning.sampling.parts import SamplerParts, build_sampler
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.tabulated import Tabulated, table_of

from .cli.test_main import FIT, SAMPLER

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
LARGEST_ASSETS = 100_000


def expected(config, seeds=range(6)):
    """Return the images that the command makes."""
    made = generate(build_sampler(config), Seeds(Stream.evaluation, seeds.start, seeds.stop), 64, torch.device("cpu"))
    return torch.cat([batch.images for batch in made])


class TestImport:
    def test_it_brings_no_torch_and_no_part_of_the_package(self):
        told = "import sys, amed_lightning as al; dir(al); print(sorted(sys.modules))"
        done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
        brought = done.stdout
        assert "'amed_lightning'" in brought
        assert not re.search("'(torch|numpy|lightning|jsonargparse|amed_lightning[.].*?)'", brought)

    def test_every_name_is_there_and_no_other(self):
        assert al.__all__ == api.__all__
        assert all(getattr(al, name) is getattr(api, name) for name in al.__all__)
        assert set(al.__all__) <= set(dir(al))
        with pytest.raises(AttributeError, match="has no attribute 'smaple'"):
            al.smaple  # noqa: B018


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """What a fit of one epoch leaves."""
    folder = tmp_path_factory.mktemp("fit")
    (folder / "fit.yaml").write_text(yaml.safe_dump(FIT))
    options = {"trainer.default_root_dir": str(folder), "data.root": str(folder / "trajectories")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice
        return al.distill(folder / "fit.yaml", options | {"trainer.max_epochs": 1})


class TestLearned:
    def test_a_fit_returns_a_file_that_knows_its_sampler(self, fitted):
        assert fitted.name == "predictor.json"
        told = SAMPLER | {"solver": {"name": "amed", "learned": str(fitted)}}
        assert al.sample(fitted, range(6)).equal(expected(SamplerConfig(**told)))
        assert al.load_sampler(str(fitted)).nfe == 4

    def test_a_file_that_names_no_model_is_given_it(self, fitted, tmp_path):
        content = json.loads(fitted.read_text())
        (old := tmp_path / "old.json").write_text(json.dumps({k: v for k, v in content.items() if k != "sampler"}))
        old.with_suffix(".safetensors").write_bytes(fitted.with_suffix(".safetensors").read_bytes())
        with pytest.raises(al.InputError, match=r"old.json: it does not say its model.*give the model too"):
            al.sample(old, range(6))
        model = al.load_model(SAMPLER["model"])
        assert al.sample(old, range(6), model=model).equal(al.sample(fitted, range(6)))

    def test_another_model_than_its_own_is_refused(self, fitted):
        with pytest.raises(al.InputError, match="made for model"):
            al.load_sampler(fitted, model=al.load_model("digits"))

    @pytest.mark.parametrize("part", ["model", "solver", "schedule"])
    def test_what_it_names_is_not_imported(self, fitted, tmp_path, part):
        content = json.loads(fitted.read_text())
        content["sampler"][part] = {"name": "payload.Thing"}
        (path := tmp_path / "p.json").write_text(json.dumps(content))
        with pytest.raises(al.InputError, match=f"p.json: unknown {part} 'payload.Thing'.*; name one of your own in"):
            al.load_sampler(path)

    @pytest.mark.parametrize("told", [[], {"solver": {"name": "amed"}}, {"solver": "amed", "schedule": {}}])
    def test_a_sampler_that_is_none_is_refused(self, fitted, tmp_path, told):
        (path := tmp_path / "p.json").write_text(json.dumps(json.loads(fitted.read_text()) | {"sampler": told}))
        with pytest.raises(al.InputError, match="its sampler has no solver and schedule"):
            al.load_sampler(path)

    def test_a_kind_of_denoising_that_is_no_purpose_is_kept(self, tmp_path):
        parts = SamplerParts(SamplerConfig(**SAMPLER, denoise_to_zero=True))
        table = Tabulated(table_of(parts.solver(None), parts.sigmas))
        path = tmp_path / "table.json"
        save_learned(path, table, parts.purpose, {}, parts.description)
        assert al.load_sampler(path).denoise_to_zero
        torch.testing.assert_close(al.sample(path, range(6)), expected(parts.config), rtol=1e-4, atol=1e-4)

    def test_options_of_a_fit_may_be_names_and_paths(self, tmp_path):
        options = {"model.student.solver": "nothing", "trainer.default_root_dir": tmp_path}
        with pytest.raises(al.InputError, match="unknown solver 'nothing'"):
            al.distill("digits/amed-5", options)


class TestShipped:
    def test_each_is_small_knows_its_sampler_and_is_for_a_shipped_model(self):
        files = list(ASSETS.glob("*/samplers/*"))
        assert sum(path.stat().st_size for path in files) < LARGEST_ASSETS
        assert len(files) == 2 * len(al.shipped())
        assert {f"digits/amed-{nfe}" for nfe in (3, 5, 7, 9)} < set(al.shipped())
        for name in al.shipped():
            assert al.load_sampler(name).nfe == int(name.rpartition("-")[2])

    def test_its_images_are_those_of_the_whole_configuration(self):
        path = ASSETS / "digits" / "samplers" / "amed-5.json"
        solver, schedule = {"name": "amed", "learned": str(path)}, {"name": "time_uniform"}
        whole = SamplerConfig({"name": "digits"}, solver, schedule, num_intervals=3, afs=True)
        assert al.sample("digits/amed-5", range(6)).equal(expected(whole))

    def test_what_is_not_shipped_is_refused_with_what_is(self):
        with pytest.raises(al.InputError, match=r"digits/amed-6: neither a .json .* one of .*digits/amed-5"):
            al.sample("digits/amed-6")


class TestConfiguration:
    def test_a_model_has_one_precision(self):
        model, plain = al.load_model("digits"), {"solver": "euler", "schedule": "logsnr", "nfe": 1}
        single = al.load_sampler(plain, model)
        double = al.load_sampler(plain | {"arithmetic": {"precision": "float64"}}, model)
        assert al.sample(double, range(2)).dtype == torch.float64
        with pytest.raises(
            al.InputError, match=r"float64 now, .*, and not torch.float32: load the model once for each"
        ):
            al.sample(single, range(2))

    def test_a_double_network_keeps_its_digits_for_the_next_sampler(self):
        class Doubled(torch.nn.Module):
            def __init__(self):
                super().__init__()
                torch.manual_seed(0)
                self.layer = torch.nn.Conv2d(1, 1, 3, padding=1, dtype=torch.float64)

            def forward(self, x, time):
                return self.layer(x.to(self.layer.weight))

        precise = {"solver": "euler", "schedule": "logsnr", "nfe": 2, "arithmetic": {"precision": "float64"}}
        network, fresh = Doubled(), al.flow_model(Doubled(), (1, 8, 8))
        model, before = al.flow_model(network, (1, 8, 8)), network.layer.weight.clone()
        al.load_sampler(precise | {"arithmetic": {"precision": "float32"}}, model)
        assert network.layer.weight.equal(before)
        images = al.sample(al.load_sampler(precise, model), range(2))
        assert images.equal(al.sample(al.load_sampler(precise, fresh), range(2)))

    def test_labels_may_be_a_tensor(self):
        sampler = al.load_sampler({"model": "digits_conditional", "solver": "euler", "schedule": "logsnr", "nfe": 2})
        images = al.sample(sampler, range(3), classes=torch.tensor([4, 2]))
        assert images.equal(al.sample(sampler, range(3), classes=[4, 2]))

    def test_words_are_names(self):
        sampler = al.load_sampler({"model": "digits", "solver": "ipndm", "schedule": "logsnr", "nfe": 4})
        plain = SamplerConfig({"name": "digits"}, {"name": "ipndm"}, {"name": "logsnr"}, 4)
        assert al.sample(sampler, range(6)).equal(expected(plain))

    def test_seeds_and_labels_are_looked_at_first(self):
        sampler = al.load_sampler({"model": "digits", "solver": "euler", "schedule": "logsnr", "nfe": 1})
        for seeds in (range(0, 6, 2), range(0), range(-1, 3), range(2**29 + 1)):
            with pytest.raises(al.InputError, match="one after the other"):
                al.sample(sampler, seeds)
        for size in (0, -1):
            with pytest.raises(al.InputError, match=r"batch_size is -?[0-9]; it must be above 0"):
                al.sample(sampler, range(2), batch_size=size)
        with pytest.raises(al.InputError, match="takes no labels"):
            al.sample(sampler, range(2), classes=[3])
        with pytest.raises(al.InputError, match="a sampler has its model"):
            al.load_sampler(sampler, model=sampler.model)

    def test_a_sampler_and_its_parts_are_shown_in_a_line_or_two(self):
        assert len(repr(al.load_model("digits"))) < 250
        assert len(repr(al.load_sampler("digits/amed-5"))) < 600
        assert "Linear" not in repr(al.load_sampler("digits/amed-5"))
        assert "AMEDPredictor(feature_size=16, scale_dir=0.01" in repr(al.load_sampler("digits/amed-5"))


class MyNetwork(nn.Module):
    """Says the noise of states of variance 1, as if all of it were."""

    def __init__(self, channels=3):
        super().__init__()
        self.middle, self.out = nn.Conv2d(channels, 8, 3, stride=8, padding=1), nn.Conv2d(channels, 2 * channels, 1)

    def forward(self, x, time):
        self.middle(x)
        return self.out(x) * (time[:, None, None, None] / 1000)


class TestPage:
    @pytest.fixture
    def run(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        torch.save(MyNetwork().state_dict(), "mine.pt")
        names = {"MyNetwork": MyNetwork}

        def run(number):
            exec(compile(BLOCKS[number], PAGE.name, "exec"), names)
            return names

        return run

    def test_the_first_lines_make_a_picture(self, run, tmp_path):
        assert run(0)["images"].shape == (16, 1, 8, 8)
        assert (tmp_path / "digits.png").is_file()

    def test_a_configuration_makes_a_sampler(self, run, capsys):
        run(0)
        run(1)
        assert capsys.readouterr().out == "5 (4, 1, 8, 8)\n"

    def test_a_network_of_one_s_own_is_sampled_and_gives_what_it_knows(self, run, capsys):
        names = run(2)
        nearest = json.loads(capsys.readouterr().out)
        assert set(nearest) == {0, 1, 2, 3}
        torch.testing.assert_close(names["images"], names["known"][nearest], rtol=0, atol=0.02)
        assert len([line for line in BLOCKS[2].splitlines() if line.strip()]) <= 20

    def test_a_checkpoint_of_one_s_own_takes_five_lines(self, run):
        run(2)
        names = run(3)
        assert len(BLOCKS[3].splitlines()) == 5
        assert names["images"].shape == (16, 3, 32, 32)
        assert names["model"].feature_size == 16

    def test_every_name_is_in_its_table(self):
        told = set(re.findall(r"`(\w+)", "\n".join(re.findall(r"^\|.*\|$", PAGE.read_text(), re.MULTILINE))))
        assert set(al.__all__) - {"Sampler"} <= told


BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
