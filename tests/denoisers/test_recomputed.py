"""What is made again for the gradient is what was there, and is not kept until then."""

import torch

from amed_lightning.denoisers.recomputed import Recomputed
from amed_lightning.denoisers.registry import digits


def answered(denoiser):
    """The answer, its gradients in state and level, and the bytes that the graph has kept."""
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    sigma = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    kept = 0

    def keep(tensor):
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        answer = denoiser(x, sigma, None)
    loss = answer.image.square().sum() + answer.features.sum()
    return answer, torch.autograd.grad(loss, [x, sigma]), kept


def test_the_answer_and_its_gradients_are_the_network_s_and_next_to_nothing_is_kept():
    network = digits().denoiser
    plain, gradients, kept = answered(network)
    again, others, little = answered(Recomputed(network))
    torch.testing.assert_close([again.image, again.features], [plain.image, plain.features], rtol=0, atol=0)
    torch.testing.assert_close(others, gradients, rtol=0, atol=0)
    assert all(gradient.any() for gradient in gradients)
    assert little < kept / 50
    assert Recomputed(network).cost == network.cost
