"""Fits that are told to stop, and what the next start of the same command makes of it."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
from unittest import mock

import pytest
import safetensors.torch
import torch
import yaml
from lightning.pytorch.callbacks import Callback, Timer

from amed_lightning.cli import training as cli_training
from amed_lightning.training.checkpointing import Checkpointing
from amed_lightning.training.run_directory import is_whole
from amed_lightning.training.seeding import NoiseByBatch

from ..runtime.commands import commands, enter_job
from .command import call, refusal, start
from .test_fit import FIT

pytestmark = pytest.mark.usefixtures("unchecked")

BATCHES, EPOCHS = 4, 3
NETWORK = {"img_resolution": 8, "img_channels": 1, "label_dim": 10, "model_channels": 8, "channel_mult": [1]}
NETWORK |= {"num_blocks": 1, "attn_resolutions": [], "dropout": 0.1, "bottleneck_resolution": 8}
DENOISER = {
    "seed_everything": 3,
    "model": {
        "class_path": "amed_lightning.training.denoiser.DenoiserTraining",
        "init_args": {"card": {"network": NETWORK, "sigma_data": 0.75}},
    },
    "data": {
        "class_path": "amed_lightning.training.images.Images",
        "init_args": {"dataset": {"name": "digits"}, "batch_size": 16, "steps_per_epoch": BATCHES},
    },
    "trainer": {"accelerator": "cpu", "max_epochs": 2, "logger": False},
}


def copy_of(config):
    return yaml.safe_load(yaml.safe_dump(config))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A short fit that nobody stopped, in ``alone``; beside it are its configuration and its trajectories."""
    place = tmp_path_factory.mktemp("finished")
    config = copy_of(FIT)
    config["trainer"] |= {"max_epochs": EPOCHS}
    del config["trainer"]["enable_checkpointing"]
    config["model"]["init_args"]["student"]["model"] |= {"height": 4, "width": 4}
    config["data"]["init_args"] |= {"trajectories": BATCHES * 64}
    (place / "fit.yaml").write_text(yaml.safe_dump(config))
    with mock.patch.dict(os.environ), contextlib.chdir(place):
        assert fit("alone") == 0
    return place


