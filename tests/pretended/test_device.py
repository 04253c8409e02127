"""The pretended device refuses and allows what CUDA does, counts what crosses, and computes what the CPU computes."""

import copy
import io
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from .device import PretendedDevice, Traffic
from .places import CPU, DEVICE

MIXED = "Expected all tensors to be on the same device"


@pytest.fixture
def here():
    return torch.linspace(-1.0, 1.0, 6, dtype=torch.float64).reshape(2, 3)


@pytest.fixture
def there(pretended, here):
    return here.to(DEVICE)


def scalar(value=0.5):
    return torch.tensor(value, dtype=torch.float64)


class TestPlace:
    def test_a_tensor_says_where_it_lies(self, here, there):
        assert (there.device, there.device.type, there.is_cuda, there.is_cpu) == (DEVICE, "cuda", True, False)
        assert (here.device, here.is_cuda, here.is_cpu) == (CPU, False, True)
        assert (there.get_device(), here.get_device()) == (0, -1)

    @pytest.mark.parametrize(
        "make",
        [
            lambda x: x.T,
            lambda x: x[0, 1:],
            lambda x: x.detach(),
            lambda x: x + 1,
            lambda x: x @ x.T,
            lambda x: x.new_zeros(3),
            lambda x: x.new_tensor([1.0]),
            lambda x: x.clone().mul_(2),
            lambda x: torch.zeros_like(x),
            lambda x: torch.full_like(x, 2.0),
            lambda x: torch.zeros(3, device=x.device),
            lambda x: torch.arange(3, device=x.device),
            lambda x: torch.tensor([1.0], device=x.device),
            lambda x: torch.as_tensor(0.5, device=x.device),
            lambda x: torch.as_tensor(x),
            lambda x: torch.ones(3).to(x),
            lambda x: x.to(torch.float32),
            lambda x: x.to(None, None, False, memory_format=torch.contiguous_format),
            lambda x: torch.ones(3).to(x.device, torch.float64),
            lambda x: torch.ones(3).to(device="cuda", copy=True),
            lambda x: torch.ones(3).cuda(),
            lambda x: F.one_hot(x.long() + 1, 3),
            lambda x: F.pad(x, (1, 1)),
            lambda x: F.interpolate(x[None], scale_factor=2),
            lambda x: torch.stack([x, x]).unbind()[1],
            lambda x: torch.einsum("ij,kj->ik", x, x),
            lambda x: torch.where(x > 0, 1.0, x),
            lambda x: nn.Parameter(x).data,
            lambda x: copy.deepcopy(x),
            lambda x: pickle.loads(pickle.dumps(x)),
        ],
    )
    @pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
    def test_what_is_made_of_it_lies_there_too(self, there, make, mode):
        with mode():
            assert make(there).device == DEVICE

    @pytest.mark.parametrize(
        "make",
        [
            lambda x: x.cpu(),
            lambda x: x.to("cpu"),
            lambda x: x.to(torch.ones(1)),
            lambda x: x.new_zeros(3, device="cpu"),
            lambda x: torch.zeros_like(x, device="cpu"),
            lambda x: torch.as_tensor(x, device="cpu"),
            lambda x: torch.tensor(x.tolist()),
            lambda x: torch.zeros(3),
        ],
    )
    def test_what_leaves_it_lies_on_the_cpu(self, there, make):
        assert make(there).device == CPU

    def test_a_default_device_is_heeded(self, pretended):
        with torch.device("cuda"):
            assert nn.Linear(2, 2).weight.is_cuda
            assert torch.zeros(2, device="cpu").is_cpu

    def test_a_module_moves_with_all_its_parts_and_keeps_its_parameters(self, pretended):
        module = nn.BatchNorm1d(3)
        before = list(module.parameters())
        module.to(DEVICE)
        assert all(new is old for new, old in zip(module.parameters(), before, strict=True))
        assert {tensor.device for tensor in module.state_dict().values()} == {DEVICE}
        assert {tensor.device for tensor in copy.deepcopy(module).state_dict().values()} == {DEVICE}
        assert {tensor.device for tensor in module.cpu().state_dict().values()} == {CPU}

    def test_there_is_no_second_one(self, here, pretended):
        with pytest.raises(RuntimeError, match="invalid device ordinal: cuda:1"):
            here.to("cuda:1")

    def test_meta_tensors_are_left_alone(self, there):
        assert there.to("meta").device.type == "meta"
        assert torch.empty(3, device="meta").device.type == "meta"

    def test_numbers_of_freed_storages_are_not_taken_for_others(self, pretended):
        for _ in range(3000):
            assert torch.zeros(7, device=DEVICE).is_cuda
            assert torch.zeros(7).is_cpu
        assert len(pretended.residents._held) < 3000

    def test_what_a_cache_keeps_there_lies_there_when_the_device_is_pretended_again(self, here):
        with PretendedDevice():
            kept = here.to(DEVICE)
        assert kept.is_cpu
        with PretendedDevice():
            assert kept.is_cuda

    def test_afterwards_there_is_none(self):
        with PretendedDevice():
            assert torch.cuda.is_available()
            assert torch.cuda.get_device_name(DEVICE) == "pretended"
        assert torch.get_default_device() == CPU
        assert torch.cuda.is_available() == (torch.cuda.device_count() > 0)
        assert torch.cuda.device_count() == 0 or torch.cuda.get_device_name(DEVICE) != "pretended"


