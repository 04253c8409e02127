"""A record's commit is that of the code that ran, or none; never that of a repository that happens to lie around it."""

import json
import shutil
import subprocess

import pytest

from amed_lightning.runtime import provenance


def git(folder, *arguments):
    named = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", "-C", folder, *named, *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def thesis(tmp_path):
    """Somebody's repository with one commit."""
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "thesis.tex").write_text("")
    git(folder, "init", "--quiet")
    git(folder, "add", "thesis.tex")
    git(folder, "commit", "--quiet", "--message", "A thesis")
    return folder


@pytest.fixture
def site(thesis, monkeypatch):
    """The code, installed below it."""
    return installed(thesis / "venv" / "site-packages", monkeypatch)


def installed(folder, monkeypatch):
    (folder / "amed_lightning" / "runtime").mkdir(parents=True)
    for name in ("__init__.py", "runtime/provenance.py"):
        shutil.copy(provenance.PACKAGE / name, folder / "amed_lightning" / name)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(provenance, "PACKAGE", folder / "amed_lightning")
    return folder


def record(folder, direct_url):
    """Write what an installer notes down."""
    notes = folder / "amed_lightning-0.1.0.dist-info"
    notes.mkdir()
    (notes / "METADATA").write_text("Metadata-Version: 2.1\nName: amed-lightning\nVersion: 0.1.0\n")
    (notes / "direct_url.json").write_text(json.dumps(direct_url))


FROM_GIT = {"url": "https://host/amed", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}


class TestForeignRepository:
    def test_neither_its_commit_nor_its_state_is_the_code_s(self, site, thesis):
        (thesis / "thesis.tex").write_text("changed")
        before = provenance.time.time()
        assert (provenance.commit(), provenance._git("status", "--porcelain")) == (None, None)
        assert provenance.commit_time() >= before

    def test_not_even_where_it_tracks_the_code(self, site, thesis):
        git(thesis, "add", "--all")
        git(thesis, "commit", "--quiet", "--message", "All of it")
        assert provenance.commit() is None

    def test_the_commit_that_the_code_was_installed_from_is(self, site):
        record(site, FROM_GIT)
        assert provenance.commit() == "c0ffee"

    @pytest.mark.parametrize("noted", [{"url": "file:///a", "dir_info": {}}, {"url": "https://host/a.whl"}])
    def test_a_folder_or_an_archive_has_none(self, site, noted):
        record(site, noted)
        assert provenance.commit() is None

    def test_the_record_of_another_installation_is_not_taken_for_the_code_s(self, site, tmp_path, monkeypatch):
        record(site, FROM_GIT)
        monkeypatch.setattr(provenance, "PACKAGE", tmp_path / "elsewhere" / "amed_lightning")
        assert provenance.commit() is None


class TestOwnCheckout:
    def test_its_commit_and_its_state_are_the_code_s(self, tmp_path, monkeypatch):
        folder = installed(tmp_path / "checkout", monkeypatch)
        git(folder, "init", "--quiet")
        git(folder, "add", "amed_lightning/runtime")
        git(folder, "commit", "--quiet", "--message", "Not yet the package")
        assert provenance.commit() is None
        git(folder, "add", "amed_lightning")
        git(folder, "commit", "--quiet", "--message", "The package")
        assert provenance.commit() == git(folder, "rev-parse", "HEAD")
        assert provenance._git("status", "--porcelain") == ""
        (folder / "amed_lightning" / "__init__.py").write_text("changed")
        assert "__init__.py" in provenance._git("status", "--porcelain")


def test_the_digest_of_the_source_follows_the_code_alone(site):
    before = provenance.source_digest()
    (site / "amed_lightning" / "notes.txt").write_text("")
    assert provenance.source_digest() == before
    (site / "amed_lightning" / "__init__.py").write_text("changed")
    assert provenance.source_digest() != before