@pytest.fixture
def folder(finished, tmp_path, monkeypatch):
    """A folder with the configuration and its trajectories, to run in."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, tmp_path, ignore=shutil.ignore_patterns("alone"), dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def alone(finished):
    """The fit that nobody stopped."""
    return finished / "alone"


@pytest.fixture
def interrupt(monkeypatch):
    """Send a signal while a batch, counted over all starts, is under way."""
    real, seen = NoiseByBatch.on_train_batch_start, []

    def plan(**signals):
        when = {int(batch.removeprefix("at_")): number for batch, number in signals.items()}

        def watched(self, trainer, *rest):
            seen.append((trainer.current_epoch, rest[-1]))
            if len(seen) in when:
                os.kill(os.getpid(), when[len(seen)])
            real(self, trainer, *rest)

        monkeypatch.setattr(NoiseByBatch, "on_train_batch_start", watched)
        return seen

    return plan


def fit(directory, *options):
    return call("fit", "--config", "fit.yaml", f"--trainer.default_root_dir={directory}", *options)


def refused(capsys, directory, *options):
    return refusal(capsys, "fit", "--config", "fit.yaml", f"--trainer.default_root_dir={directory}", *options)


def tensors(checkpoint):
    """Yield all tensors of a checkpoint that decide how the run goes on."""
    content = torch.load(checkpoint, weights_only=True)
    for key in ("state_dict", "current_model_state"):
        yield from content.get(key, {}).items()
    for optimizer in content["optimizer_states"]:
        for index, state in optimizer["state"].items():
            yield from ((f"{index}.{name}", value) for name, value in state.items())


def exported(folder):
    (path,) = folder.glob("*.safetensors")
    return path.read_bytes()


def assert_same_run(one, other):
    assert exported(one) == exported(other)
    mine, theirs = (dict(tensors(path / "last.ckpt")) for path in (one, other))
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert value.equal(theirs[name]), name


class TestExactResume:
    def test_a_fit_that_is_stopped_again_and_again_ends_like_one_left_alone(self, folder, alone, interrupt):
        """At the first batch, before an epoch's last, at its last, at the next one's first, and before the end."""
        numbers = (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1)
        stops = dict(zip((1, BATCHES - 1, BATCHES, BATCHES + 1, EPOCHS * BATCHES - 1), numbers, strict=True))
        seen = interrupt(**{f"at_{batch}": number for batch, number in stops.items()})
        for batch, number in stops.items():
            assert fit("stopped") == {signal.SIGUSR1: 85, signal.SIGTERM: 143}[number]
            assert len(seen) == batch
        assert fit("stopped") == 0
        assert seen == [(epoch, batch) for epoch in range(EPOCHS) for batch in range(BATCHES)]
        assert_same_run(alone, folder / "stopped")

    @pytest.mark.slow
    def test_no_validation_in_the_middle_of_an_epoch_is_lost(self, folder, interrupt):
        """Validation follows batches 2 and 4: who is told to stop in 2 does so after 3, in 4 at the epoch's end."""
        options = ("--trainer.val_check_interval=0.5",)
        assert fit("alone", *options) == 0
        seen = interrupt(at_2=signal.SIGUSR1, at_4=signal.SIGUSR1, at_9=signal.SIGUSR1)
        for batches in (3, 4, 9):
            assert fit("stopped", *options) == 85
            assert len(seen) == batches
        assert fit("stopped", *options) == 0
        assert_same_run(folder / "alone", folder / "stopped")

    def test_a_run_that_was_killed_goes_on_from_its_last_save(self, folder, alone, interrupt, monkeypatch):
        seen = interrupt()

        class Killed(BaseException):
            pass

        def kill(self, trainer, *_):
            if len(seen) == 7:
                raise Killed

        monkeypatch.setattr(cli_training.ProgressLines, "on_train_batch_end", kill)
        with pytest.raises(Killed):
            fit("killed", "--checkpoint.every_n_batches=3")
        assert fit("killed", "--checkpoint.every_n_batches=3") == 0
        assert seen[6:8] == [(1, 2), (1, 2)]
        assert_same_run(alone, folder / "killed")

    @pytest.mark.slow
    def test_gradients_of_several_batches_are_not_lost(self, folder, interrupt):
        (folder / "fit.yaml").write_text(yaml.safe_dump(DENOISER))
        options = ("--trainer.accumulate_grad_batches=3",)
        assert fit("alone", *options) == 0
        seen = interrupt(at_2=signal.SIGUSR1)
        assert fit("stopped", *options) == 85
        assert len(seen) == 3
        assert fit("stopped", *options) == 0
        assert_same_run(folder / "alone", folder / "stopped")

    @pytest.mark.slow
    def test_an_averaged_denoiser_trained_on_drawn_images_ends_the_same(self, folder, interrupt):
        average = {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.8}}
        trainer = DENOISER["trainer"] | {"callbacks": [average]}
        (folder / "fit.yaml").write_text(yaml.safe_dump(DENOISER | {"trainer": trainer}))
        assert fit("alone") == 0
        seen = interrupt(at_3=signal.SIGUSR1, at_6=signal.SIGTERM, at_8=signal.SIGUSR1)
        assert [fit("stopped") for _ in range(3)] == [85, 143, 0]
        assert_same_run(folder / "alone", folder / "stopped")
        (folder / "stopped" / "denoiser.safetensors").unlink()
        (folder / "stopped" / "denoiser.json").unlink()
        assert fit("stopped") == 0
        assert len(seen) == 2 * BATCHES
        assert_same_run(folder / "alone", folder / "stopped")

    @pytest.mark.slow
    def test_two_processes_stop_together_and_any_number_goes_on(self, folder):
        """The signal reaches the parent alone. Two halves of a gradient are not added up like a whole one."""

        def run(name, devices, **ending):
            place = (f"--trainer.default_root_dir={name}", f"--trainer.devices={devices}")
            options = ("--checkpoint.every_n_batches=1", "--trainer.max_epochs=15")
            start(folder, "fit", "--config", "fit.yaml", *options, *place, **ending)

        run("alone", 2)
        run("by-two", 2, interrupt=(signal.SIGUSR1, (folder / "by-two" / "last.ckpt").is_file), code=85)
        shutil.copytree(folder / "by-two", folder / "by-one")
        run("by-two", 2)
        run("by-one", 1)
        alone, two, one = (dict(tensors(folder / name / "last.ckpt")) for name in ("alone", "by-two", "by-one"))
        for name, value in alone.items():
            assert value.equal(two[name]), name
            if name.startswith("predictor."):
                torch.testing.assert_close(value, one[name], rtol=1e-2, atol=1e-3)


