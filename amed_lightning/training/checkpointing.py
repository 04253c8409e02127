"""Checkpoints between two batches, and the end of a run that its cluster asks to stop.

Signals only raise a flag (:mod:`amed_lightning.runtime.signals`). After each batch the processes agree on the most
urgent request of any of them, so that all save, and all stop, after the same batch. A batch that validation follows is
no place for that, nor is one whose gradients wait for those of the next: a run that stopped there would go on without
them. The end of the epoch is, or the next batch.

A fit that a limit of time or steps ends is saved where it stands, as one that a signal stops is: with a higher limit it
goes on from there.
"""

import sys
import time
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint, Timer
from lightning.pytorch.loops.loop import _Loop

from amed_lightning.config import InputError
from amed_lightning.runtime.exit_codes import ExitCode
from amed_lightning.runtime.signals import Stopped, asked, listen
from amed_lightning.runtime.slurm import requeue
from amed_lightning.training.resuming import Resumable
from amed_lightning.training.run_directory import STATE, RunDirectory

NOTHING, SAVE = 0, 1
"""What a process may request, below the exit codes that it may request to stop with."""


class Checkpointing(Checkpoint):
    """Save the run, and stop it on USR1, TERM and Ctrl-C.

    Args:
        every_n_batches: how often to save; null: not on this count. Batches are not optimiser steps, of which a
            distillation takes several per batch.
        every_n_minutes: how often to save, by the clock of the first process; null: not on this count.
        requeue_on_term: take TERM for USR1, where a cluster sends nothing else; a job that is cancelled is then
            requeued, too.

    Raises:
        InputError: an interval that is not positive.
    """

    def __init__(
        self,
        every_n_batches: int | None = None,
        every_n_minutes: float | None = 10.0,
        requeue_on_term: bool = False,
    ) -> None:
        for name, interval in (("batches", every_n_batches), ("minutes", every_n_minutes)):
            if interval is not None and interval <= 0:
                raise InputError(f"checkpoint.every_n_{name} is {interval}; it must be positive, or null")
        self.every_n_batches, self.every_n_minutes = every_n_batches, every_n_minutes
        self.requeue_on_term = requeue_on_term
        self.run: RunDirectory | None = None
        self.batches = 0
        self.place: dict[str, int] | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check that all processes have gone on from the same checkpoint.

        Raises:
            RuntimeError: they do not see the same files.
        """
        mine, first = trainer.ckpt_path, trainer.strategy.broadcast(trainer.ckpt_path)
        if mine != first:
            raise RuntimeError(
                f"process {trainer.global_rank} goes on from {mine} and process 0 from {first}: "
                f"is {trainer.default_root_dir} on a file system that all nodes share?"
            )

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the handlers back that the Trainer has replaced: its own ends the run from within a batch."""
        listen()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the handlers back, and start the clock.

        The place within an epoch is set here because the Trainer forgets it where a learning rate's schedule has asked
        for the number of batches before the checkpoint was read. Where there is a limit of steps, it would count an
        epoch that was over at the checkpoint once more, without a batch.
        """
        listen()
        epochs: Any = trainer.fit_loop.epoch_progress.current
        if trainer.max_steps != -1 and 0 < epochs.ready == epochs.processed:
            _Loop.restarting.fset(trainer.fit_loop, False)  # type: ignore[attr-defined]  # a property
            trainer.fit_loop.reset()
            epochs.completed = epochs.processed
        if self.place is not None and isinstance(trainer.train_dataloader, Resumable):
            trainer.train_dataloader.load_state_dict(self.place)
        self._saved_at = (self.batches, time.monotonic())

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where the fit is cut short, or do what the processes agree on, where a later start can go on."""
        self.batches += 1
        if trainer.is_last_batch:
            return
        if self._is_validated(trainer, batch_idx) or (batch_idx + 1) % trainer.accumulate_grad_batches:
            if trainer.should_stop and trainer.strategy.broadcast(_is_out_of_time(trainer)):
                trainer.should_stop = False  # until the next batch
        elif _stops_here(trainer):
            self._save(trainer)
        else:
            self._settle(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the run where it ends, before a callback puts an average in its weights' place; or do as agreed."""
        if _stops_here(trainer) or trainer.current_epoch + 1 == trainer.max_epochs:
            self._save_once(trainer)
        else:
            self._settle(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the run if that was not done."""
        self._save_once(trainer)

    def cut_short(self, trainer: pl.Trainer) -> str | None:
        """Return the limit that has ended a fit before its last epoch's end; None if none has."""
        if 0 < trainer.max_epochs * trainer.num_training_batches <= self.batches:  # type: ignore[operator]  # never None
            return None
        if _is_out_of_time(trainer):
            return "trainer.max_time"
        return f"trainer.max_steps {trainer.max_steps}" if _is_out_of_steps(trainer) else None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what a later start is checked against."""
        if self.run is not None:
            checkpoint[STATE] = {"config": self.run.config, "batches": self.batches}
            if isinstance(trainer.train_dataloader, Resumable):
                checkpoint[STATE]["place"] = trainer.train_dataloader.state_dict()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on counting."""
        state = checkpoint.get(STATE, {})
        self.batches, self.place = state.get("batches", 0), state.get("place")

    def _is_validated(self, trainer: pl.Trainer, batch_idx: int) -> bool:
        """Whether validation follows a batch."""
        counted = self.batches if trainer.check_val_every_n_epoch is None else batch_idx + 1
        every = trainer.val_check_batch
        return bool(every and counted % every == 0)

    def _settle(self, trainer: pl.Trainer) -> None:
        request = self._agreed(trainer)
        if request == NOTHING:
            return
        self._save(trainer)
        if request != SAVE:
            self._stop(trainer, ExitCode(request))

    def _agreed(self, trainer: pl.Trainer) -> int:
        """Return the most urgent request of any process."""
        request = asked() or (SAVE if self._is_due(trainer) else NOTHING)
        if request == ExitCode.terminated and self.requeue_on_term:
            request = ExitCode.requeue
        if trainer.world_size > 1:
            requests = torch.tensor(int(request), device=trainer.strategy.root_device)
            request = int(trainer.strategy.reduce(requests, reduce_op="max"))
        return request

    def _is_due(self, trainer: pl.Trainer) -> bool:
        batches, moment = self._saved_at
        by_count = self.every_n_batches is not None and self.batches - batches >= self.every_n_batches
        waited = time.monotonic() - moment
        by_clock = self.every_n_minutes is not None and trainer.is_global_zero and waited >= 60 * self.every_n_minutes
        return by_count or by_clock

    def _save_once(self, trainer: pl.Trainer) -> None:
        if self._saved_at[0] != self.batches:
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        if self.run is not None:
            if trainer.is_global_zero:
                self.run.lock.require()
                self.run.keep_previous()
            trainer.save_checkpoint(self.run.checkpoint, weights_only=False)
        self._saved_at = (self.batches, time.monotonic())

    def _stop(self, trainer: pl.Trainer, code: ExitCode) -> None:
        if trainer.is_global_zero:
            saved = f"saved {self.run.checkpoint}" if self.run else "nothing is saved (trainer.enable_checkpointing)"
            outcome = requeue() if code is ExitCode.requeue else "the same command goes on"
            print(f"fit: stopped after {self.batches} batches, {saved}; {outcome}", file=sys.stderr, flush=True)
        raise Stopped(code)


def _stops_here(trainer: pl.Trainer) -> bool:
    """Whether the fit ends after this batch."""
    is_free = trainer.current_epoch >= (trainer.min_epochs or 0) and trainer.global_step >= (trainer.min_steps or 0)
    return _is_out_of_steps(trainer) or (trainer.should_stop and is_free)


def _is_out_of_steps(trainer: pl.Trainer) -> bool:
    return 0 <= trainer.max_steps <= trainer.global_step


def _is_out_of_time(trainer: pl.Trainer) -> bool:
    left = [each.time_remaining() for each in trainer.callbacks if isinstance(each, Timer)]  # type: ignore[attr-defined]
    return any(seconds is not None and seconds <= 0 for seconds in left)