class TestMixing:
    @pytest.mark.parametrize(
        "mix",
        [
            lambda x, y: x + y,
            lambda x, y: y + x,
            lambda x, y: x.add_(y),
            lambda x, y: y.add_(x),
            lambda x, y: x[0, 0] + y,
            lambda x, y: torch.cat([x, y]),
            lambda x, y: torch.stack([x, y]),
            lambda x, y: torch.cat([x[0], scalar()[None]]),
            lambda x, y: x @ y.T,
            lambda x, y: torch.where(x > 0, x, y),
            lambda x, y: x.index_select(0, torch.tensor([0])),
            lambda x, y: x.gather(1, torch.zeros(2, 1, dtype=torch.long)),
            lambda x, y: torch.searchsorted(x[0], y[0]),
            lambda x, y: F.linear(x, y),
            lambda x, y: F.mse_loss(x, y),
            lambda x, y: nn.Linear(3, 2, dtype=torch.float64)(x),
            lambda x, y: y[x > 0],
            lambda x, y: x.masked_fill(y > 0, 0.0),
            lambda x, y: x.clamp(scalar(), scalar()),
            lambda x, y: torch.addcdiv(x, x, scalar()),
            lambda x, y: torch.addcmul(x, scalar(), x),
            lambda x, y: scalar().add_(x[0, 0]),
            lambda x, y: torch.special.xlogy(y, x),
        ],
    )
    @pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
    def test_tensors_of_both_places_do_not_meet(self, here, there, mix, mode):
        with mode(), pytest.raises(RuntimeError, match=MIXED):
            mix(there, here)

    def test_a_gradient_does_not_meet_the_other_place_either(self, here, there):
        class Wrong(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x.clone()

            @staticmethod
            def backward(ctx, gradient):
                return gradient * here

        with pytest.raises(RuntimeError, match=MIXED):
            Wrong.apply(there.requires_grad_()).sum().backward()

    def test_an_optimiser_does_not_step_with_moments_elsewhere(self, pretended):
        weights = nn.Parameter(torch.ones(3))
        optimizer = torch.optim.Adam([weights])
        weights.sum().backward()
        optimizer.step()
        weights.data, weights.grad = weights.data.to(DEVICE), None
        weights.sum().backward()
        with pytest.raises(RuntimeError, match=MIXED):
            optimizer.step()

    @pytest.mark.parametrize(
        ("join", "copies"),
        [
            (lambda x: x * scalar(), 0),
            (lambda x: scalar() / x, 0),
            (lambda x: x[0, 0] * scalar(), 0),
            (lambda x: x.clone().mul_(scalar()), 0),
            (lambda x: x.clamp(max=1.0).maximum(scalar()), 0),
            (lambda x: x.abs() ** scalar(), 0),
            (lambda x: torch.lerp(x, x, scalar()), 0),
            (lambda x: torch.addcmul(x, x, scalar()), 0),
            (lambda x: x.masked_fill(x > 0, scalar()), 0),
            (lambda x: torch.where(x > 0, scalar(), scalar()), 2),
            (lambda x: x[torch.tensor([1, 0])], 1),
            (lambda x: x[[1, 0]], 1),
            (lambda x: x[x.cpu() > 0], 1),
            (lambda x: x.clone().index_put_((torch.tensor([0]),), scalar()), 2),
        ],
    )
    def test_numbers_and_indices_of_the_cpu_may_join(self, pretended, here, there, join, copies):
        expected = join(here)
        with pretended.counted() as seen:
            joined = join(there)
        assert joined.is_cuda
        assert joined.cpu().equal(expected)
        assert (seen.to_device, seen.waits) == (copies, 0)

    def test_a_copy_in_place_crosses(self, pretended, here, there):
        with pretended.counted() as seen:
            target = torch.zeros_like(here)
            target.copy_(there)
            there[0] = here[1]
        assert target.is_cpu
        assert target.equal(here)
        assert there[0].cpu().equal(here[1])
        assert seen == Traffic(to_device=1, to_host=1)

    @pytest.mark.parametrize("read", [lambda x: x.numpy(), np.asarray])
    def test_numpy_does_not_read_it(self, there, read):
        with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
            read(there)

    @pytest.mark.parametrize(
        "draw",
        [
            lambda generator: torch.randn(3, generator=generator, device=DEVICE),
            lambda generator: torch.zeros(3, device=DEVICE).normal_(generator=generator),
            lambda generator: nn.init.normal_(torch.zeros(3, device=DEVICE), generator=generator),
        ],
    )
    def test_a_generator_of_the_cpu_does_not_draw_there(self, pretended, draw):
        with pytest.raises(RuntimeError, match="Expected a 'cuda' device type for generator but found 'cpu'"):
            draw(torch.Generator())


class TestTraffic:
    @pytest.mark.parametrize(
        ("act", "expected"),
        [
            (lambda x: x.cpu(), Traffic(to_host=1)),
            (lambda x: x.tolist(), Traffic(to_host=1)),
            (lambda x: x.to(DEVICE), Traffic()),
            (lambda x: torch.ones(3).to(x), Traffic(to_device=1)),
            (lambda x: torch.tensor([1.0, 2.0], device=DEVICE), Traffic(to_device=1)),
            (lambda x: x.new_tensor([1.0, 2.0]), Traffic(to_device=1)),
            (lambda x: x.new_full((2,), 1.0), Traffic()),
            (lambda x: torch.zeros(3, device=DEVICE), Traffic()),
            (lambda x: x[0, 0].item(), Traffic(waits=1)),
            (lambda x: float(x.sum()), Traffic(waits=1)),
            (lambda x: bool(x.isfinite().all()), Traffic(waits=1)),
            (lambda x: f"{x[0, 0]:.3f}", Traffic(waits=1)),
            (lambda x: x.equal(x), Traffic(waits=1)),
            (lambda x: x.nonzero(), Traffic(waits=1)),
            (lambda x: x[x > 0], Traffic(waits=1)),
            (lambda x: x[0][x[0].argmax()], Traffic(waits=1)),
            (lambda x: x[0][x[0].argmax()[None]], Traffic()),
            (lambda x: torch.linalg.eigh(x @ x.T), Traffic(waits=1)),
            (lambda x: torch.linalg.solve_ex(x @ x.T, x), Traffic()),
            (lambda x: F.one_hot(x.long() + 1, 3), Traffic()),
            (lambda x: F.one_hot(x.long() + 1), Traffic(waits=1)),
            (lambda x: x * 2.0 + 1, Traffic()),
            (lambda x: x.softmax(1).mean(), Traffic()),
        ],
    )
    @pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
    def test_copies_and_waiting_are_counted(self, pretended, there, act, expected, mode):
        with mode(), pretended.counted() as seen:
            act(there)
        assert seen == expected

    @pytest.mark.parametrize(
        ("act", "syncs"),
        [
            (lambda x: torch.ones(3).to(DEVICE), 1),
            (lambda x: torch.ones(3).to(DEVICE, non_blocking=True), 0),
            (lambda x: torch.ones(3).pin_memory().to(x, non_blocking=True), 0),
            (lambda x: x.copy_(torch.ones(3)), 1),
            (lambda x: x.copy_(torch.ones(3), non_blocking=True), 0),
            (lambda x: x.to(DEVICE, non_blocking=True), 0),
            (lambda x: x.to("cpu", non_blocking=True), 1),
            (lambda x: torch.tensor([1.0, 2.0], device=DEVICE), 1),
            (lambda x: x.sum().item(), 1),
        ],
    )
    def test_the_host_does_not_wait_for_copies_that_the_device_fetches(self, pretended, there, act, syncs):
        with pretended.counted() as seen:
            act(there)
        assert seen.syncs == syncs

    def test_what_happens_on_the_cpu_is_not(self, pretended, here):
        with pretended.counted() as seen:
            assert float(here.sum()) == pytest.approx(0.0)
            here[here > 0].tolist()
        assert seen == Traffic()

    def test_a_gradient_crosses_back_and_is_counted(self, pretended, here):
        weights = here.requires_grad_()
        with pretended.counted() as seen:
            (weights.to(DEVICE) * 2).sum().backward()
        assert weights.grad.is_cpu
        assert weights.grad.equal(torch.full_like(here, 2.0))
        assert seen == Traffic(to_device=1, to_host=1)


class TestFiles:
    def test_a_checkpoint_remembers_the_place_and_is_read_where_one_wants(self, pretended, there):
        file = io.BytesIO()
        torch.save({"weights": there}, file)
        for wanted, place in ((None, DEVICE), ("cpu", CPU), ("cuda", DEVICE)):
            file.seek(0)
            read = torch.load(file, map_location=wanted, weights_only=True)["weights"]
            assert read.device == place
            assert read.cpu().equal(there.cpu())

    def test_without_the_device_it_is_read_on_the_cpu_alone(self, here):
        file = io.BytesIO()
        with PretendedDevice():
            torch.save(here.to(DEVICE), file)
        file.seek(0)
        assert torch.load(file, map_location="cpu").equal(here)
        if not torch.cuda.is_available():
            file.seek(0)
            with pytest.raises(RuntimeError, match="Attempting to deserialize object on a CUDA device"):
                torch.load(file)

    def test_safetensors_take_it_to_the_host(self, pretended, there):
        assert safetensors.torch.load(safetensors.torch.save({"x": there}))["x"].equal(there.cpu())


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        features = F.silu(self.norm(self.convolution(x)))
        attended = F.scaled_dot_product_attention(*[features.flatten(2)] * 3)
        return self.head(attended.mean(2)).log_softmax(1)


def trained(place, foreach):
    """A network after three steps, its losses, and the gradient of its input."""
    torch.manual_seed(3)
    network = Network().to(place)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2, foreach=foreach)
    x = torch.randn(5, 1, 4, 4).to(place).requires_grad_()
    labels = torch.randint(3, (5,)).to(place)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.nll_loss(network(x), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 0.1)
        optimizer.step()
        losses.append(loss.detach())
    (gradient,) = torch.autograd.grad(network(x).square().sum(), x)
    return *network.state_dict().values(), *losses, gradient


