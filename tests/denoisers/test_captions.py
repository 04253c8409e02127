"""Files of captions: each kind is read whole and in order, or refused by name; none loses a caption or gains one."""

import csv
import io
import json

import pytest

from amed_lightning.config import InputError
from amed_lightning.denoisers.captions import read_captions
from amed_lightning.denoisers.prompts import prompt_lists
from amed_lightning.seeds import Stream

CAPTIONS = ("a cat, asleep", 'a "dog"\nand a man', "ein Bär; zwei", "a cat, asleep")
PLAIN = ("a cat", "a dog", "ein Bär")
PARTI = "Prompt\tCategory\tChallenge\tNote\na corgi\tAnimals\tBasic\t\na cup of boba\tFood & Beverage\tBasic\ta note\n"
COCO = {"info": {}, "annotations": [{"image_id": 9, "id": 1, "caption": caption} for caption in CAPTIONS]}


@pytest.fixture
def read(tmp_path):
    """Write a file and read it."""

    def write_and_read(name, content):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_captions(tmp_path / name)

    return write_and_read


@pytest.fixture
def refusal(read):
    """Return the one line that a file is refused with."""

    def message(name, content):
        with pytest.raises(InputError, match=name) as refused:
            read(name, content)
        assert "\n" not in str(refused.value)
        return str(refused.value)

    return message


