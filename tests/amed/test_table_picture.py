from matplotlib import pyplot as plt

from amed_lightning.amed.table_picture import draw_table
from amed_lightning.noise.schedules import NoiseRange, TimeUniform, levels
from amed_lightning.solvers.registry import SOLVERS
from amed_lightning.solvers.tabulated import table_of


def test_it_shows_the_levels_and_the_weights():
    table, start = (
        table_of(SOLVERS[name](), levels(TimeUniform(), 3, NoiseRange(0.002, 80.0))) for name in ("ipndm", "euler")
    )
    figure = draw_table(table, start)
    left, right = figure.axes
    shown = {line.get_label(): list(line.get_ydata()) for line in left.lines}
    assert shown == {"start": start.told.tolist(), "learned": table.told.tolist()}
    texts = [text.get_text() for text in right.texts]
    assert texts == [f"{table.answers[row, run]:.2f}" for row in (1, 2, 3) for run in range(row)]
    plt.close(figure)
