"""``models``: the cards at the command line."""

import hashlib

import pytest
import yaml

from amed_lightning.denoisers.zoo.card import ZOO, card_names

from ..runtime.server import serve, status, whole
from .command import call, refusal

WEIGHTS = b"weights"


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
            assert any(licence in line for licence in ("CC BY-NC-SA 4.0", "MIT", "CreativeML OpenRAIL-M"))

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
        assert "name the cards whose files to fetch: afhqv2, cifar10" in refusal(capsys, "models", "fetch")

    def test_an_unknown_card_is_refused(self, capsys):
        assert "no card 'cifar100'" in refusal(capsys, "models", "fetch", "cifar100")


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