class TestRunDirectory:
    def test_a_finished_run_is_left_as_it_is(self, folder, interrupt, capsys):
        seen = interrupt()
        assert fit("run") == 0
        before = {path: path.read_bytes() for path in (folder / "run").iterdir()}
        capsys.readouterr()
        assert fit("run") == 0
        said = capsys.readouterr().out
        assert "run: this run has finished; raise trainer.max_epochs and it goes on" in said
        assert "next: amed-lightning sample " in said
        assert len(seen) == EPOCHS * BATCHES
        assert {path: path.read_bytes() for path in (folder / "run").iterdir()} == before

    def test_it_starts_again_when_its_checkpoint_is_deleted(self, folder, interrupt):
        """Also a run that was killed after it had exported and before it had saved: nobody else's file is replaced."""
        seen = interrupt()
        assert fit("run", "--checkpoint.every_n_batches=4") == 0
        (folder / "run" / "last.ckpt").unlink()
        assert fit("run") == 0
        assert len(seen) == 2 * EPOCHS * BATCHES
        assert not (folder / "run" / "previous.ckpt").exists()

    @pytest.mark.usefixtures("folder")
    def test_another_configuration_is_refused_by_its_keys(self, capsys, interrupt):
        interrupt(at_2=signal.SIGUSR1)
        assert fit("run") == 85
        line = refused(capsys, "run", "--model.scale_dir=0.02", "--data.batch_size=32")
        assert "run/last.ckpt: this run was started with data.init_args.batch_size 64, not 32; " in line
        assert "model.init_args.scale_dir 0.01, not 0.02: name another --trainer.default_root_dir" in line
        assert "max_epochs" not in line

    @pytest.mark.usefixtures("folder")
    def test_another_model_behind_the_same_configuration_is_refused(self, capsys, interrupt, monkeypatch):
        interrupt(at_2=signal.SIGUSR1)
        assert fit("run") == 85
        real = cli_training.TrainingCLI._digests
        monkeypatch.setattr(cli_training.TrainingCLI, "_digests", lambda self: real(self) | {"model": "other"})
        line = refused(capsys, "run")
        assert re.search("digests.model [0-9a-f]{64}, not other", line)

    def test_another_place_is_not_and_leaves_a_record(self, folder, interrupt):
        interrupt(at_2=signal.SIGUSR1, at_3=signal.SIGUSR1)
        assert fit("run") == 85
        run = folder / "run"
        first = {name: (run / name).read_bytes() for name in ("config.yaml", "run.json")}
        assert fit("run") == 85
        assert not list(run.glob("restart-*"))
        assert fit("run", "--trainer.log_every_n_steps=7") == 0
        assert {name: (run / name).read_bytes() for name in first} == first
        restart = json.loads((run / "restart-1.json").read_text())
        assert restart["config"]["trainer"]["log_every_n_steps"] == 7
        assert yaml.safe_load(first["config.yaml"]) == json.loads(first["run.json"])["config"]

    def test_what_it_exports_comes_again_out_of_its_checkpoint(self, folder, interrupt):
        seen = interrupt()
        assert fit("run") == 0
        before = exported(folder / "run")
        for name in ("predictor.json", "predictor.safetensors"):
            (folder / "run" / name).unlink()
        assert fit("run", "--model.export=elsewhere/best.json") == 0
        assert exported(folder / "elsewhere") == before
        assert fit("run") == 0
        assert exported(folder / "run") == before
        assert len(seen) == EPOCHS * BATCHES

    def test_where_things_lie_and_what_only_looks_on_may_change(self, folder, interrupt):
        interrupt(at_2=signal.SIGUSR1, at_5=signal.SIGUSR1, at_9=signal.SIGUSR1)
        assert fit("alone") == 85
        shutil.copytree(folder / "alone", folder / "moved")
        assert [fit("alone") for _ in range(3)] == [85, 85, 0]
        (folder / "store").rename(folder / "copied")
        look = '--trainer.callbacks=[{"class_path": "lightning.pytorch.callbacks.LearningRateMonitor"}]'
        options = (
            f"--data.root={folder}/copied",
            "--data.memory_share=0",
            "--trainer.logger=true",
            "--trainer.log_every_n_steps=1",
            look,
        )
        assert fit("moved", *options) == 0
        assert_same_run(folder / "alone", folder / "moved")

    @pytest.mark.usefixtures("folder")
    def test_an_average_of_weights_may_not(self, capsys, interrupt):
        interrupt(at_2=signal.SIGUSR1)
        assert fit("run") == 85
        average = '--trainer.callbacks=[{"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging"}]'
        assert "trainer.callbacks None, not [{'class_path': " in refused(capsys, "run", average)

    def test_charts_lie_in_it_and_a_copy_of_them_is_not_taken_for_one(self, folder, interrupt):
        interrupt(at_2=signal.SIGUSR1)
        options = ("--trainer.logger=true", "--trainer.log_every_n_steps=1")
        assert fit("run", *options) == 85
        charts = folder / "run" / "charts"
        shutil.copytree(charts / "version_0", charts / "version_0 (copy)")
        shutil.copytree(charts / "version_0", charts / "version_7")
        assert fit("run", *options) == 0
        assert [len(list(path.glob("events.*"))) for path in sorted(charts.iterdir())] == [2, 1, 1]
        assert not (folder / "lightning_logs").exists()

    def test_its_charts_go_on_where_they_began_and_a_new_start_has_its_own(self, folder, interrupt):
        config = yaml.safe_load((folder / "fit.yaml").read_text())
        init = {"save_dir": "charts", "name": "run"}
        logger = {"class_path": "lightning.pytorch.loggers.TensorBoardLogger", "init_args": init}
        config["trainer"] |= {"logger": logger, "log_every_n_steps": 1}
        (folder / "fit.yaml").write_text(yaml.safe_dump(config | {"checkpoint": {"every_n_batches": 1}}))
        interrupt(at_2=signal.SIGUSR1)
        assert fit("run") == 85
        assert fit("run") == 0
        charts = folder / "charts" / "run"
        assert {path.name for path in charts.iterdir()} == {"version_0"}
        assert len(list(charts.rglob("events.*"))) == 2
        assert not list((folder / "run").glob("restart-*"))
        (folder / "run" / "last.ckpt").unlink()
        assert fit("run") == 0
        assert {path.name for path in charts.iterdir()} == {"version_0", "version_1"}

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("last.ckpt", "run/last.ckpt: damaged, or not a checkpoint of a run"),
            ("hpc_ckpt_1.ckpt", "run/hpc_ckpt_1.ckpt: left by another program, and no checkpoint of this run"),
        ],
    )
    def test_a_checkpoint_that_is_not_its_own_is_refused(self, folder, capsys, name, message):
        (folder / "run").mkdir()
        (folder / "run" / name).write_bytes(b"PK of something else")
        assert message in refused(capsys, "run")

    def test_a_second_run_in_the_same_directory_is_refused(self, folder, capsys, interrupt, monkeypatch):
        real, lines = Checkpointing.on_train_start, []

        def second(self, *rest):
            monkeypatch.setattr(Checkpointing, "on_train_start", real)
            lines.append(refused(capsys, "run"))
            real(self, *rest)

        monkeypatch.setattr(Checkpointing, "on_train_start", second)
        assert fit("run") == 0
        assert "run belongs to another run (process" in lines[0]
        assert not (folder / "run" / "run.lock").exists()

    def test_without_checkpoints_a_fit_stops_and_leaves_nothing(self, folder, interrupt):
        seen = interrupt(at_2=signal.SIGTERM)
        assert fit("run", "--trainer.enable_checkpointing=false") == 143
        assert {path.name for path in (folder / "run").iterdir()} == {"config.yaml", "run.json"}
        assert fit("run", "--trainer.enable_checkpointing=false") == 0
        assert seen[2:] == [(epoch, batch) for epoch in range(EPOCHS) for batch in range(BATCHES)]

    def test_a_checkpoint_to_begin_with_is_the_trainers_business(self, folder, alone, interrupt):
        """It counts once; afterwards the run has checkpoints of its own, and says so if it is to begin elsewhere."""
        seen = interrupt(at_6=signal.SIGUSR1)
        assert fit("short", "--trainer.max_epochs=1") == 0
        more = ("--ckpt_path=short/last.ckpt",)
        assert fit("long", *more) == 85
        assert fit("long", *more) == 0
        assert seen == [(epoch, batch) for epoch in range(EPOCHS) for batch in range(BATCHES)]
        assert_same_run(alone, folder / "long")


