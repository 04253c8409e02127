"""``sample`` and ``evaluate``: the same images, as files and as scores."""

import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from amed_lightning.cli.evaluate import require_pairs
from amed_lightning.config import InputError
from amed_lightning.data.folder import image_files
from amed_lightning.data.picture import record_in
from amed_lightning.denoisers.prompts import prompt_lists
from amed_lightning.metrics.reference import build_evaluator
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import build_sampler
from amed_lightning.sampling.sampler import sample_seeds
from amed_lightning.seeds import SEEDS_PER_STREAM, Seeds, Stream
from amed_lightning.solvers.multistep import Multistep
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.tensors import quantise

from ..sampling.models import latents, mixture, random_network
from .command import call, refusal

MODEL = {"name": "anisotropic_gaussian", "height": 8, "width": 8}
SAMPLER = {"model": MODEL, "solver": {"name": "ipndm"}, "schedule": {"name": "logsnr"}, "num_intervals": 4}


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "sampler.yaml"
    path.write_text(yaml.safe_dump({"sampler": SAMPLER}))
    return path


def sample(config, output, *options):
    return call("sample", "--config", config, "--accelerator", "cpu", "--output", output, *options)


def expected(first, last, batch_size=64):
    seeds = Seeds(Stream.evaluation, first, last + 1)
    states = sample_seeds(build_sampler(SamplerConfig(**SAMPLER)), seeds, batch_size, torch.device("cpu"))
    return torch.cat([quantise(state.x) for state in states])


def read(folder):
    return torch.cat([batch for batch, _ in image_files(folder).batches(64)])


