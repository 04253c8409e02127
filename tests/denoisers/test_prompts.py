"""Which prompt a seed has, how prompts are read, and that none is trained on and evaluated with."""

import pytest
import torch

from amed_lightning.config import InputError
from amed_lightning.denoisers.prompts import PromptLists, prompt_lists
from amed_lightning.seeds import Seeds, Stream

SHAPE = (1, 2, 2)
LISTS = PromptLists(training=tuple("abcdefg"), evaluation=("one", "two", "three"))
DRAWING = [stream for stream in Stream if stream is not Stream.evaluation]


class TestNumbers:
    @pytest.mark.parametrize(("start", "stop"), [(0, 7), (2, 4), (29_999, 30_002)])
    def test_evaluation_seeds_take_the_captions_in_their_order(self, start, stop):
        numbers = LISTS.numbers(Seeds(Stream.evaluation, start, stop), SHAPE)
        assert [LISTS.texts[number] for number in numbers] == [LISTS.evaluation[k % 3] for k in range(start, stop)]

    @pytest.mark.parametrize("stream", DRAWING)
    def test_other_seeds_draw_a_training_caption_after_their_noise(self, stream):
        seeds = Seeds(stream, 4, 204)
        numbers = LISTS.numbers(seeds, SHAPE)
        assert numbers.equal(seeds.labels(SHAPE, 7))
        assert {LISTS.texts[number] for number in numbers} == set(LISTS.training)

    def test_a_training_caption_keeps_its_number_beside_other_evaluation_captions(self):
        seeds = Seeds(Stream.training, 0, 50)
        for evaluation in ((), ("four",), tuple("xyz")):
            other = PromptLists(LISTS.training, evaluation)
            assert other.numbers(seeds, SHAPE).equal(LISTS.numbers(seeds, SHAPE))
            assert other.texts[:7] == LISTS.training

    @pytest.mark.parametrize("stream", Stream)
    def test_a_stream_without_prompts_is_refused(self, stream):
        kind = "evaluation" if stream is Stream.evaluation else "training"
        for ask in (lambda: PromptLists().numbers(Seeds(stream, 0, 1), SHAPE), lambda: PromptLists().digest(stream)):
            with pytest.raises(
                InputError, match=f"no {kind} prompts: give it the option `prompts: {{{kind}: <file>}}`"
            ):
                ask()


class TestDigest:
    def test_a_stream_is_known_by_its_own_captions_alone(self):
        for evaluation in (("four",), ("two", "one", "three")):
            other = PromptLists(LISTS.training, evaluation)
            assert other.digest(Stream.training) == LISTS.digest(Stream.training)
            assert other.digest(Stream.evaluation) != LISTS.digest(Stream.evaluation)
        assert len({LISTS.digest(stream) for stream in Stream}) == 2


class TestReading:
    def test_a_list_stands_for_itself(self):
        assert prompt_lists({"training": ["x "], "evaluation": ["a", "b"]}) == PromptLists(("x",), ("a", "b"))
        assert prompt_lists({}) == PromptLists()

    @pytest.mark.parametrize(
        ("prompts", "message"),
        [
            ([], "prompts: the evaluation list: there are no prompts"),
            (["a", " ", "b"], "prompts: the evaluation list: prompt 2 is empty; as seed k takes prompt k, fill it"),
        ],
    )
    def test_a_list_with_an_empty_prompt_is_refused(self, prompts, message):
        with pytest.raises(InputError, match=message):
            prompt_lists({"evaluation": prompts})

    def test_a_missing_file_and_an_unknown_key_are_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"nowhere.txt: not a readable file"):
            prompt_lists({"training": str(tmp_path / "nowhere.txt")})
        with pytest.raises(InputError, match="unknown key 'test'; there are training and evaluation"):
            prompt_lists({"test": ["a"]})


class TestOverlap:
    @pytest.mark.parametrize("again", ["a Cat", "a cat", "A  cat "])
    def test_a_caption_in_both_files_is_refused_with_both_their_names(self, tmp_path, again):
        (tmp_path / "train.txt").write_text("a dog\na cat\n")
        (tmp_path / "test.csv").write_text(f"text\na mouse\n{again}\n")
        files = {"training": str(tmp_path / "train.txt"), "evaluation": str(tmp_path / "test.csv")}
        expected = f"'{again.strip()}' is in both {files['training']} and {files['evaluation']}"
        with pytest.raises(InputError, match=expected):
            prompt_lists(files)

    def test_lists_are_compared_too(self):
        with pytest.raises(InputError, match="'a' is in both the training list and the evaluation list"):
            prompt_lists({"training": ["a"], "evaluation": ["a"]})

    def test_a_caption_twice_in_one_list_is_two_prompts(self):
        lists = prompt_lists({"evaluation": ["a", "a"]})
        assert lists.numbers(Seeds(Stream.evaluation, 0, 2), SHAPE).equal(torch.tensor([0, 1]))