class TestLength:
    def test_a_finished_run_that_is_to_be_longer_ends_like_one_that_always_was(self, folder, alone, interrupt, capsys):
        seen = interrupt(at_6=signal.SIGUSR1)
        assert fit("run", "--trainer.max_epochs=1") == 0
        assert fit("run") == 85
        assert not (folder / "run" / "finished").exists()
        assert fit("run") == 0
        assert seen == [(epoch, batch) for epoch in range(EPOCHS) for batch in range(BATCHES)]
        assert_same_run(alone, folder / "run")
        capsys.readouterr()
        assert fit("run", "--trainer.max_epochs=2") == 0
        assert "this run has finished" in capsys.readouterr().out

    @pytest.mark.parametrize("batches", [BATCHES + 2, 2 * BATCHES], ids=["in an epoch", "at its end"])
    @pytest.mark.parametrize("limit", ["steps", pytest.param("time", marks=pytest.mark.slow)])
    def test_a_limit_ends_no_run_and_a_higher_one_lets_it_go_on(
        self, folder, alone, interrupt, capsys, monkeypatch, limit, batches
    ):
        """A batch has an optimiser step per interval, and takes a second."""
        seen = interrupt()
        monkeypatch.setattr(Timer, "time_elapsed", lambda self, stage=None: float(len(seen)))
        for end in (batches, batches + 1):
            value = 3 * end if limit == "steps" else f"00:00:00:{end:02d}"
            for _ in range(2):
                assert fit("run", f"--trainer.max_{limit}={value}") == 0
                line = (
                    f"run: ended by trainer.max_{limit}{f' {value}' if limit == 'steps' else ''} after {end} batches; "
                )
                assert line in capsys.readouterr().out
                assert not (folder / "run" / "finished").exists()
        assert fit("run", f"--trainer.max_{limit}={1000 if limit == 'steps' else '01:00:00:00'}") == 0
        assert seen == [(epoch, batch) for epoch in range(EPOCHS) for batch in range(BATCHES)]
        assert_same_run(alone, folder / "run")
        assert (folder / "run" / "finished").exists()

    def test_a_learning_rate_that_follows_the_length_does_not_let_it_change(self, folder, capsys):
        config = {
            "model": {
                "class_path": "amed_lightning.training.classifier.ClassifierTraining",
                "init_args": {"classifier": {"name": "digits"}},
            },
            "data": {
                "class_path": "amed_lightning.training.images.Images",
                "init_args": {"dataset": {"name": "digits"}, "steps_per_epoch": 2},
            },
            "trainer": {"accelerator": "cpu", "max_epochs": 1, "logger": False},
        }
        (folder / "fit.yaml").write_text(yaml.safe_dump(config | {"seed_everything": 3}))
        assert fit("run") == 0
        assert "started with trainer.max_epochs 1, not 2: " in refused(capsys, "run", "--trainer.max_epochs=2")

    def test_without_validation_the_last_predictor_is_exported(self, folder):
        assert fit("run", "--trainer.limit_val_batches=0") == 0
        last = torch.load(folder / "run" / "last.ckpt", weights_only=True)["state_dict"]
        for name, value in safetensors.torch.load(exported(folder / "run")).items():
            assert value.equal(last[f"predictor.{name}"])
        assert "val_loss" not in json.loads((folder / "run" / "predictor.json").read_text())["training"]
        assert (folder / "run" / "finished").is_file()

    def test_a_trial_writes_nothing(self, folder):
        assert fit("run", "--trainer.fast_dev_run=true", "--model.route={name: table}") == 0
        assert not (folder / "run").exists()