class TestSample:
    def test_it_writes_a_file_per_seed_named_by_it(self, tmp_path, config, capsys):
        assert sample(config, tmp_path / "images", "--seeds", "8-17") == 0
        names = sorted(path.name for path in (tmp_path / "images").iterdir())
        assert names == [f"{seed:06d}.png" for seed in range(8, 18)]
        assert read(tmp_path / "images").equal(expected(8, 17))
        assert "10 images at 4 network runs each" in capsys.readouterr().out

    def test_where_a_sample_is_not_finite_nothing_is_written_and_the_code_is_1(self, tmp_path, monkeypatch, capsys):
        class Overflowing(Multistep):
            def step(self, flow, state, sigma_next):
                end = super().step(flow, state, sigma_next)
                return replace(end, x=end.x.index_fill(0, torch.tensor(3), torch.nan))

        def overflowing(placer: object = None) -> Overflowing:
            return Overflowing(SOLVERS["euler"]().rule)

        module = type(sys)("somebodys_own")
        module.overflowing = overflowing
        monkeypatch.setitem(sys.modules, "somebodys_own", module)
        own = tmp_path / "own.yaml"
        own.write_text(yaml.safe_dump({"sampler": SAMPLER | {"solver": {"name": "somebodys_own.overflowing"}}}))
        assert sample(own, tmp_path / "images", "--seeds", "8-17") == 1
        *_, line = capsys.readouterr().err.splitlines()
        assert line.startswith("error: the sample of evaluation seed 11 is not finite, which began in interval 1 of 4")
        assert not (tmp_path / "images").exists()

    def test_a_name_that_ends_in_png_gets_one_grid(self, tmp_path, config):
        assert sample(config, tmp_path / "deep" / "grid.png", "--seeds", "0-31") == 0
        with Image.open(tmp_path / "deep" / "grid.png") as picture:
            grid = np.asarray(picture.convert("L"))
        assert grid.shape == (2 * 9 + 1, 16 * 9 + 1)
        images = expected(0, 31).numpy()
        assert (grid[1:9, 1:9] == images[0, 0]).all()
        assert (grid[10:18, 136:144] == images[31, 0]).all()

    def test_one_seed_is_a_range_too(self, tmp_path, config):
        assert sample(config, tmp_path / "images", "--seeds", "5") == 0
        assert [path.name for path in (tmp_path / "images").iterdir()] == ["000005.png"]

    def test_options_of_the_command_line_outdo_the_file(self, tmp_path, config, capsys):
        assert sample(config, tmp_path / "images", "--seeds", "0-3", "--sampler.num_intervals", "7") == 0
        assert "4 images at 7 network runs each" in capsys.readouterr().out

    @pytest.mark.parametrize(("written", "seeds"), [(7, [7]), ("7", [7]), ("3-5", [3, 4, 5])])
    def test_seeds_of_a_file_may_be_one_number(self, tmp_path, written, seeds, capsys):
        (tmp_path / "sampler.yaml").write_text(yaml.safe_dump({"sampler": SAMPLER, "seeds": written}))
        assert sample(tmp_path / "sampler.yaml", tmp_path / "images") == 0
        names = sorted(path.name for path in (tmp_path / "images").iterdir())
        assert names == [f"{seed:06d}.png" for seed in seeds]
        if len(seeds) == 1:
            options = ("--config", tmp_path / "sampler.yaml", "--accelerator", "cpu")
            assert "FID: at least 2 images are needed, not 1" in refusal(capsys, "evaluate", *options)

    @pytest.mark.parametrize("written", [-3, 3.0, True, None, [0, 63], "0-", "-3", "5-3", "²", "0-63-64", "9" * 5000])
    @pytest.mark.parametrize("verb", ["sample", "evaluate"])
    def test_what_is_no_range_of_seeds_is_refused(self, tmp_path, written, capsys, verb):
        (tmp_path / "sampler.yaml").write_text(yaml.safe_dump({"sampler": SAMPLER, "seeds": written}))
        line = refusal(capsys, verb, "--config", tmp_path / "sampler.yaml", "--accelerator", "cpu")
        assert "write a first and a last seed, like 0-63" in line

    def test_an_image_says_what_made_it(self, tmp_path, config):
        assert sample(config, tmp_path / "images", "--seeds", "8-9") == 0
        assert sample(config, tmp_path / "grid.png", "--seeds", "8-9") == 0
        records = [record_in(path) for path in (*(tmp_path / "images").iterdir(), tmp_path / "grid.png")]
        assert all(record == records[0] for record in records[:2])
        assert records[2].made_by == records[0].made_by
        made_by, built = records[0].made_by, build_sampler(SamplerConfig(**SAMPLER))
        assert records[0].seeds == [8, 10]
        assert made_by["model"] == built.model.digest
        assert made_by["sigmas"] == built.sigmas.tolist()
        assert (made_by["solver"]["name"], made_by["nfe"], made_by["batch_size"]) == ("ipndm", 4, 64)
        assert records[0].provenance["versions"]["amed-lightning"]

    @pytest.mark.parametrize("name", ["images", "grid.png"])
    def test_what_is_there_already_is_replaced_only_when_asked_for(self, tmp_path, config, capsys, name):
        assert sample(config, tmp_path / name, "--seeds", "0-9") == 0
        before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
        options = ("--config", config, "--output", tmp_path / name, "--accelerator", "cpu", "--seeds", "4-5")
        line = refusal(capsys, "sample", *options, "--sampler.num_intervals", "2")
        assert "images already" in line
        assert "--overwrite" in line
        assert {path: path.read_bytes() for path in tmp_path.rglob("*.png")} == before
        assert sample(config, tmp_path / name, "--seeds", "4-5", "--overwrite") == 0
        if name == "images":
            assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["000004.png", "000005.png"]
            assert read(tmp_path / name).equal(expected(4, 5))
        assert record_in(next(tmp_path.rglob("*.png"))).seeds == [4, 6]

    def test_a_seed_beyond_the_last_is_refused(self, tmp_path, config, capsys):
        options = ("--config", config, "--output", tmp_path / "images", "--accelerator", "cpu")
        assert "--seeds 999999999" in refusal(capsys, "sample", *options, "--seeds", "999999999")

    def test_the_last_seed_of_all_has_an_image(self, tmp_path, config):
        assert sample(config, tmp_path / "images", "--seeds", str(SEEDS_PER_STREAM - 1), "--batch_size", "2") == 0

    def test_an_accelerator_that_does_not_exist_is_refused(self, tmp_path, config, capsys):
        options = ("--config", config, "--output", tmp_path / "images", "--accelerator", "abacus")
        assert "abacus" in refusal(capsys, "sample", *options)

    @pytest.mark.parametrize("verb", ["sample", "evaluate"])
    def test_a_batch_of_nothing_is_refused(self, tmp_path, config, capsys, verb):
        options = ("--config", config, "--output", tmp_path / "images", "--accelerator", "cpu")
        assert "batch_size" in refusal(capsys, verb, *options, "--batch_size", "0")

    def test_labels_are_refused_by_a_model_without_them(self, tmp_path, config, capsys):
        line = refusal(capsys, "sample", "--config", config, "--classes", "[3]", "--output", tmp_path / "images")
        assert "classes: this model takes no labels; leave them out" in line
        assert not (tmp_path / "images").exists()


