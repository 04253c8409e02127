"""``models``: the cards at the command line."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import yaml

from amed_lightning.denoisers.zoo.card import ZOO, card_names
from amed_lightning.metrics import inception

from ..bench.suites import write_suite
from ..denoisers.published import EDM_UNCONDITIONAL, write_edm
from ..runtime.server import serve, status, whole
from .command import call, refusal

WEIGHTS = b"weights"
LICENCES = (
    *("CC BY-NC-SA 4.0", "MIT", "CreativeML OpenRAIL-M"),
    *("Stability AI Community License", "FLUX.1-dev Non-Commercial License", "NSCL v2-custom"),
)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("AMED_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AMED_OFFLINE", raising=False)
    return tmp_path / "cache" / "models"


@pytest.fixture
def site():
    with serve(whole(WEIGHTS)) as site:
        yield site


@pytest.fixture
def own(tmp_path, site):
    """A card of one's own whose files a server here has."""
    content = yaml.safe_load((ZOO / "cifar10.yaml").read_text()) | {"name": "own"}
    for file in content["files"].values():
        file |= {"addresses": [site.address], "sha256": None}
    content["files"]["network"]["sha256"] = hashlib.sha256(WEIGHTS).hexdigest()
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def shown(capsys):
    return capsys.readouterr().out.splitlines()


class TestList:
    @pytest.mark.parametrize("arguments", [[], ["list"]])
    def test_every_card_has_a_line_with_its_licence(self, capsys, arguments):
        assert call("models", *arguments) == 0
        lines = shown(capsys)
        for name in card_names():
            (line,) = (line for line in lines if line.split()[0] == name)
            assert any(licence in line for licence in LICENCES)

    def test_files_that_are_here_are_counted(self, capsys, own):
        call("models", "list", own)
        assert "0 of 2" in shown(capsys)[1]
        call("models", "fetch", own)
        shown(capsys)
        call("models", "list", own)
        assert "2 of 2" in shown(capsys)[1]


class TestFetch:
    def test_it_shows_the_licence_and_where_the_files_are(self, capsys, own, cache):
        assert call("models", "fetch", own) == 0
        licence, network, reference = shown(capsys)
        assert licence.startswith("own: CC BY-NC-SA 4.0, https://creativecommons.org")
        assert network == f"own, network: {cache / 'own' / 'edm-cifar10-32x32-uncond-vp.pkl'}"
        assert reference == f"own, reference: {cache / 'own' / 'cifar10-32x32.npz'}"
        assert (cache / "own" / "cifar10-32x32.npz").read_bytes() == WEIGHTS

    def test_a_file_that_cannot_be_had_does_not_stop_the_others(self, capsys, own, cache, site):
        site.answers[:] = [status(404), whole(WEIGHTS)]
        assert call("models", "fetch", own) == 1
        assert "own, network: edm-cifar10-32x32-uncond-vp.pkl is missing" in capsys.readouterr().err
        assert [path.name for path in (cache / "own").glob("*.npz")] == ["cifar10-32x32.npz"]

    def test_every_process_of_a_job_may_fetch_because_nodes_may_have_folders_of_their_own(
        self, own, cache, monkeypatch
    ):
        monkeypatch.setenv("SLURM_PROCID", "3")
        assert call("models", "fetch", own) == 0
        assert (cache / "own" / "cifar10-32x32.npz").is_file()

    def test_it_wants_a_name(self, capsys):
        assert "name the cards whose files to fetch, or --for SUITE: afhqv2, cifar10" in refusal(
            capsys, "models", "fetch"
        )

    def test_an_unknown_card_is_refused(self, capsys):
        assert "no card 'cifar100'" in refusal(capsys, "models", "fetch", "cifar100")


class TestFetchForASuite:
    @pytest.fixture
    def suite(self, tmp_path, own, site, monkeypatch):
        """A suite on that card, whose network and statistics are of the published formats, and Inception's site."""
        write_edm(tmp_path / "network", EDM_UNCONDITIONAL)
        np.savez(tmp_path / "reference.npz", mu=np.zeros(64), sigma=np.eye(64))
        network, reference = (tmp_path / name for name in ("network", "reference.npz"))
        content = yaml.safe_load(own.read_text())
        content["files"]["network"]["sha256"] = None
        content["facts"] |= {"shape": [3, 16, 16]}
        own.write_text(yaml.safe_dump(content))
        monkeypatch.setattr(inception, "RELEASE", replace(inception.RELEASE, addresses=(site.address,)))
        site.answers[:] = [
            whole(network.read_bytes(), etag=None),
            status(404),
            whole(reference.read_bytes(), etag=None),
        ]
        model = {"name": "thresholded", "of": {"name": "pretrained", "card": str(own)}}
        return write_suite(
            tmp_path, model=model, detector={"name": "inception"}, dataset={"name": "published", "card": str(own)}
        )

    def test_model_detector_and_statistics_are_fetched_and_what_cannot_be_had_does_not_stop_the_others(
        self, capsys, suite, site, cache
    ):
        assert call("models", "fetch", "--for", suite) == 1
        printed = capsys.readouterr()
        assert printed.out.splitlines() == ["grey, model: here", "grey, real images: here"]
        assert (
            "grey, detector: detector 'inception': weights-inception-2015-12-05-6726825d.pth is missing" in printed.err
        )
        assert len(site.requests) == 3
        assert {path.name for path in (cache / "own").iterdir()} >= {
            "edm-cifar10-32x32-uncond-vp.pkl",
            "cifar10-32x32.npz",
        }

    def test_what_is_here_is_not_fetched_again(self, capsys, tmp_path, suite, site, monkeypatch):
        call("models", "fetch", "--for", suite)
        content = yaml.safe_load(suite.read_text())
        content["datasets"][0]["detector"] = {"name": "digits"}
        suite.write_text(yaml.safe_dump(content))
        monkeypatch.setenv("AMED_OFFLINE", "1")
        assert call("models", "fetch", "--for", suite) == 0
        assert len(site.requests) == 3

    def test_it_takes_the_place_of_cards(self, capsys, suite):
        for words in (["fetch", "cifar10"], ["verify"], []):
            assert "models --for: it is an option of fetch" in refusal(capsys, "models", *words, "--for", suite)


class TestVerify:
    def test_files_are_right_missing_or_wrong(self, capsys, own, cache):
        call("models", "fetch", own)
        shown(capsys)
        assert call("models", "verify", own) == 0
        assert shown(capsys) == [
            "own, network: right, its SHA-256 is the one of its card",
            "own, reference: right, its SHA-256 is the one recorded beside it",
        ]
        (cache / "own" / "edm-cifar10-32x32-uncond-vp.pkl").unlink()
        (cache / "own" / "cifar10-32x32.npz").write_bytes(b"other")
        assert call("models", "verify", own) == 1
        missing, wrong = shown(capsys)
        assert missing.startswith("own, network: missing, ")
        assert wrong.startswith("own, reference: wrong, ")

    def test_a_missing_file_matters_where_it_was_asked_for(self, capsys):
        assert call("models", "verify") == 0
        assert call("models", "verify", "cifar10") == 1
