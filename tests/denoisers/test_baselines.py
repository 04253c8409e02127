"""EDM's baselines: the same networks in other preconditionings (EDM, table 1), by the table's formulas."""

import math

import pytest
import torch

from amed_lightning.config import InputError
from amed_lightning.denoisers.edm import edm_card, read_edm
from amed_lightning.denoisers.families import consistency, edm
from amed_lightning.denoisers.files import read_model, save_weights
from amed_lightning.noise.schedules import Discrete, levels

from .persistent import edm_object, write_pickle
from .published import EDM_CONDITIONAL, EDM_UNCONDITIONAL, edm_shapes, filters, random_state

NCSNPP = EDM_UNCONDITIONAL | {"embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual"}
NCSNPP |= {"resample_filter": [1, 3, 3, 1]}
SIGMAS = torch.tensor([0.03, 1.5, 60.0], dtype=torch.float64)


def write(folder, kind, arguments, told=(), outputs=None, table=None, attributes=()):
    """Write a baseline; ``told`` are arguments of its preconditioning."""
    state = filters(arguments) | random_state(edm_shapes(arguments, outputs), 0)
    if table is not None:
        state["u"] = table

    def content():
        network = edm_object(arguments | dict(told), state, kind=kind)
        for name, value in dict(attributes).items():
            setattr(network, name, value)
        return {"ema": network}

    return write_pickle(folder / "baseline.pkl", content)


def asked(kind_of_labels=0):
    x = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x, torch.tensor([1, 0, 4]) if kind_of_labels else None


def check(path, skip, out, scale, code, label_dim=0):
    """Compare a denoiser with the table's formulas around its own network."""
    denoiser = edm(str(path)).denoiser.double()
    x, labels = asked(label_dim)
    per_sample = [torch.tensor([f(float(s)) for s in SIGMAS], dtype=torch.float64) for f in (skip, out, scale, code)]
    c_skip, c_out, c_in = (value.reshape(3, 1, 1, 1) for value in per_sample[:3])
    network = denoiser.model(c_in * x, per_sample[3], labels)[0]
    right = c_skip * x + c_out * network[:, :3]
    answer = denoiser(x, SIGMAS.reshape(3, 1, 1, 1), labels)
    torch.testing.assert_close(answer.image, right, rtol=1e-9, atol=1e-9)
    for index, sigma in enumerate(SIGMAS):
        one = denoiser(x[index : index + 1], sigma, labels if labels is None else labels[index : index + 1])
        torch.testing.assert_close(one.image, right[index : index + 1], rtol=1e-9, atol=1e-9)


def published_table(steps=1000, c_1=0.001, c_2=0.008):
    """Compute the levels of EDM's table 1 downwards from u_M = 0, in single precision as the published code does."""

    def alpha(j):
        return torch.tensor(math.pi / 2 * j / steps / (c_2 + 1)).sin() ** 2

    u = torch.zeros(steps + 1)
    for j in range(steps, 0, -1):
        u[j - 1] = ((u[j] ** 2 + 1) / (alpha(j - 1) / alpha(j)).clip(min=c_1) - 1).sqrt()
    return u


def vp_time(sigma, beta_d=19.9, beta_min=0.1):
    return (math.sqrt(beta_min**2 + 2 * beta_d * math.log(1 + sigma**2)) - beta_min) / beta_d


def vp_level(t, beta_d=19.9, beta_min=0.1):
    return math.sqrt(math.exp(beta_d * t**2 / 2 + beta_min * t) - 1)


def variance_preserving(code):
    return {"skip": lambda s: 1.0, "out": lambda s: -s, "scale": lambda s: 1 / math.sqrt(1 + s**2), "code": code}


def ends(path):
    noise_range = edm(str(path)).noise_range
    return noise_range.sigma_min, noise_range.sigma_max


