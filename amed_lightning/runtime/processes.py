"""Several processes that share work.

Fabric and the Trainer's strategy both look like :class:`Processes`, so precomputing is the same inside ``fit`` and as a
command of its own.
"""

import os
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

import torch

from amed_lightning.config import InputError
from amed_lightning.runtime.slurm import slurm_environment

if TYPE_CHECKING:
    from lightning.fabric import Fabric

Value = TypeVar("Value")


@runtime_checkable
class Processes(Protocol):
    """This process among the others."""

    @property
    def global_rank(self) -> int: ...

    @property
    def world_size(self) -> int: ...

    def broadcast(self, obj: Value, src: int = 0) -> Value:
        """Return rank ``src``'s object on every rank."""
        ...


def compute_alike() -> None:
    """Let this process compute as any other does: the same image must come out of any number of them.

    It computes on one thread, because threads that share cores slow each other down tenfold. TensorFloat-32, which
    PyTorch allows in convolutions, is off; a denoiser that was told to use it turns it on while it answers.
    """
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def accelerator_for(asked: str) -> str:
    """Choose between CUDA and the CPU.

    Args:
        asked: ``auto`` is CUDA where there is a device, ``gpu`` is CUDA; other names are left to Lightning.

    Raises:
        InputError: Apple's GPU is asked for.
    """
    if asked == "mps":
        raise InputError(
            "accelerator 'mps': Apple's GPU has no float64, in which levels and scores are computed; use cpu"
        )
    return {"auto": "cuda" if torch.cuda.is_available() else "cpu", "gpu": "cuda"}.get(asked, asked)


def launch(accelerator: str, devices: int | str = 1, num_nodes: int = 1) -> "Fabric":
    """Start the other processes, if there are to be any, and return this one's Fabric; see :func:`ready`."""
    fabric = ready(accelerator, devices, num_nodes)
    fabric.launch()
    return fabric


def ready(accelerator: str, devices: int | str = 1, num_nodes: int = 1) -> "Fabric":
    """Return this process' Fabric, which has found its devices; ``launch`` starts the other processes.

    Where torchrun has started them, it decides how many there are.

    Raises:
        InputError: there is no such accelerator, or it has not so many devices; or in a job of SLURM the others would
            have to be started by ``srun``.
    """
    from lightning.fabric import Fabric  # seconds, and tables of results need none of it
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    compute_alike()
    for name, number in {"devices": devices, "num_nodes": num_nodes}.items():
        if isinstance(number, int) and number < 1:
            raise InputError(f"{name} is {number}; it must be at least 1")
    if TorchElasticEnvironment.detect():
        started = int(os.environ["LOCAL_WORLD_SIZE"])
        if str(devices) not in ("1", "auto", str(started)):
            raise InputError(
                f"devices is {devices}, and torchrun has started {started} processes per node; give one of them"
            )
        devices, num_nodes = started, int(os.environ["WORLD_SIZE"]) // started
    environment = slurm_environment() if (devices, num_nodes) != (1, 1) else []
    try:
        return Fabric(
            accelerator=accelerator_for(accelerator), devices=devices, num_nodes=num_nodes, plugins=[*environment]
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"accelerator '{accelerator}' with {devices} devices: {' '.join(str(error).split())}"
        ) from error
