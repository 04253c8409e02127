"""The page of a sweep: it shows what the table shows, needs no network, and runs nothing that a name says."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import pytest
import torch
from PIL import Image

from amed_lightning.bench.report import TALLEST, data_uri, page
from amed_lightning.bench.results import Results, block_name
from amed_lightning.runtime.tensor_file import write_tensors

from .browser import browser
from .sheets import NAMES, row

HOSTILE = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">{{ 7*7 }}"
ROWS = [
    row("euler", fid=31.5, error=0.05),
    row("amed", fid=9.75, error=0.25),
    row("ipndm-4", fid=7.25, nfe=6),
    row("heun", fid=5.0, nfe=78, reference=True),
    row("deis", fid=100.0, nfe=6, schedule=HOSTILE),
]
SOURCE = {"versions": {"torch": "2.15.0"}, "commit": "abcdef", "dirty": True, "device": "cpu (x86_64)"}


@pytest.fixture
def results(tmp_path):
    """A folder of finished rows, with samples, and a cell that is missing and one that is excluded."""
    results = Results(tmp_path / "small")
    cells = [{name: each[name] for name in (*NAMES, "key")} for each in ROWS]
    missing = cells[0] | {"label": "unipc", "key": "missing"}
    excluded = {name: cells[0][name] for name in NAMES} | {"label": HOSTILE, "excluded": HOSTILE}
    results.row("a").parent.mkdir(parents=True)
    results.plan.write_text(json.dumps({"cells": [*cells, missing, excluded]}))
    for number, each in enumerate(ROWS):
        each = each | {"provenance": SOURCE | ({"commit": "012345"} if number else {})}
        results.row(each["key"]).write_text(json.dumps(each))
        images = torch.full((3, 1, 8, 8), 50 * number, dtype=torch.uint8)
        write_tensors(results.sums(each["key"], 0), {"samples": images}, {"block": block_name(each["key"], 0)})
    return results


class Tags(HTMLParser):
    """Every tag with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


class TestPage:
    def test_it_has_a_line_per_cell_with_its_cost_and_what_is_missing(self, results):
        text = page(results)
        cells = re.findall(r"<td[^>]*>([^<]*)</td>", text)
        assert len(cells) == 7 * 9
        assert [cells[number * 9 + 1] for number in range(3)] == ["amed", "euler", "unipc"]
        assert cells[4] == "9.75 ± 0.25"
        assert cells[7:9] == ["240", "0.125"]
        assert "Without a result: 1 missing, 1 excluded." in text

    def test_it_has_a_picture_per_score_and_a_strip_per_curve_and_reference(self, results):
        tags = Tags(page(results)).found
        assert sum(tag == "svg" for tag, _ in tags) == 2
        strips = [attributes["alt"] for tag, attributes in tags if tag == "img"]
        assert [strip.split()[2] for strip in strips] == ["heun", "amed", "euler", "heun", "ipndm-4", "deis"]

    def test_it_says_where_the_rows_came_from_and_where_they_differ(self, results):
        text = page(results)
        assert "<dt>torch</dt><dd>2.15.0</dd>" in text
        assert "<dt>commit</dt><dd>012345 with changes (4 cells); abcdef with changes (1 cells)</dd>" in text

    def test_it_refers_to_nothing_outside_and_what_names_say_is_text(self, results):
        tags = Tags(page(results)).found
        addresses = [value for _, attributes in tags for name, value in attributes.items() if name in ("src", "href")]
        addresses += [attributes["xlink:href"] for _, attributes in tags if "xlink:href" in attributes]
        assert addresses
        assert all(address.startswith(("data:image/png", "#")) for address in addresses)
        assert [tag for tag, _ in tags].count("script") == 1
        assert not any(name.startswith("on") for _, attributes in tags for name in attributes)
        assert "{{ 7*7 }}" in page(results)

    def test_equal_rows_are_an_equal_page(self, results):
        assert page(results) == page(results)


class TestStrip:
    @pytest.mark.parametrize(("shape", "size"), [((1, 8, 8), (27, 8)), ((3, 192, 192), (290, TALLEST))])
    def test_images_stand_side_by_side_and_large_ones_are_shrunk(self, shape, size):
        uri = data_uri(torch.full((3, *shape), 7, dtype=torch.uint8))
        with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))) as picture:
            assert picture.size == size


class TestBrowser:
    def test_a_person_can_read_and_sort_it_on_a_screen_and_a_telephone(self, results, tmp_path):
        path = tmp_path / "page.html"
        path.write_text(page(results), encoding="utf-8")
        with browser() as window:
            for width in (1280, 390):
                size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
                window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
                window.get(path.as_uri())
                assert window.execute_script("return document.documentElement.scrollWidth") <= width
            assert window.title == "small: FID and IS against network runs"
            scores = "return [...document.querySelectorAll('tbody tr')].map(row => row.cells[4].innerText)"
            click = "document.querySelectorAll('th button')[4].click()"
            window.execute_script(click)
            assert window.execute_script(scores)[:3] == ["5.00 ± 0.00", "7.25 ± 0.00", "9.75 ± 0.25"]
            window.execute_script(click)
            assert window.execute_script(scores)[:2] == ["100.00 ± 0.00", "31.50 ± 0.05"]
            assert window.execute_script(scores)[-1] in ("missing", "excluded [1]")
            assert window.get_log("browser") == []