class TestLabels:
    @pytest.fixture
    def labelled(self, tmp_path):
        path = tmp_path / "labelled.yaml"
        path.write_text(yaml.safe_dump({"sampler": SAMPLER | {"model": {"name": "digits_conditional"}}}))
        return path

    def test_labels_are_taken_in_turn(self, tmp_path, labelled):
        for name, classes in (("both", "[1,7]"), ("ones", "[1]"), ("own", "[]")):
            assert sample(labelled, tmp_path / name, "--seeds", "0-3", "--classes", classes) == 0
        both, ones, own = (read(tmp_path / name) for name in ("both", "ones", "own"))
        assert [one.equal(other) for one, other in zip(both, ones, strict=True)] == [True, False, True, False]
        assert not own.equal(ones)

    @pytest.mark.parametrize("classes", ["[10]", "[0,-1]"])
    def test_a_label_that_does_not_exist_is_refused(self, tmp_path, labelled, capsys, classes):
        options = ("--config", labelled, "--classes", classes, "--output", tmp_path / "images")
        assert "this model's labels are 0 to 9" in refusal(capsys, "sample", *options)


@pytest.mark.parametrize("verb", ["sample", "evaluate"])
def test_latents_without_a_decoder_are_no_images(tmp_path, monkeypatch, capsys, verb):
    monkeypatch.chdir(tmp_path)
    sampler = SAMPLER | {"model": {"name": "tests.sampling.models.latents"}}
    (config := tmp_path / "sampler.yaml").write_text(yaml.safe_dump({"sampler": sampler}))
    line = refusal(capsys, verb, "--config", config, "--seeds", "0-9", "--accelerator", "cpu")
    refused = {
        "sample": r"are neither grey nor RGB: a model of latents",
        "evaluate": "cannot be scored against (1, 8, 8)",
    }
    assert f"images of shape (4, 4, 4) {refused[verb]}" in line
    assert [path.name for path in tmp_path.iterdir()] == ["sampler.yaml"]


def test_runs_are_those_that_guidance_in_an_interval_makes(tmp_path, capsys):
    model = {"name": "guided", "of": {"name": "digits_conditional"}, "scale": 2.0, "interval": [0.05, 5.0]}
    sampler = SAMPLER | {"model": model, "solver": {"name": "euler"}}
    (config := tmp_path / "sampler.yaml").write_text(yaml.safe_dump({"sampler": sampler}))
    inside = [0.05 < sigma <= 5 for sigma in build_sampler(SamplerConfig(**sampler)).sigmas[:-1].tolist()]
    runs = 4 + sum(inside)
    assert 4 < runs < 8
    assert sample(config, tmp_path / "images", "--seeds", "0-1") == 0
    assert f"2 images at {runs} network runs each" in capsys.readouterr().out
    assert record_in(tmp_path / "images" / "000000.png").made_by["nfe"] == runs
    assert call("evaluate", "--config", config, "--seeds", "0-9", "--accelerator", "cpu") == 0
    assert f"n = 10, NFE {runs}, protocol" in capsys.readouterr().out


