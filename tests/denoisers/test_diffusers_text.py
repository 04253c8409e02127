"""Prompts as tokens: what is too long is cut off, and that is said."""

import json

import pytest
import torch
import transformers

from amed_lightning.denoisers import diffusers_models, encoded_prompts
from amed_lightning.denoisers.guidance import OPEN_CLASS

from .loading import CAPTIONS, PROMPTS, copied, text

LONG = CAPTIONS[2]


@pytest.fixture(autouse=True)
def nothing_said():
    diffusers_models._warn.cache_clear()


def conditioning_of(model):
    return model.denoiser.denoiser.model.conditioning


def encoded(folder, prompt, length):
    """Encode a prompt as diffusers' pipeline does, with tokens up to a length."""
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    encoder = transformers.CLIPTextModel.from_pretrained(folder / "text_encoder").eval()
    options = {"padding": "max_length", "max_length": length, "truncation": True, "return_tensors": "pt"}
    with torch.no_grad():
        return encoder(tokenizer(prompt, **options).input_ids).last_hidden_state[0]


@pytest.mark.parametrize(("said", "length"), [(16, 16), (8, 8), (1000, 16), (None, 16)])
def test_a_prompt_is_as_long_as_tokenizer_and_encoder_both_take(tiny, tmp_path, said, length):
    folder = copied(tiny["stable_diffusion"], tmp_path, tokenizer__tokenizer_config={"model_max_length": said})
    if said is None:
        path = folder / "tokenizer" / "tokenizer_config.json"
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "model_max_length"}))
    conditioning = conditioning_of(text(folder))
    with torch.no_grad():
        answers = conditioning(torch.tensor([OPEN_CLASS, 0, 3]), 3)["encoder_hidden_states"]
    for answer, prompt in zip(answers, ["", *PROMPTS["training"], LONG], strict=True):
        torch.testing.assert_close(answer, encoded(folder, prompt, length))


@pytest.mark.parametrize("name", ["stable_diffusion", "sdxl"])
def test_a_batch_of_more_prompts_than_are_kept_is_encoded_once(tiny, name, monkeypatch, tmp_path):
    monkeypatch.setattr(encoded_prompts, "KEPT", 2)
    parts = [part.name for part in tiny[name].glob("tokenizer*")]
    folder = copied(tiny[name], tmp_path, **{f"{part}__tokenizer_config": {"model_max_length": 12} for part in parts})
    prompts = conditioning_of(text(folder)).prompts
    runs = []
    for encoder in prompts.encoders:
        encoder.register_forward_hook(lambda *said: runs.append(said))
    for _ in range(2):
        prompts(torch.tensor([OPEN_CLASS, 0, 1, 2, 0]), 5)
    assert len(runs) == 4 * len(prompts.encoders)


def test_each_list_says_once_how_many_prompts_are_cut_off(tiny, capsys):
    prompts = {"training": [LONG, "a house", LONG + "!"], "evaluation": [*CAPTIONS[:2], LONG + "?"]}
    for _ in range(2):
        text(tiny["sdxl"], prompts=prompts)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: prompts")]
    assert said == [
        f"warning: prompts: {count} prompts have more tokens than the text encoder takes, and are cut off; "
        f"the first is '{(LONG + end)[:80]}'"
        for count, end in (("2 of 3 training", ""), ("1 of 3 evaluation", "?"))
    ]


def test_nothing_is_said_of_prompts_that_fit(tiny, capsys):
    model = text(tiny["stable_diffusion"], prompts={"evaluation": CAPTIONS[:2]})
    assert conditioning_of(model).cut == set()
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("entry", [{"pad_token": "<|startoftext|>"}, {"model_max_length": 8}], ids=str)
def test_how_prompts_are_filled_up_belongs_to_the_digest(tiny, tmp_path, entry):
    """The U-Net attends to what they are filled up with."""
    folder = copied(tiny["stable_diffusion"], tmp_path, tokenizer__tokenizer_config=entry)
    assert text(folder).digest != text(tiny["stable_diffusion"]).digest


def test_a_number_that_no_prompt_has_is_an_error(tiny):
    conditioning = conditioning_of(text(tiny["stable_diffusion"]))
    with pytest.raises(IndexError):
        conditioning(torch.tensor([4]), 1)
