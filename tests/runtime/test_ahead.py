"""What is made ahead comes in order, one ahead and no more, and nothing goes on where its reader stops."""

import threading

import pytest

from amed_lightning.runtime.beside import ahead


class Source:
    """Numbers from 0, and which have been begun."""

    def __init__(self, stop, broken=None):
        self.stop, self.broken = stop, broken
        self.begun, self.threads = [], set()

    def __iter__(self):
        for number in range(self.stop):
            self.begun.append(number)
            self.threads.add(threading.current_thread())
            if number == self.broken:
                raise ZeroDivisionError(number)
            yield number


def test_items_come_in_order_from_one_other_thread_which_ends():
    source = Source(20)
    assert list(ahead(source)) == list(range(20))
    (thread,) = source.threads
    assert thread is not threading.main_thread()
    assert not thread.is_alive()


def test_one_item_is_made_while_another_is_used():
    entered, used = threading.Event(), threading.Event()

    def items():
        yield 0
        entered.set()
        assert used.wait(10)
        yield 1

    made = ahead(items())
    assert next(made) == 0
    assert entered.wait(10)
    used.set()
    assert list(made) == [1]


def test_who_stops_early_leaves_nothing_running():
    source = Source(100)
    made = ahead(source)
    assert [next(made) for _ in range(4)] == [0, 1, 2, 3]
    made.close()
    assert source.begun[-1] == 4
    assert not any(thread.is_alive() for thread in source.threads)


def test_what_goes_wrong_goes_wrong_where_it_is_used():
    made = ahead(Source(9, broken=2))
    assert [next(made), next(made)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(made)
