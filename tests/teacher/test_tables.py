"""A table is the same bytes from any number of processes, survives a killed writer, and is refused if not right."""

import json
import re
from dataclasses import fields, replace

import pytest
import torch

from amed_lightning.config import InputError, file_digest
from amed_lightning.denoisers.cached import CachedDenoiser
from amed_lightning.flow.probability_flow import ProbabilityFlow
from amed_lightning.runtime import tensor_file
from amed_lightning.runtime.tensor_file import read_with_facts, write_tensors
from amed_lightning.seeds import Seeds, Stream
from amed_lightning.solvers.placement import Placement
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.teacher.nodes import Nodes, chebyshev
from amed_lightning.teacher.tables import TableFile, TableRecipe
from amed_lightning.teacher.tabulate import Agreement, tabulate_until_agreed

from ..sampling.models import mixture
from .stores import Member, Team

SEEDS = Seeds(Stream.training, 4, 14)
BATCH = 4
RECIPE = TableRecipe("ab12", (2.0, 1.0, 0.5), True, "training", 4, 14, BATCH, Nodes(chebyshev(3, 0.0, 1.0)))
OTHER = {
    "trajectories": "cd34",
    "sigmas": (2.0, 0.9, 0.5),
    "afs": False,
    "stream": "validation",
    "start": 3,
    "stop": 15,
    "batch_size": 2,
    "nodes": Nodes(chebyshev(5, 0.0, 1.0)),
    "agreement": Agreement(0.01),
    "solver": {"name": "unipc"},
    "interval": 1,
    "advanced_by": ("ef56",),
}
SOLVER = SOLVERS["amed"]()
NAMES = ("000000004-000000008", "000000008-000000012")
"""Of blocks."""


def tabulated(block, bound=0.05):
    """Two intervals, each started from noise; the block's first seed decides how many nodes it needs."""
    model, sigmas = mixture(), torch.tensor(RECIPE.sigmas, dtype=torch.float64)
    tables = []
    for index in range(2):
        x = block.noise(model.shape) * sigmas[index].float()
        start = SOLVER.init(x, sigmas[index:])
        known = replace(start, known=start.evaluated(ProbabilityFlow(model.denoiser))[0])
        own = bound / 50 if block.start == 8 else bound
        tables.append(
            tabulate_until_agreed(
                SOLVER,
                CachedDenoiser(model.denoiser),
                None,
                known,
                sigmas[index:],
                0.9 * x,
                RECIPE.nodes,
                Agreement(own),
            )
        )
    return tables


def complete(root, processes=1, recipe=RECIPE, compute=tabulated):
    file = TableFile(root, recipe)
    Team(processes).run(lambda member: file.complete(SEEDS, compute, member))
    return file


def test_where_memory_has_no_room_for_a_block_the_option_is_named_that_names_the_table(tmp_path):
    def with_room_for_two(block):
        if len(block) > 2:
            raise torch.OutOfMemoryError("no room")
        return tabulated(block)

    with pytest.raises(InputError, match=r"^route\.batch_size is 4, .* no memory .* set it to 2 or less"):
        complete(tmp_path, compute=with_room_for_two)
    assert not list(tmp_path.rglob("*.safetensors"))


def killed(root):
    """Make all blocks but the last."""

    def until_the_last(block):
        if block.start == 12:
            raise KeyboardInterrupt
        return tabulated(block)

    with pytest.raises(KeyboardInterrupt):
        TableFile(root, RECIPE).complete(SEEDS, until_the_last, Member(Team(1), 0))


