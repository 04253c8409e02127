"""Precision, TensorFloat-32, memory order and compilation are what the suite says, and part of the protocol."""

import copy
from dataclasses import replace

import pytest
import torch

from amed_lightning.amed.files import save_learned
from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.config import digest
from amed_lightning.denoisers.arithmetic import Arithmetic
from amed_lightning.denoisers.computing import computing, tensor_float_32
from amed_lightning.denoisers.registry import digits
from amed_lightning.flow.model import Denoised
from amed_lightning.flow.probability_flow import Evaluation
from amed_lightning.sampling import sampler as sampler_module
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import SamplerParts, build_sampler
from amed_lightning.sampling.sampler import Sampler
from amed_lightning.seeds import Seeds, Stream

from ..bench.suites import DATASET, LOGSNR, MODEL, bench_of, entry, fill, rows, write_suite
from ..cli.command import start

EULER = {"name": "euler"}
SIGMA = torch.tensor(1.5, dtype=torch.float64)


def answer(arithmetic):
    x = Seeds(Stream.tuning, 0, 4).noise((1, 8, 8)).to(getattr(torch, arithmetic.state_dtype))
    with torch.inference_mode():
        return computing(digits(), arithmetic).denoiser(x, SIGMA, None)


@pytest.fixture(scope="module")
def exact():
    return answer(Arithmetic("float64")).image


class TestPrecision:
    @pytest.mark.parametrize(
        ("precision", "error"), [("float64", 0.0), ("float32", 1e-5), ("float16", 5e-3), ("bfloat16", 5e-2)]
    )
    def test_answers_are_as_exact_as_it_and_have_the_states_dtype(self, exact, precision, error):
        denoised = answer(Arithmetic(precision))
        dtype = torch.float64 if precision == "float64" else torch.float32
        assert denoised.image.dtype == denoised.features.dtype == dtype
        distance = float((denoised.image - exact).abs().max())
        assert error / 100 <= distance <= error

    def test_float64_reaches_from_the_noise_to_the_sums(self, tmp_path):
        options = {"model": {"name": "digits"}, "reference": DATASET["reference"] | {"nfe": [4]}, "block_size": 12}
        suites = {name: {"precision": name} for name in ("float32", "float64")}
        for name, arithmetic in suites.items():
            (tmp_path / name).mkdir()
            bench = bench_of(tmp_path / name, entry(EULER, 2), arithmetic=arithmetic, **options)
            assert fill(bench, tmp_path / name) == []
        single, double = (
            {row["label"]: row["values"]["rmse"] for row in rows(tmp_path / name).values() if not row["is_reference"]}
            for name in suites
        )
        assert single != double
        assert single["euler"] == pytest.approx(double["euler"], rel=1e-4)

    def test_a_predictor_computes_in_float64_too(self, tmp_path):
        purpose = SamplerParts(SamplerConfig(MODEL, {"name": "amed"}, LOGSNR[0], 2)).purpose
        save_learned(tmp_path / "p.json", AMEDPredictor(1), purpose, {})
        placed = entry({"name": "amed", "learned": str(tmp_path / "p.json")})
        bench = bench_of(tmp_path, placed, arithmetic={"precision": "float64"})
        sampler = bench.sampler(bench.cells[1])
        placer, sigmas = sampler.placer, sampler.sigmas
        x = torch.ones(2, 1, 8, 8, dtype=torch.float64)
        here = Evaluation(sigmas[0], x, x, x[:, 0, 0, :1], 0)
        ratio, exact = (each(here, sigmas[0], sigmas[1]).ratio for each in (placer, copy.deepcopy(placer).double()))
        assert ratio.dtype == torch.float64
        assert ratio.equal(exact)
        assert fill(bench, tmp_path) == []


class Watched(torch.nn.Module):
    """A denoiser that notes what it finds."""

    cost = 1

    def __init__(self):
        super().__init__()
        self.convolution = torch.nn.Conv2d(2, 2, 3, padding=1)
        self.seen = {}

    def forward(self, x, sigma, condition):
        self.seen["tf32"] = (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
        self.seen["channels_last"] = [
            tensor.is_contiguous(memory_format=torch.channels_last) for tensor in (x, self.convolution.weight)
        ]
        return Denoised(self.convolution(x), x[:, 0, 0])


class TestFlags:
    def seen(self, **flags):
        model, watched = digits(), Watched()
        object.__setattr__(model, "denoiser", watched)
        with torch.inference_mode():
            computing(model, Arithmetic(**flags)).denoiser(torch.zeros(2, 2, 4, 4), SIGMA, None)
        return watched.seen

    def test_tensor_float_32_is_off_unless_it_is_asked_for(self):
        assert self.seen()["tf32"] == (False, False)
        assert self.seen(tf32=True)["tf32"] == (True, True)

    @pytest.mark.parametrize("allowed", [False, True])
    def test_a_compiled_sampler_computes_under_the_same_though_no_graph_sets_them(self, monkeypatch, allowed):
        seen = []

        def noted(*told):
            seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
            return Sampler.sample(*told)

        monkeypatch.setattr(sampler_module, "_compiled", lambda: noted)
        arithmetic = Arithmetic(tf32=allowed, compile="sampler")
        config = SamplerConfig({"name": "digits"}, {"name": "euler"}, {"name": "logsnr"}, 2, arithmetic=arithmetic)
        build_sampler(config).sample(torch.zeros(1, 1, 8, 8))
        assert seen == [(allowed, allowed)]

    def test_it_is_as_it_was_afterwards(self):
        before = (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
        with tensor_float_32(True), tensor_float_32(False):
            pass
        assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before

    def test_images_and_weights_are_ordered_as_asked(self):
        assert self.seen()["channels_last"] == [False, False]
        assert self.seen(channels_last=True)["channels_last"] == [True, True]

    @pytest.mark.slow
    def test_a_compiled_network_fills_a_suite(self, tmp_path):
        """In a process of its own: the tests' shape checks are in the compiler's way."""
        suites = {}
        for compiled in (False, True, "sampler"):
            folder = tmp_path / str(compiled)
            folder.mkdir()
            suite = write_suite(
                folder,
                entries=[entry(EULER, 2)],
                reference=None,
                num_blocks=1,
                arithmetic={"compile": compiled},
            )
            start(folder, "bench", "--config", suite, "--accelerator", "cpu", "--output", folder)
            (suites[compiled],) = rows(folder / "small").values()
        fids = [suite["values"]["fid"] for suite in suites.values()]
        assert fids == pytest.approx([fids[0]] * 3, rel=1e-3)
        assert len({suite["protocol"] for suite in suites.values()}) == 3
        told = [suite["identity"]["protocol"]["arithmetic"]["compile"] for suite in suites.values()]
        assert told == [False, True, "sampler"]


class TestProtocol:
    @pytest.mark.parametrize(
        "arithmetic",
        [{"precision": "bfloat16"}, {"tf32": True}, {"channels_last": True}, {"compile": True}, {"compile": "sampler"}],
    )
    def test_every_option_moves_it_and_the_keys(self, tmp_path, arithmetic):
        (plain,) = bench_of(tmp_path, entry(EULER), reference=None).cells
        protocol = replace(plain.protocol, arithmetic=Arithmetic(**arithmetic))
        assert digest(protocol) != digest(plain.protocol)
        assert replace(plain, protocol=protocol).key != plain.key