class TestOthersFiles:
    def test_what_another_run_has_exported_is_not_replaced(self, folder, capsys):
        assert fit("run") == 0
        before = exported(folder / "run")
        (folder / "run" / "last.ckpt").unlink()
        line = refused(capsys, "run", "--model.scale_dir=0.02")
        assert "run/predictor.json: of another run, it was made with model.init_args.scale_dir 0.01, not 0.02; " in line
        line = refused(capsys, "other", "--model.export=run/predictor.json")
        assert "run/predictor.json: of another run, this directory has no record of it; name another --trainer" in line
        assert exported(folder / "run") == before

    def test_nor_what_one_has_exported_meanwhile(self, folder, capsys, monkeypatch):
        real, path = Checkpointing.on_train_epoch_end, folder / "run" / "predictor.json"

        def meanwhile(self, trainer, *rest):
            if trainer.current_epoch == 0:
                path.write_text("another's")
            real(self, trainer, *rest)

        monkeypatch.setattr(Checkpointing, "on_train_epoch_end", meanwhile)
        assert "run/predictor.json: another run has written it meanwhile" in refused(capsys, "run")
        assert path.read_text() == "another's"


class TestDamage:
    @pytest.fixture
    def stopped(self, folder, interrupt):
        """A run that was stopped with two checkpoints."""
        interrupt(at_6=signal.SIGUSR1)
        assert fit("run", "--checkpoint.every_n_batches=5") == 85
        return folder / "run"

    def flip(self, path, bit):
        content = bytearray(path.read_bytes())
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)

    def test_no_flipped_bit_and_no_lost_byte_is_overlooked(self, stopped):
        last = stopped / "last.ckpt"
        content, bits = last.read_bytes(), random.Random(0)
        assert is_whole(last)
        for bit in (0, 8 * len(content) - 1, *(bits.randrange(8 * len(content)) for _ in range(100))):
            self.flip(last, bit)
            assert not is_whole(last)
            self.flip(last, bit)
        for length in (0, 70, len(content) - 1):
            last.write_bytes(content[:length])
            assert not is_whole(last)

    def test_the_checkpoint_before_is_taken_and_the_run_ends_the_same(self, alone, stopped, capsys):
        self.flip(stopped / "last.ckpt", 8000)
        assert fit("run", "--checkpoint.every_n_batches=100") == 0
        assert "run/last.ckpt: damaged; the run goes on from the checkpoint before" in capsys.readouterr().err
        assert is_whole(stopped / "last.ckpt")
        assert is_whole(stopped / "previous.ckpt")
        assert_same_run(alone, stopped)

    def test_what_a_killed_process_was_writing_is_removed_by_the_next(self, stopped):
        (stopped / ".last.ckpt.another-host.unfinished").write_bytes(b"half of a checkpoint")
        assert fit("run") == 0
        assert not list(stopped.glob(".*"))

    def test_two_damaged_ones_are_refused(self, stopped, capsys):
        for name in ("last.ckpt", "previous.ckpt"):
            self.flip(stopped / name, 8000)
        assert "run/last.ckpt: damaged, or not a checkpoint of a run; name another" in refused(capsys, "run")

    def test_a_file_system_without_links_keeps_one_before_too(self, folder, interrupt, monkeypatch):
        def none(*_):
            raise OSError

        monkeypatch.setattr(os, "link", none)
        interrupt(at_6=signal.SIGUSR1)
        assert fit("run", "--checkpoint.every_n_batches=5") == 85
        assert is_whole(folder / "run" / "previous.ckpt")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "option",
    [
        *("gradient_clip_val=1.0", "accumulate_grad_batches=2", "devices=0", "max_time=8s", "val_check_interval=100"),
        pytest.param("accelerator=gpu", marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")),
        'callbacks=[{"class_path": "lightning.pytorch.callbacks.Timer", "init_args": {"interval": "year"}}]',
    ],
)
def test_what_lightning_refuses_is_refused_in_one_line(capsys, option):
    refused(capsys, "run", f"--trainer.{option}")


