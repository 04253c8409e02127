"""A compiler sees the whole of a sampler, whatever its solver: noise in, samples out, one graph."""

import json
import os
import subprocess
import sys

import pytest

COMPILED = """
import json
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch._dynamo.utils import counters

from amed_lightning.flow.model import Denoised, DiffusionModel
from amed_lightning.noise.schedules import NoiseRange, Polynomial, levels
from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.denoisers.computing import computing
from amed_lightning.denoisers.interruptible import interruptible
from amed_lightning.sampling.sampler import CompiledSampler, Sampler
from amed_lightning.solvers.deis import DEIS
from amed_lightning.solvers.multistep import Multistep
from amed_lightning.solvers.placement import FixedPlacement
from amed_lightning.solvers.registry import SOLVERS


@dataclass(frozen=True)
class Shrinking:
    cost: int = 1

    def __call__(self, x, sigma, condition):
        return Denoised((x / (1 + sigma.square())).to(x.dtype), x.new_zeros(len(x), 0))


class Network(torch.nn.Module):
    cost = 1
    forward = Shrinking.__call__


MODEL = DiffusionModel(Shrinking(), "", (1, 2, 2), NoiseRange(0.002, 80.0), 0)
SOLVERS["DEIS in sigma"] = lambda placer=None: Multistep(DEIS(3, "rhoAB"))
SOLVERS["DEIS, integrated exactly"] = lambda placer=None: Multistep(DEIS(3, form="textbook"))
SIGMAS, NOISE = levels(Polynomial(), 4, MODEL.noise_range), torch.randn(2, 1, 2, 2)


def keep(graph, inputs):
    assert not any(isinstance(each, torch.SymInt) for each in inputs), "a graph for several sizes"
    return graph.forward


torch.compile = partial(torch.compile, backend=keep)  # all of a compiler but the code that it makes
graphs = {}
for name, solver in SOLVERS.items():
    sampler = Sampler(MODEL, solver(placer=None), SIGMAS, afs=True, denoise_to_zero=True)
    compiled, before = CompiledSampler(**vars(sampler)), counters["stats"]["unique_graphs"]
    blocks = [replace(compiled, model=interruptible(MODEL)) for _ in range(2)]
    for block in (compiled, *blocks):
        with torch.inference_mode():
            assert block.sample(NOISE).x.equal(sampler.sample(NOISE).x), name
    graphs[name] = counters["stats"]["unique_graphs"] - before
assert not counters["graph_break"], counters["graph_break"]
before = counters["stats"]["unique_graphs"]
network = computing(replace(MODEL, denoiser=Network()), Arithmetic(compile=True))
for noise in map(torch.randn, ((2, 1, 2, 2), (3, 1, 2, 2), (3, 1, 4, 4))):
    for each in (compiled, Sampler(network, SOLVERS["euler"](), SIGMAS)):
        with torch.inference_mode():
            assert each.sample(noise).x.equal(Sampler.sample(replace(each, model=MODEL), noise).x)
graphs["of a size each"] = counters["stats"]["unique_graphs"] - before
print(json.dumps(graphs))
"""


@pytest.mark.slow
def test_every_solver_samples_in_one_graph():
    """In a process of its own, because checking shapes at each call cuts it to pieces."""
    environment = os.environ | {"JAXTYPING_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", COMPILED]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    graphs = json.loads(ended.stdout)
    assert graphs.pop("of a size each") == 5, "the sampler's second and third size, and the network's three"
    assert len(graphs) > 8, "PyTorch's own limit is not met"
    assert set(graphs.values()) == {2}, "one for the solver, and one for all blocks of its cell"