class TestEvaluate:
    def test_a_folder_of_samples_scores_as_the_sampler_does(self, tmp_path, config, capsys):
        assert sample(config, tmp_path / "images", "--seeds", "0-99", "--batch_size", "32") == 0
        for name, source in (("files", ["--images", tmp_path / "images"]), ("sampler", ["--config", config])):
            capsys.readouterr()
            options = ["--seeds", "0-99", "--batch_size", "32", "--output", tmp_path / f"{name}.json"]
            assert call("evaluate", *source, "--accelerator", "cpu", *options) == 0
            row = json.loads((tmp_path / f"{name}.json").read_text())
            shown = capsys.readouterr().out
            assert f"FID {row['values']['fid']:z.3f}, IS {row['values']['is']:.3f}" in shown
            runs = "" if name == "files" else f"NFE {row['nfe']}, "
            assert f"n = 100, {runs}protocol {row['protocol'][:12]}" in shown
        rows = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("files", "sampler")]
        assert rows[0]["values"] == rows[1]["values"]
        judge, images = build_evaluator({"name": "digits"}, {"name": "digits"}), read(tmp_path / "images")
        scores = judge.scores(100)
        scores.update(images, torch.arange(100))
        assert rows[0]["values"] == pytest.approx(scores.compute(), rel=1e-4)
        assert [row["nfe"] for row in rows] == [None, 4]
        assert rows[0]["protocol"] != rows[1]["protocol"]

    @pytest.mark.parametrize("both", [True, False])
    def test_it_scores_one_thing(self, tmp_path, config, capsys, both):
        options = ["--config", config, "--images", tmp_path] if both else []
        assert "name either --sampler or --images, and not both" in refusal(capsys, "evaluate", *options)

    def test_images_of_another_size_are_refused(self, tmp_path, capsys):
        for name in ("a", "b"):
            Image.new("L", (4, 4)).save(tmp_path / f"{name}.png")
        line = refusal(capsys, "evaluate", "--images", tmp_path, "--accelerator", "cpu")
        assert "images of shape (1, 4, 4) cannot be scored against (1, 8, 8)" in line

    def test_images_of_several_sizes_are_refused_by_name(self, tmp_path, capsys):
        for name, size in (("a", 8), ("b", 4)):
            Image.new("L", (size, size)).save(tmp_path / f"{name}.png")
        line = refusal(capsys, "evaluate", "--images", tmp_path, "--accelerator", "cpu")
        assert f"b.png: shape (1, 4, 4) where {tmp_path / 'a.png'} has (1, 8, 8)" in line

    def test_a_single_image_has_no_score(self, config, capsys):
        line = refusal(capsys, "evaluate", "--config", config, "--seeds", "3", "--accelerator", "cpu")
        assert "at least 2" in line

    def test_a_file_that_is_no_image_is_refused_by_name(self, tmp_path, capsys):
        (tmp_path / "a.png").write_bytes(b"no picture")
        line = refusal(capsys, "evaluate", "--images", tmp_path, "--accelerator", "cpu")
        assert f"{tmp_path / 'a.png'}: not a readable image" in line

    def test_a_folder_without_images_is_refused(self, tmp_path, capsys):
        line = refusal(capsys, "evaluate", "--images", tmp_path, "--accelerator", "cpu")
        assert f"{tmp_path}: no images there" in line

    def test_what_was_left_out_is_said_and_kept_with_the_scores(self, tmp_path, config, capsys):
        assert sample(config, tmp_path / "images", "--seeds", "0-99") == 0
        (tmp_path / "images" / "notes.txt").write_text("mine")
        (tmp_path / "images" / "._000000.png").write_bytes((tmp_path / "images" / "000000.png").read_bytes())
        options = ["--images", tmp_path / "images", "--accelerator", "cpu", "--output", tmp_path / "row.json"]
        assert call("evaluate", *options) == 0
        note = f"{tmp_path / 'images'}: left out: 1 .txt (notes.txt), 1 hidden (._000000.png)"
        shown = capsys.readouterr()
        assert f"warning: {note}" in shown.err.splitlines()
        assert "n = 100" in shown.out
        assert json.loads((tmp_path / "row.json").read_text())["caveats"] == [note]

    def test_real_images_that_were_left_out_are_said_too(self, tmp_path, config, capsys):
        assert sample(config, tmp_path / "images", "--seeds", "0-99") == 0
        (tmp_path / "images" / "notes.txt").write_text("mine")
        dataset = ["--dataset.name", "images", "--dataset.path", tmp_path / "images"]
        assert call("evaluate", "--config", config, "--seeds", "0-99", "--accelerator", "cpu", *dataset) == 0
        assert "left out: 1 .txt (notes.txt)" in capsys.readouterr().err
        assert call("reference", "--accelerator", "cpu", *dataset, "--output", tmp_path / "stats.npz") == 0
        assert "left out: 1 .txt (notes.txt)" in capsys.readouterr().err

    def test_images_of_two_samplers_have_no_score(self, tmp_path, config, capsys):
        for name, seeds, intervals in (("images", "0-31", "4"), ("other", "32-63", "2")):
            assert sample(config, tmp_path / name, "--seeds", seeds, "--sampler.num_intervals", intervals) == 0
        for image in (tmp_path / "other").iterdir():
            image.rename(tmp_path / "images" / image.name)
        line = refusal(capsys, "evaluate", "--images", tmp_path / "images", "--accelerator", "cpu")
        assert "000032.png: not made by what made 000000.png (another nfe, sigmas)" in line

    def test_half_of_a_sample_is_said_to_be_half(self, tmp_path, config, capsys):
        assert sample(config, tmp_path / "images", "--seeds", "0-199") == 0
        for image in sorted((tmp_path / "images").iterdir())[100:]:
            image.unlink()
        assert call("evaluate", "--images", tmp_path / "images", "--accelerator", "cpu") == 0
        assert "100 images, and the run that made 000000.png was over seeds 0 to 199" in capsys.readouterr().err


