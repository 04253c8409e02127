"""Fits that are told to stop, and what the next start of the same command makes of it."""

import json
import os
import re
import shutil
import signal

import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback

from amed_lightning.cli import training as cli_training
from amed_lightning.training.checkpointing import Checkpointing
from amed_lightning.training.noise import NoiseByBatch

from ..runtime.commands import commands, enter_job
from .command import call, refusal, start
from .test_fit import FIT

BATCHES, EPOCHS = 4, 3


def copy_of(config):
    return yaml.safe_load(yaml.safe_dump(config))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the configuration of a short fit, to run in."""
    monkeypatch.chdir(tmp_path)
    config = copy_of(FIT)
    config["trainer"] |= {"max_epochs": EPOCHS}
    del config["trainer"]["enable_checkpointing"]
    config["model"]["init_args"]["student"]["model"] |= {"height": 4, "width": 4}
    config["data"]["init_args"] |= {"trajectories": BATCHES * 64}
    (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


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
    options = (f"--trainer.default_root_dir={directory}", f"--model.export={directory}/result.json", *options)
    return call("fit", "--config", "fit.yaml", *options)


def tensors(checkpoint):
    """Yield all tensors of a checkpoint that decide how the run goes on."""
    content = torch.load(checkpoint, weights_only=True)
    for key in ("state_dict", "current_model_state"):
        yield from content.get(key, {}).items()
    for optimizer in content["optimizer_states"]:
        for index, state in optimizer["state"].items():
            yield from ((f"{index}.{name}", value) for name, value in state.items())


def assert_same_run(one, other):
    assert (one / "result.safetensors").read_bytes() == (other / "result.safetensors").read_bytes()
    mine, theirs = (dict(tensors(path / "last.ckpt")) for path in (one, other))
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        assert value.equal(theirs[name]), name


class TestExactResume:
    def test_a_fit_that_is_stopped_again_and_again_ends_like_one_left_alone(self, folder, interrupt):
        """At the first batch, before an epoch's last, at its last, at the next one's first, and before the end."""
        assert fit("alone") == 0
        numbers = (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1)
        stops = dict(zip((1, BATCHES - 1, BATCHES, BATCHES + 1, EPOCHS * BATCHES - 1), numbers, strict=True))
        seen = interrupt(**{f"at_{batch}": number for batch, number in stops.items()})
        for batch, number in stops.items():
            assert fit("stopped") == {signal.SIGUSR1: 85, signal.SIGTERM: 143}[number]
            assert len(seen) == batch
        assert fit("stopped") == 0
        assert seen == [(epoch, batch) for epoch in range(EPOCHS) for batch in range(BATCHES)]
        assert_same_run(folder / "alone", folder / "stopped")

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

    def test_a_run_that_was_killed_goes_on_from_its_last_save(self, folder, interrupt, monkeypatch):
        assert fit("alone") == 0
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
        assert_same_run(folder / "alone", folder / "killed")

    def test_an_averaged_denoiser_trained_on_drawn_images_ends_the_same(self, folder, interrupt):
        network = {"img_resolution": 8, "img_channels": 1, "label_dim": 10, "model_channels": 8, "channel_mult": [1]}
        network |= {"num_blocks": 1, "attn_resolutions": [], "dropout": 0.1, "bottleneck_resolution": 8}
        average = {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.8}}
        config = {
            "model": {
                "class_path": "amed_lightning.training.denoiser.DenoiserTraining",
                "init_args": {"card": {"network": network, "sigma_data": 0.75}, "export": "e.json"},
            },
            "data": {
                "class_path": "amed_lightning.training.images.DigitsImages",
                "init_args": {"batch_size": 16, "steps_per_epoch": BATCHES},
            },
            "trainer": {"accelerator": "cpu", "max_epochs": 2, "logger": False, "callbacks": [average]},
        }
        (folder / "fit.yaml").write_text(yaml.safe_dump(config | {"seed_everything": 3}))
        assert fit("alone") == 0
        interrupt(at_3=signal.SIGUSR1, at_6=signal.SIGTERM)
        assert [fit("stopped") for _ in range(3)] == [85, 143, 0]
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
        assert "run/last.ckpt: this run has finished; delete it to start again" in capsys.readouterr().out
        assert len(seen) == EPOCHS * BATCHES
        assert {path: path.read_bytes() for path in (folder / "run").iterdir()} == before

    def test_it_starts_again_when_its_checkpoint_is_deleted(self, folder, interrupt):
        seen = interrupt()
        assert fit("run") == 0
        (folder / "run" / "last.ckpt").unlink()
        assert fit("run") == 0
        assert len(seen) == 2 * EPOCHS * BATCHES

    @pytest.mark.usefixtures("folder")
    def test_another_configuration_is_refused_by_its_keys(self, capsys, interrupt):
        interrupt(at_2=signal.SIGUSR1)
        assert fit("run") == 85
        arguments = ("fit", "--config", "fit.yaml", "--trainer.default_root_dir=run", "--model.export=run/result.json")
        line = refusal(capsys, *arguments, "--model.scale_dir=0.02", "--data.batch_size=32")
        assert "run/last.ckpt: this run was started with data.init_args.batch_size 64, not 32; " in line
        assert "model.init_args.scale_dir 0.01, not 0.02: name another --trainer.default_root_dir" in line
        assert "max_epochs" not in line

    @pytest.mark.usefixtures("folder")
    def test_another_model_behind_the_same_configuration_is_refused(self, capsys, interrupt, monkeypatch):
        interrupt(at_2=signal.SIGUSR1)
        assert fit("run") == 85
        real = cli_training.TrainingCLI._digests
        monkeypatch.setattr(cli_training.TrainingCLI, "_digests", lambda self: real(self) | {"model": "other"})
        line = refusal(capsys, "fit", "--config", "fit.yaml", "--trainer.default_root_dir=run")
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
            ("last.ckpt", "run/last.ckpt: not a checkpoint of a run"),
            ("hpc_ckpt_1.ckpt", "run/hpc_ckpt_1.ckpt: left by another program, and no checkpoint of this run"),
        ],
    )
    def test_a_checkpoint_that_is_not_its_own_is_refused(self, folder, capsys, name, message):
        (folder / "run").mkdir()
        (folder / "run" / name).write_bytes(b"PK of something else")
        assert message in refusal(capsys, "fit", "--config", "fit.yaml", "--trainer.default_root_dir=run")

    def test_a_second_run_in_the_same_directory_is_refused(self, folder, capsys, interrupt, monkeypatch):
        real, lines = Checkpointing.on_train_start, []

        def second(self, *rest):
            monkeypatch.setattr(Checkpointing, "on_train_start", real)
            lines.append(refusal(capsys, "fit", "--config", "fit.yaml", "--trainer.default_root_dir=run"))
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

    def test_a_checkpoint_to_begin_with_is_the_trainers_business(self, folder, interrupt):
        """It counts once; afterwards the run has checkpoints of its own, and says so if it is to begin elsewhere."""
        seen = interrupt(at_6=signal.SIGUSR1)
        assert fit("short", "--trainer.max_epochs=1") == 0
        more = ("--ckpt_path=short/last.ckpt",)
        assert fit("long", *more) == 85
        assert fit("long", *more) == 0
        assert seen == [(epoch, batch) for epoch in range(EPOCHS) for batch in range(BATCHES)]
        assert fit("alone") == 0
        assert_same_run(folder / "alone", folder / "long")


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
        assert saved == [3, 6, 9, 12, 12]

    @pytest.mark.usefixtures("folder")
    def test_minutes_are_counted(self, saved):
        assert fit("run", "--checkpoint.every_n_minutes=1e-9") == 0
        assert saved == [*range(1, 13), 12]

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
        arguments = ("fit", "--config", "fit.yaml", "--trainer.default_root_dir=run")
        assert "this run's directory was taken over by process" in refusal(capsys, *arguments)
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
