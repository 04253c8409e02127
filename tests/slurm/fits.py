"""Fits on two nodes that are told to stop, evicted, killed or cancelled."""

import sys
import time

import yaml

from .jobs import script, submit

EPOCHS, EVERY = 5, 10
FIT = {
    "seed_everything": 0,
    "model": {
        "class_path": "amed_lightning.training.distillation.AMEDDistillation",
        "init_args": {
            "student": {
                "model": {"name": "anisotropic_gaussian", "height": 4, "width": 4},
                "solver": {"name": "amed"},
                "schedule": {"name": "logsnr"},
                "num_intervals": 3,
            },
            "export": "runs/run/predictor.json",
        },
    },
    "data": {
        "class_path": "amed_lightning.training.trajectories.TeacherTrajectories",
        "init_args": {
            "teacher": {"solver": {"name": "heun"}, "batch_size": 64},
            "root": "store",
            "trajectories": 512,
            "validation_trajectories": 64,
            "batch_size": 16,
        },
    },
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": EPOCHS,
        "default_root_dir": "runs/run",
        "logger": False,
        "callbacks": [{"class_path": "tests.slurm.slow.Pause"}],
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    },
    "checkpoint": {"every_n_batches": EVERY},
}


class Fits:
    """What happens to a fit; each scene returns the folder that the fit has ended in."""

    def __init__(self, cluster, root):
        self.cluster, self.root = cluster, root

    def folder(self, name):
        folder = self.root / name
        folder.mkdir()
        (folder / "fit.yaml").write_text(yaml.safe_dump(FIT))
        return folder

    def start(self, folder, *options, nodes=2):
        return submit(self.cluster, folder, f"--nodes={nodes}", script("fit.sbatch"), "fit.yaml", *options)

    def started(self, folder, *options, nodes=2):
        """Submit a fit and wait until it has saved something."""
        job = self.start(folder, *options, nodes=nodes)
        job.await_that((folder / "runs" / "run" / "last.ckpt").is_file, "a checkpoint")
        return job

    def started_without_pauses(self):
        """Start a fit of steps of some milliseconds that has no end."""
        return self.started(self.folder("endless"), "--trainer.callbacks=null", "--trainer.max_epochs=1000000")

    def completed(self, job, restarts):
        assert job.await_end() == "COMPLETED", job.output
        assert job.restarts == restarts
        assert ("Restored all states from the checkpoint" in job.output) == (restarts > 0)
        return job.folder

    def left_alone(self):
        return self.completed(self.start(self.folder("left-alone")), restarts=0)

    def started_by_torchrun(self):
        """One task, whose torchrun starts two processes."""
        folder = self.folder("torchrun")
        torchrun = f"{sys.executable} -m torch.distributed.run --standalone --nproc_per_node=2"
        fit = f"srun {torchrun} -m amed_lightning fit --config fit.yaml --trainer.devices=2"
        return self.completed(submit(self.cluster, folder, "--ntasks-per-node=1", f"--wrap={fit}"), restarts=0)

    def warned(self):
        """USR1 also reaches the batch script."""
        job = self.started(self.folder("warned"))
        job.signal("USR1", "--full")
        job.await_restart(1)
        return self.completed(job, restarts=1)

    def told_to_end_where_that_means_a_requeue(self):
        job = self.started(self.folder("told"), "--checkpoint.requeue_on_term=true")
        job.signal("TERM")
        job.await_restart(1)
        return self.completed(job, restarts=1)

    def cancelled_and_submitted_again(self):
        job = self.started(self.folder("cancelled"))
        self.cluster.run("scancel", job.number)
        assert job.await_end() == "CANCELLED"
        time.sleep(2)
        assert job.state == "CANCELLED"
        again = self.start(job.folder)
        assert again.await_end() == "COMPLETED", again.output
        assert "Restored all states from the checkpoint" in again.output
        return job.folder

    def two_in_one_directory(self):
        """Return what the second one says."""
        first = self.started(self.folder("two"), "--trainer.max_epochs=100000", nodes=1)
        second = self.start(first.folder, "--trainer.max_epochs=100000")
        assert second.await_end() == "FAILED"
        assert second.field("ExitCode") == "2:0"
        assert first.state == "RUNNING"
        self.cluster.run("scancel", first.number)
        return first.number, second.output

    def evicted_and_later_on_a_node_that_crashes(self):
        """A job of a higher partition takes both nodes, and this one gets TERM; then one of its nodes is gone."""
        job = self.started(self.folder("evicted"))
        words = ("--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=true")
        self.cluster.run("sbatch", *words)
        job.await_restart(1)
        saved = (job.folder / "runs" / "run" / "last.ckpt").stat
        before = saved().st_mtime_ns
        job.await_that(lambda: saved().st_mtime_ns > before, "another checkpoint")
        self.cluster.crash("n2")
        job.await_that(lambda: job.state != "RUNNING", "SLURM to notice the crash")
        self.cluster.boot("n2")
        job.await_restart(2)
        return self.completed(job, restarts=2)
