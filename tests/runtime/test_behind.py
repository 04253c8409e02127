"""What is finished behind ends in order, one at a time and within its block, and no error is lost."""

import threading
from contextlib import ExitStack

import pytest

from amed_lightning.runtime.beside import behind

PATIENCE = 10


@pytest.fixture
def held():
    """Something to be held, and the names of what was let go."""
    let_go = []

    def of(name):
        stack = ExitStack()
        stack.callback(let_go.append, name)
        return stack

    of.let_go = let_go
    return of


def test_the_block_goes_on_while_a_thing_is_finished_and_it_is_held_until_then(held):
    asked, seen = threading.Event(), []

    def finish():
        assert asked.wait(PATIENCE)
        seen.append((threading.current_thread(), list(held.let_go)))

    with behind() as later:
        later(finish, held("one"))
        assert seen == held.let_go == []
        asked.set()
    ((thread, let_go),) = seen
    assert thread is not threading.main_thread()
    assert not thread.is_alive()
    assert let_go == []
    assert held.let_go == ["one"]


def test_there_is_one_at_a_time_in_order_and_at_the_end_of_the_block_all_are_finished(held):
    asked, done = threading.Event(), []
    with behind() as later:
        later(lambda: (asked.wait(PATIENCE), done.append("one")), held("one"))
        threading.Timer(0.1, asked.set).start()
        later(lambda: done.append("two"), held("two"))
        assert done[:1] == held.let_go[:1] == ["one"]
    assert done == held.let_go == ["one", "two"]


def test_what_goes_wrong_is_told_by_whoever_comes_next_who_keeps_what_is_his(held):
    mine, told = held("two"), []
    with behind() as later:
        later(lambda: 1 / 0, held("one"))
        with pytest.raises(ZeroDivisionError):
            later(lambda: told.append("two"), mine)
    assert (told, held.let_go) == ([], ["one"])
    mine.close()
    assert held.let_go == ["one", "two"]


def block(finish, held, ending):
    """Finish a thing behind a block that ends so."""
    with behind() as later:
        later(finish, held)
        if ending is not None:
            raise ending


@pytest.mark.parametrize("ending", [None, SystemExit(85)])
def test_what_goes_wrong_last_is_told_by_the_end_of_the_block_however_that_ends(held, ending):
    with pytest.raises(ZeroDivisionError):
        block(lambda: 1 / 0, held("one"), ending)
    assert held.let_go == ["one"]


def test_who_ends_early_waits_for_what_is_being_finished(held):
    asked, done = threading.Event(), []
    threading.Timer(0.1, asked.set).start()
    with pytest.raises(SystemExit):
        block(lambda: (asked.wait(PATIENCE), done.append("one")), held("one"), SystemExit(85))
    assert done == ["one"]