class TestVP:
    def test_its_denoiser_and_its_levels_are_the_table_s(self, tmp_path):
        path = write(tmp_path, "VPPrecond", EDM_UNCONDITIONAL)
        check(path, **variance_preserving(lambda s: 999 * vp_time(s)))
        assert ends(path) == pytest.approx((vp_level(1e-5), vp_level(1.0)), rel=1e-6)

    def test_its_coefficients_are_honoured(self, tmp_path):
        told = {"beta_d": 15, "beta_min": 0.2, "M": 500, "epsilon_t": 1e-3}
        path = write(tmp_path, "VPPrecond", EDM_UNCONDITIONAL, told)
        check(path, **variance_preserving(lambda s: 499 * vp_time(s, 15, 0.2)))
        assert ends(path) == pytest.approx((vp_level(1e-3, 15, 0.2), vp_level(1.0, 15, 0.2)), rel=1e-6)

    def test_a_coefficient_that_is_no_argument_is_the_object_s_attribute(self, tmp_path):
        path = write(tmp_path, "VPPrecond", EDM_UNCONDITIONAL, attributes={"beta_d": 15.0})
        check(path, **variance_preserving(lambda s: 999 * vp_time(s, 15)))


class TestVE:
    def test_its_denoiser_and_its_levels_are_the_table_s(self, tmp_path):
        path = write(tmp_path, "VEPrecond", NCSNPP)
        check(path, lambda s: 1.0, lambda s: s, lambda s: 1.0, lambda s: math.log(s / 2))
        assert ends(path) == (0.02, 100.0)

    def test_its_levels_can_be_said(self, tmp_path):
        assert ends(write(tmp_path, "VEPrecond", NCSNPP, {"sigma_min": 0.01, "sigma_max": 50})) == (0.01, 50.0)


class TestIDDPM:
    @pytest.mark.parametrize(
        ("arguments", "outputs"), [(EDM_CONDITIONAL, 6), (EDM_CONDITIONAL, 3), (EDM_UNCONDITIONAL, 6)]
    )
    def test_its_denoiser_and_its_levels_are_the_table_s(self, tmp_path, arguments, outputs):
        table = published_table()
        path = write(tmp_path, "iDDPMPrecond", arguments, outputs=outputs, table=table)
        nearest = lambda s: 999.0 - float((table.double() - s).abs().argmin())  # noqa: E731
        check(path, **variance_preserving(nearest), label_dim=arguments["label_dim"])
        assert ends(path) == pytest.approx((float(table[999]), float(table[0])), rel=1e-3)

    def test_its_code_jumps_in_the_middle_between_two_levels(self, tmp_path):
        denoiser = edm(str(write(tmp_path, "iDDPMPrecond", EDM_UNCONDITIONAL))).denoiser.double()
        table = published_table().double()
        below, above = table[301], table[300]
        steps = [
            denoiser.preconditioning.coefficients(level).noise
            for level in (
                below,
                below + 0.49 * (above - below),
                below + 0.51 * (above - below),
                above,
                torch.zeros_like(above),
            )
        ]
        assert [float(step) for step in steps] == [698, 698, 699, 699, -1]

    def test_its_coefficients_are_honoured(self, tmp_path):
        told, table = {"C_1": 0.01, "C_2": 0.02, "M": 100}, published_table(100, 0.01, 0.02)
        path = write(tmp_path, "iDDPMPrecond", EDM_UNCONDITIONAL, told, table=table)
        check(path, **variance_preserving(lambda s: 99.0 - float((table.double() - s).abs().argmin())))
        with pytest.raises(InputError, match="'u' is not the table that its constructor's arguments say"):
            read_edm(write(tmp_path, "iDDPMPrecond", EDM_UNCONDITIONAL, told | {"C_2": 0.01}, table=table))

    def test_the_schedule_discrete_takes_its_own_levels(self, tmp_path):
        grid = levels(Discrete(), 9, edm(str(write(tmp_path, "iDDPMPrecond", EDM_UNCONDITIONAL))).noise_range)
        torch.testing.assert_close(grid, published_table().double()[:1000:111], rtol=1e-3, atol=0)


KINDS = ["EDMPrecond", "VPPrecond", "VEPrecond", "iDDPMPrecond"]


