"""The demo's table has its marks, README has ten of its rows, and what is not the demo's table is found."""

import pytest

from .readme import BEGIN, END, IN_README, ORIGIN, PAGE, README, between, brief, differences, rows, section, written

TABLE = """| NFE | solver | schedule | AFS | FID | IS |
| --- | --- | --- | --- | --- | --- |
| 5 | amed | time_uniform | yes | **4.37 ± 0.25** | 9.26 ± 0.03 |
| 78 | heun | polynomial |  | 2.97 ± 0.20 |  |

n = 2304
"""
OTHER = TABLE.replace("4.37", "9.99")
BEFORE = f"# A title\n\n{BEGIN}{OTHER}\nof old\n{END}\nWhat it says.\n"


def test_readme_has_ten_rows_of_the_page_as_they_are():
    text = README.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert len(IN_README) == 10
    assert section(text) == brief(section(PAGE.read_text()))
    assert between(text, section(text)) == text


def test_a_row_of_readme_that_the_table_lacks_is_missed():
    with pytest.raises(ValueError, match="no row of README's in the table"):
        brief(TABLE)


def test_the_page_has_its_marks_once_and_between_them_rows_and_the_hardware_that_they_are_of():
    text = PAGE.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert len(rows(section(text))) > 50
    assert ORIGIN.split("{}")[0] in section(text)


class TestWritten:
    def test_it_changes_what_is_between_the_marks_and_nothing_else(self):
        after = written(BEFORE, TABLE, "cpu-here")
        assert section(after).startswith(f"{TABLE}\nComputed on `cpu-here`. ")
        assert after.replace(section(after), "") == BEFORE.replace(section(BEFORE), "")

    def test_twice_is_once(self):
        once = written(BEFORE, TABLE, "cpu-here")
        assert written(once, TABLE, "cpu-here") == once
        assert differences(once, TABLE, "cpu-here", set()) == []


@pytest.mark.parametrize("origin", ["cpu-here", "cpu-elsewhere"])
@pytest.mark.parametrize(
    ("old", "new", "is_near"),
    [
        ("4.37", "4.38", True),
        ("4.37", "5.12", True),
        ("4.37", "5.13", False),
        ("9.26", "9.16", False),
        ("**4.37 ± 0.25**", "4.37 ± 0.27", True),
        ("9.26 ± 0.03", "", False),
        ("| 78 |", "| 80 |", False),
    ],
)
@pytest.mark.parametrize("fitted", [set(), {("5", "amed", "time_uniform", "yes")}], ids=["solver", "fit"])
def test_rows_without_a_fit_are_compared_digit_for_digit_on_the_same_hardware_and_all_others_within_their_errors(
    origin, fitted, old, new, is_near
):
    text = written(BEFORE, TABLE, "cpu-here")
    found = differences(text, TABLE.replace(old, new), origin, fitted)
    assert (found == []) == (is_near and (origin == "cpu-elsewhere" or bool(fitted)))


def test_two_rows_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two rows of the table have one name"):
        rows(TABLE + TABLE.splitlines()[2])