def contents(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


class TestRecipe:
    @pytest.mark.parametrize("name", [field.name for field in fields(TableRecipe)])
    def test_every_field_moves_the_digest(self, name):
        assert replace(RECIPE, **{name: OTHER[name]}).digest != RECIPE.digest


class TestWriting:
    def test_it_has_a_row_per_seed_in_order_and_says_what_the_blocks_said(self, tmp_path):
        tables = complete(tmp_path).read()
        blocks = [tabulated(block) for block in SEEDS.blocks(BATCH)]
        assert [len(block[0]) for block in blocks] == [4, 4, 2]
        place = Placement(0.37, 0.99)
        for index, table in enumerate(tables):
            expected = torch.cat([block[index].losses(SOLVER, place) for block in blocks])
            torch.testing.assert_close(table.losses(SOLVER, place), expected)
            assert table.features.equal(torch.cat([block[index].features for block in blocks]))

    def test_blocks_that_needed_different_nodes_are_joined_at_the_finest(self, tmp_path):
        sizes = {len(tabulated(block)[0].nodes) for block in SEEDS.blocks(BATCH)}
        assert len(sizes) > 1
        assert len(complete(tmp_path).read()[0].nodes) == max(sizes)

    def test_any_number_of_processes_writes_the_same_bytes(self, tmp_path):
        """Threads stand in for processes; they share the solver and the network."""
        complete(tmp_path / "one")
        complete(tmp_path / "three", processes=3)
        assert contents(tmp_path / "one") == contents(tmp_path / "three")
        assert len(contents(tmp_path / "one")) == 2

    def test_the_processes_share_the_work(self, tmp_path):
        made = []
        complete(tmp_path, processes=3, compute=lambda block: (made.append(block), tabulated(block))[1])
        assert sorted(block.start for block in made) == [4, 8, 12]

    def test_a_killed_run_goes_on_with_the_blocks_that_it_left(self, tmp_path):
        killed(tmp_path)
        with pytest.raises(InputError, match="not a table"):
            TableFile(tmp_path, RECIPE).read()
        made = []
        complete(tmp_path, compute=lambda block: (made.append(block.start), tabulated(block))[1])
        assert made == [12]
        complete(tmp_path / "at once")
        at_once = contents(tmp_path / "at once")
        assert {path: contents(tmp_path)[path] for path in at_once} == at_once

    @pytest.mark.parametrize(
        "damage",
        [
            lambda path, other: path.write_bytes(path.read_bytes()[:-40]),
            lambda path, other: path.write_bytes(b""),
            lambda path, other: path.write_bytes(path.read_bytes()[:-9] + b"\x40" + path.read_bytes()[-8:]),
            lambda path, other: path.write_bytes(other.read_bytes()),
        ],
        ids=["cut off", "empty", "another byte", "another block"],
    )
    def test_a_block_that_is_damaged_is_made_again(self, tmp_path, damage, capsys):
        killed(tmp_path)
        blocks = [tmp_path / f".{RECIPE.digest[:16]}.blocks" / f"{name}.safetensors" for name in NAMES]
        damage(*blocks)
        made = []
        complete(tmp_path, compute=lambda block: (made.append(block.start), tabulated(block))[1])
        assert made == [12, 4]
        assert f"{blocks[0]}: not readable" in capsys.readouterr().err
        complete(tmp_path / "at once")
        at_once = contents(tmp_path / "at once")
        assert {path: contents(tmp_path)[path] for path in at_once} == at_once

    def test_one_that_is_there_is_not_computed(self, tmp_path):
        complete(tmp_path)
        before = contents(tmp_path)
        complete(tmp_path, processes=2, compute=lambda block: pytest.fail("computed again"))
        assert contents(tmp_path) == before


class TestReading:
    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda path: path.unlink(), "not a table"),
            (lambda path: path.write_text("{"), "not a table"),
            (lambda path: path.write_text("[]"), "not a table"),
            (lambda path: path.with_suffix(".safetensors").unlink(), "not a table"),
            (lambda path: path.with_suffix(".safetensors").write_bytes(b"other"), "not the table that .* describes"),
        ],
        ids=["no manifest", "half a manifest", "another manifest", "no tensors", "other tensors"],
    )
    def test_what_is_not_as_it_was_written_is_refused(self, tmp_path, damage, message):
        file = complete(tmp_path)
        damage(file.path)
        with pytest.raises(
            InputError, match=rf"{message}.*; delete {file.path} and run `amed-lightning precompute` again"
        ):
            file.read()
        file.path.unlink(missing_ok=True)
        complete(tmp_path).read()

    @pytest.mark.parametrize(("name", "wrong"), [("0.gram", torch.nan), ("1.features", torch.inf)])
    def test_a_number_that_is_not_finite_is_refused_whatever_the_checksums_say(
        self, tmp_path, monkeypatch, name, wrong
    ):
        file = complete(tmp_path)
        tensors_path = file.path.with_suffix(".safetensors")
        tensors, facts = read_with_facts(tensors_path)
        tensors[name].view(-1)[5] = wrong
        with monkeypatch.context() as patch:
            patch.setattr(tensor_file, "not_finite", lambda tensors: None)
            write_tensors(tensors_path, tensors, facts)
        manifest = json.loads(file.path.read_text()) | {"sha256": file_digest(tensors_path)}
        file.path.write_text(json.dumps(manifest))
        with pytest.raises(
            InputError, match=rf"{tensors_path.name}: .*'{name}' has a NaN or an infinity.*delete {file.path} and"
        ):
            file.read()

    def test_a_table_of_another_recipe_under_this_name_is_refused(self, tmp_path):
        file, other = complete(tmp_path), TableFile(tmp_path, replace(RECIPE, trajectories="cd34"))
        for suffix in (".json", ".safetensors"):
            file.path.with_suffix(suffix).rename(other.path.with_suffix(suffix))
        with pytest.raises(InputError, match="not the table that"):
            other.read()

    def test_too_few_nodes_are_refused_by_interval_and_cure(self, tmp_path):
        strict = replace(RECIPE, agreement=Agreement(bound=1e-9))
        file = complete(tmp_path, recipe=strict)
        worst = json.loads(file.path.read_text())["intervals"][0]["disagreement"]
        message = f"the loss of interval 1 changes by {worst:.0%} where every second of"
        with pytest.raises(InputError, match=re.escape(message) + ".*raise route.most_nodes or route.agreement"):
            file.read()