class TestNumbers:
    @pytest.mark.parametrize("foreach", [None, False])
    def test_training_is_that_of_the_cpu_bit_for_bit(self, foreach):
        expected = trained(CPU, False)
        with PretendedDevice():
            for there, here in zip(trained(DEVICE, foreach), expected, strict=True):
                assert there.is_cuda
                assert there.cpu().equal(here)

    def test_what_is_computed_on_the_cpu_meanwhile_has_the_same_bits(self):
        matrix = torch.randn(64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        expected = torch.linalg.eigvalsh(matrix @ matrix.T)
        with PretendedDevice():
            assert torch.linalg.eigvalsh(matrix @ matrix.T).equal(expected)

    def test_autocast_is_that_of_the_cpu(self):
        torch.manual_seed(0)
        network, x = Network(), torch.randn(5, 1, 4, 4)
        with torch.no_grad():
            with torch.autocast("cpu", torch.bfloat16):
                expected = network(x)
            with PretendedDevice(), torch.autocast("cuda", torch.bfloat16):
                assert network.to(DEVICE)(x.to(DEVICE)).cpu().equal(expected)
            assert not expected.equal(network(x))

    def test_weights_of_another_module_take_part_through_functional_call(self, pretended):
        network = nn.Linear(2, 2).to(DEVICE)
        weights = {name: value.detach().cpu() for name, value in network.state_dict().items()}
        x = torch.ones(1, 2, device=DEVICE)
        there = {name: value.to(DEVICE) for name, value in weights.items()}
        assert torch.func.functional_call(network, there, x).equal(network(x))
        with pytest.raises(RuntimeError, match=MIXED):
            torch.func.functional_call(network, weights, x)