class TestPairs:
    """A sampler and its teacher are compared image by image, from one noise."""

    @pytest.mark.parametrize("labels", [(0, 0), (3, 3), (3, 0), (0, 3)])
    def test_labels_may_be_one_s_alone(self, labels):
        require_pairs([replace(mixture(), num_classes=classes) for classes in labels])

    def test_other_labels_are_refused(self):
        with pytest.raises(InputError, match="--teacher: its seeds have other labels than the sampler's"):
            require_pairs([replace(mixture(), num_classes=classes) for classes in (3, 2)])

    def test_other_prompts_are_refused(self):
        dogs, cats = (
            replace(mixture(), prompts=prompt_lists({"evaluation": [text, "a bird"]})) for text in ("a dog", "a cat")
        )
        require_pairs([dogs, dogs])
        with pytest.raises(InputError, match="--teacher: its seeds have other prompts than the sampler's"):
            require_pairs([dogs, cats])

    def test_noise_of_another_shape_is_refused_though_images_are_alike(self):
        models = [mixture(), latents()]
        shapes = re.escape(" and ".join(str(model.shape) for model in models))
        with pytest.raises(InputError, match=f"another shape than the sampler's, {shapes}"):
            require_pairs(models)

    def test_the_command_refuses_before_it_samples(self, tmp_path, capsys):
        models = [random_network(tmp_path, labels) for labels in (3, 2)]
        parts = [{"model": model, "solver": "euler", "schedule": "logsnr", "num_intervals": 2} for model in models]
        path = tmp_path / "pair.yaml"
        path.write_text(yaml.safe_dump(dict(zip(("sampler", "teacher"), parts, strict=True))))
        line = refusal(capsys, "evaluate", "--config", path, "--seeds", "0-3", "--accelerator", "cpu")
        assert "--teacher: its seeds have other labels" in line