def table(column, delimiter=",", end="\n"):
    """A table with the captions in the second of three columns."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end)
    writer.writerows([["id", column, "n"], *([number, caption, ""] for number, caption in enumerate(CAPTIONS))])
    return text.getvalue()


class TestText:
    @pytest.mark.parametrize("name", ["a.txt", "A.TXT"])
    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("after", ["", "{end}", "{end}{end} {end}"])
    def test_a_line_is_a_caption_and_lines_end_as_anywhere(self, read, name, end, after):
        assert read(name, end.join(f" {line} " for line in PLAIN) + after.format(end=end)) == PLAIN

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
    def test_it_is_unicode_in_any_form(self, read, encoding):
        assert read("a.txt", "\n".join(PLAIN).encode(encoding)) == PLAIN

    def test_only_lines_part_captions(self, read):
        odd = ("a\u2028b", "c\x0bd", "e\x85f", '"g", "h"', "[i] j", "a caption, a text", "{k}", "1")
        assert read("a.txt", "\n".join(odd)) == odd

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("a cat\n\na dog", "line 2 is empty; as seed k takes prompt k, fill it or take it out"),
            ("\na cat", "line 1 is empty"),
            ("a cat\tAnimals\na dog\tAnimals", "line 1 has a tab in it, as a table has; call a table .tsv"),
            (PARTI, "line 1 has a tab in it"),
            ("Prompt\na cat", "line 1 is 'Prompt', which is no prompt; call tables .csv, and JSON .json"),
            ("captions\na cat", "line 1 is 'captions'"),
            ("image_id,caption\n1,a cat", "line 1 is 'image_id,caption'"),
            ('"id";"Text"\n1;a cat', "line 1 is"),
            ('{"caption": "a cat"}\n{"caption": "a dog"}', "line 1 is"),
            (json.dumps(CAPTIONS, indent=1), "line 1 is '['"),
            (" \n\n", "there are no prompts"),
            ("", "there are no prompts"),
            (b"\xff\xfe\xfd", "truncated data; save it as UTF-8"),
            (
                "ein Bär".encode("latin-1"),
                "can't decode byte 0xe4 in position 5: invalid continuation byte; save it as UTF-8",
            ),
            (b"a cat\n\0\n", "it is not text; save it as UTF-8"),
        ],
    )
    def test_what_would_be_another_list_is_refused(self, refusal, content, message):
        assert message in refusal("a.txt", content)


class TestTables:
    @pytest.mark.parametrize("column", ["caption", "text", "prompt", " Prompt ", "TEXT"])
    @pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("A.CSV", ";"), ("a.csv", "\t"), ("a.Tsv", "\t")])
    def test_the_column_of_captions_is_found(self, read, column, name, delimiter):
        assert read(name, table(column, delimiter)) == CAPTIONS

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
    @pytest.mark.parametrize("end", ["\r\n", "\n"])
    def test_it_may_come_from_a_spreadsheet(self, read, encoding, end):
        assert read("a.csv", table("Caption", ";", end).encode(encoding)) == CAPTIONS

    def test_the_usual_lists_are_read(self, read):
        assert read("PartiPrompts.tsv", PARTI) == ("a corgi", "a cup of boba")
        assert read("coco.csv", 'file_name,text\n1.jpg,"a cat, asleep"\n2.jpg,a dog\n') == ("a cat, asleep", "a dog")
        assert read("one.csv", "caption\na cat\n\n\n") == ("a cat",)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("image,words\n1,a cat\n", "no column caption, text or prompt, and one is needed; there are image, words"),
            ("", "no column caption, text or prompt, and one is needed; there are none"),
            (
                "caption,Text\na,b\n",
                "several columns caption, text or prompt, and one is needed; there are caption, Text",
            ),
            ("caption,caption\na,b\n", "several columns"),
            ("n,text\n1,a cat\n2,\n3,a dog\n", "row 3 is empty; as seed k takes prompt k"),
            ("text\na cat\n\na dog\n", "row 3 is empty"),
            ("text\na cat, asleep\n", "row 2 has 2 fields and the header 1; put texts in quotes"),
            ("n,text\n1\n", "row 2 has 1 fields and the header 2"),
            ('n,text\n1,"a cat\n2,a dog\n', "unexpected end of data"),
            ('n,text\n1,"a" cat\n', "',' expected after '\"'"),
            ("text\n", "there are no prompts"),
            ("text\n" + 200_000 * "a", "not a readable file of prompts: field larger"),
        ],
    )
    def test_what_would_be_another_list_is_refused(self, refusal, content, message):
        assert message in refusal("a.csv", content)


class TestJSON:
    def test_geneval_s_lines_say_their_prompt_among_other_things(self, read):
        lines = [
            {"tag": "counting", "include": [{"class": "clock", "count": 2}], "prompt": "a photo of two clocks"},
            {"tag": "colors", "include": [{"class": "car", "color": "red"}], "prompt": "a photo of a red car"},
        ]
        said = "\n".join(map(json.dumps, lines)) + "\n"
        assert read("evaluation_metadata.jsonl", said) == ("a photo of two clocks", "a photo of a red car")

    @pytest.mark.parametrize(
        "content",
        [CAPTIONS, [{"caption": text} for text in CAPTIONS], [{"id": 1, "Prompt": text} for text in CAPTIONS], COCO],
    )
    def test_lists_of_texts_and_of_objects_are_read(self, read, content):
        assert read("a.json", json.dumps(content)) == CAPTIONS
        assert read("a.JSON", json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8-sig")) == CAPTIONS
        if content is not COCO:
            assert read("a.jsonl", "\r\n".join(json.dumps(item) for item in content) + "\n\n") == CAPTIONS

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.json", '["a", 7]', "item 2 is neither a text nor an object with one text caption, text or prompt"),
            ("a.json", '["a", {"words": "b"}]', "item 2 is neither"),
            ("a.json", '[{"text": "a", "caption": "b"}]', "item 1 is neither"),
            ("a.json", '[{"text": null}]', "item 1 is neither"),
            ("a.json", '["a", ""]', "item 2 is empty"),
            ("a.json", '{"prompts": ["a"]}', "neither a JSON list nor an object with a list 'annotations'"),
            ("a.json", '{"text": "a"}\n{"text": "b"}', "Extra data"),
            ("a.json", "[]", "there are no prompts"),
            ("a.json", "", "Expecting value"),
            ("a.jsonl", '"a"\n\n"b"', "line 2 is empty"),
            ("a.jsonl", '"a"\nb', "line 2: Expecting value"),
            ("a.jsonl", "[]", "line 1 is neither"),
        ],
    )
    def test_what_is_not_a_list_of_captions_is_refused(self, refusal, name, content, message):
        assert message in refusal(name, content)


@pytest.mark.parametrize("name", ["a", "a.parquet", "a.yaml", "a.csv.gz", "a.lst"])
def test_another_kind_of_file_is_refused(refusal, name):
    assert "a file of prompts is called .txt, .csv, .tsv, .json, .jsonl" in refusal(name, "a cat\n")


def test_the_same_captions_are_the_same_prompts_from_every_kind_of_file(read, tmp_path):
    contents = {
        "a.txt": "\n".join(PLAIN),
        "a.csv": "\n".join(["text", *PLAIN]),
        "a.tsv": "\n".join(["n\tPrompt", *(f"1\t{text}" for text in PLAIN)]),
        "a.json": json.dumps(PLAIN),
        "a.jsonl": "\n".join(map(json.dumps, PLAIN)),
    }
    for name, content in contents.items():
        read(name, content)
    digests = {prompt_lists({"evaluation": str(tmp_path / name)}).digest(Stream.evaluation) for name in contents}
    assert digests == {prompt_lists({"evaluation": list(PLAIN)}).digest(Stream.evaluation)}
    assert digests == {"8965afc22e0735ef7a2fd47d04915b74cc72328088f491622e97354772dfe17b"}