class TestSaving:
    @pytest.fixture
    def saved(self, monkeypatch):
        """The batches after which a run was saved."""
        real, counts = Checkpointing._save, []

        def counted(self, trainer):
            counts.append(self.batches)
            real(self, trainer)

        monkeypatch.setattr(Checkpointing, "_save", counted)
        return counts

    @pytest.mark.usefixtures("folder")
    def test_batches_are_counted_and_not_optimiser_steps(self, saved):
        """A batch that ends an epoch is saved after validation; the end is saved in any case."""
        assert fit("run", "--checkpoint.every_n_batches=3") == 0
        assert saved == [3, 6, 9, 12]

    @pytest.mark.usefixtures("folder")
    def test_minutes_are_counted(self, saved):
        assert fit("run", "--checkpoint.every_n_minutes=1e-9") == 0
        assert saved == [*range(1, 13)]

    @pytest.mark.usefixtures("folder")
    def test_neither_leaves_the_last_save(self, saved):
        assert fit("run", "--checkpoint.every_n_minutes=null") == 0
        assert saved == [12]

    @pytest.mark.usefixtures("folder")
    @pytest.mark.parametrize("option", ["every_n_batches", "every_n_minutes"])
    def test_an_interval_that_is_not_positive_is_refused(self, capsys, option):
        line = refusal(capsys, "fit", "--config", "fit.yaml", f"--checkpoint.{option}=0")
        assert f"checkpoint.{option} is 0" in line

    def test_a_save_that_fails_leaves_the_one_before(self, folder, interrupt, monkeypatch):
        interrupt(at_2=signal.SIGUSR1, at_3=signal.SIGUSR1)
        assert fit("run") == 85
        before = (folder / "run" / "last.ckpt").read_bytes()
        with monkeypatch.context() as full:
            full.setattr(type(folder), "read_bytes", lambda self: b"half")
            with pytest.raises(OSError, match="what was read back is not what was written"):
                fit("run")
        assert (folder / "run" / "last.ckpt").read_bytes() == before
        assert fit("run") == 0

    def test_a_process_whose_directory_was_taken_over_saves_no_more(self, folder, interrupt, capsys, monkeypatch):
        lock = folder / "run" / "run.lock"
        interrupt(at_5=signal.SIGUSR1)

        def take_over(self, trainer, *_):
            if trainer.current_epoch == 1:
                content = json.loads(lock.read_text()) | {"host": "elsewhere"}
                lock.write_text(json.dumps(content))

        monkeypatch.setattr(cli_training.ProgressLines, "on_train_batch_end", take_over)
        assert "this run's directory was taken over by process" in refused(capsys, "run")
        assert not (folder / "run" / "last.ckpt").exists()