class TestAll:
    def test_the_four_are_four_models_and_each_survives_conversion(self, tmp_path):
        digests = set()
        for kind in KINDS:
            stored = read_edm(write(tmp_path, kind, EDM_UNCONDITIONAL))
            save_weights(tmp_path / "network.json", stored.weights, stored.card)
            assert read_model(tmp_path / "network.json").digest == stored.digest
            converted, first = edm(str(tmp_path / "network.json")), stored.model()
            x = torch.ones(2, 3, 16, 16)
            answer = converted.denoiser(x, torch.tensor(first.noise_range.sigma_min), None).image
            assert answer.isfinite().all()
            assert answer.equal(first.denoiser(x, torch.tensor(first.noise_range.sigma_min), None).image)
            digests.add(stored.digest)
        assert len(digests) == 4

    @pytest.mark.parametrize("kind", KINDS)
    def test_another_name_is_refused_with_theirs(self, tmp_path, kind):
        with pytest.raises(InputError, match=r"baseline\.pkl: name it as 'edm'"):
            consistency(str(write(tmp_path, kind, EDM_UNCONDITIONAL)))

    @pytest.mark.parametrize(
        ("told", "levels"),
        [
            ({}, (0.002, 80.0)),
            ({"sigma_min": 0, "sigma_max": 200}, (0.002, 80.0)),
            ({"sigma_min": 0.1, "sigma_max": 10}, (0.1, 10.0)),
        ],
    )
    def test_edm_s_own_levels_are_narrower_if_the_object_says_so(self, told, levels):
        card = edm_card(EDM_UNCONDITIONAL | told)
        assert (card.sigma_min, card.sigma_max) == levels

    def test_edm_s_deviation_of_the_data_is_honoured(self, tmp_path):
        path = write(tmp_path, "EDMPrecond", EDM_UNCONDITIONAL, {"sigma_data": 1})
        scale = lambda s: 1 / math.sqrt(1 + s**2)  # noqa: E731
        check(path, lambda s: scale(s) ** 2, lambda s: s * scale(s), scale, lambda s: math.log(s) / 4)
        named = write(tmp_path, "EDMPrecond", EDM_UNCONDITIONAL, attributes={"sigma_data": 1.0})
        assert read_edm(named).card.sigma_data == 1.0

    @pytest.mark.parametrize(
        ("kind", "told", "message"),
        [
            ("EDMPrecond", {"sigma_data": 0}, "sigma_data 0.0 and levels"),
            ("EDMPrecond", {"sigma_data": "half"}, "sigma_data is 'half', where a number is expected"),
            ("EDMPrecond", {"sigma_min": math.nan}, "sigma_min is nan"),
            ("EDMPrecond", {"sigma_min": 90}, "levels from 90.0 to 80.0"),
            ("EDMPrecond", {"beta_d": 19.9}, "beta_d"),
            ("VPPrecond", {"sigma_data": 0.5}, "sigma_data"),
            ("VPPrecond", {"sigma_min": 0.01}, "sigma_min"),
            ("VPPrecond", {"M": 999.5}, "M is 999.5, where a whole number is expected"),
            ("VPPrecond", {"beta_d": -1.0}, "no noise that grows so"),
            ("VPPrecond", {"epsilon_t": 0}, "no model has them"),
            ("VEPrecond", {"M": 1000}, "M"),
            ("VEPrecond", {"sigma_max": True}, "sigma_max is True"),
            ("iDDPMPrecond", {"C_1": 2.0}, "no noise that grows so"),
            ("iDDPMPrecond", {"noise_schedule": "linear"}, "noise_schedule"),
        ],
    )
    def test_what_no_such_object_takes_is_refused(self, kind, told, message):
        with pytest.raises(ValueError, match=message) as refusal:
            edm_card(EDM_UNCONDITIONAL | told, kind).denoiser()
        assert len(str(refusal.value).splitlines()) == 1

    @pytest.mark.parametrize(
        ("kind", "told", "message"),
        [
            ("VPPrecond", {"beta_d": 1e9}, r"baseline\.pkl: math range error"),
            ("iDDPMPrecond", {"M": 10**9}, r"baseline\.pkl: .*there are 2 to 100000"),
            ("VPPrecond_v2", {}, r"baseline\.pkl: a 'VPPrecond_v2' where an EDMPrecond or VPPrecond"),
        ],
    )
    def test_a_refused_file_is_named(self, tmp_path, kind, told, message):
        with pytest.raises(InputError, match=message):
            read_edm(write(tmp_path, kind, EDM_UNCONDITIONAL, told))