class TestInAJob:
    @pytest.fixture
    def slurm(self, tmp_path_factory, monkeypatch):
        slurm = commands(tmp_path_factory.mktemp("slurm") / "bin", monkeypatch)
        slurm.answer("scontrol")
        enter_job(monkeypatch, ARRAY_JOB_ID="12", ARRAY_TASK_ID="3")
        return slurm

    @pytest.mark.usefixtures("folder")
    @pytest.mark.parametrize(
        ("sent", "options", "code", "requeued"),
        [
            (signal.SIGUSR1, (), 85, ["requeue 12_3"]),
            (signal.SIGTERM, (), 143, []),
            (signal.SIGTERM, ("--checkpoint.requeue_on_term=true",), 85, ["requeue 12_3"]),
        ],
    )
    def test_the_signal_decides_over_code_and_requeue(self, slurm, interrupt, capsys, sent, options, code, requeued):
        interrupt(at_2=sent)
        assert fit("run", *options) == code
        assert slurm.calls("scontrol") == requeued
        outcome = "job 12_3 is requeued" if requeued else "the same command goes on"
        assert f"fit: stopped after 2 batches, saved run/last.ckpt; {outcome}" in capsys.readouterr().err

    @pytest.mark.usefixtures("folder", "slurm")
    def test_a_requeued_job_goes_on_though_nobody_released_its_directory(self, interrupt, monkeypatch):
        seen = interrupt(at_2=signal.SIGUSR1)
        assert fit("run") == 85
        holder = {"job": "12_3", "restart": 0, "step": "0", "host": "n7", "process": 1, "since": "today"}
        (cli_training.Path("run") / "run.lock").write_text(json.dumps(holder))
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
        assert fit("run") == 0
        assert len(seen) == EPOCHS * BATCHES

    @pytest.mark.usefixtures("folder", "slurm")
    def test_devices_that_are_not_those_of_the_job_are_refused(self, capsys, monkeypatch):
        monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "2")
        line = refusal(capsys, "fit", "--config", "fit.yaml", "--trainer.devices=1")
        assert "--ntasks-per-node=2" in line


class TestHandlers:
    @pytest.mark.usefixtures("folder")
    def test_the_trainers_own_are_replaced_while_it_trains_and_validates(self, monkeypatch):
        from amed_lightning.runtime import signals

        found = set()

        class Look(Callback):
            def on_sanity_check_end(self, *_):
                found.add(signal.getsignal(signal.SIGTERM))

            def on_train_batch_start(self, *_):
                found.add(signal.getsignal(signal.SIGTERM))

        for name in ("on_sanity_check_end", "on_train_batch_start"):
            monkeypatch.setattr(cli_training.ProgressLines, name, getattr(Look, name))
        assert fit("run", "--trainer.num_sanity_val_steps=1") == 0
        assert found == {signals._raise_flag}
