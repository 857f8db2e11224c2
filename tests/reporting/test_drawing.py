"""What every figure shares: names that break, a legend that stays inside, markers that do not cover each other."""

from irisflow.reporting.drawing import broken, legend, panel_grid, staggered
from irisflow.reporting.style import Look, drawing_style

LONG = ["control_foreign_frames", "control_shuffled_rewards", "control_untrained_world_model", "iris"]


def test_a_long_name_breaks_at_underscores_and_loses_nothing() -> None:
    for name in LONG:
        lines = broken(name).split("\n")
        assert "".join(lines) == name
        assert all(len(line) <= 16 for line in lines)
    assert broken("iris_pretrained") == "iris_pretrained"


def test_a_legend_of_long_names_stays_inside_a_narrow_figure() -> None:
    with drawing_style():
        figure, _ = panel_grid(["Catch"])
        legend(figure, {name: Look("#000000", "o") for name in ["random play", *LONG]})
        figure.draw_without_rendering()
    right = figure.legends[0].get_window_extent().x1
    assert right <= figure.bbox.x1


def test_a_legend_has_one_row_where_its_entries_fit_and_else_full_rows() -> None:
    for names, columns in ((["iris", "a", "b", "c", "d", "e", "final evaluation"], 7), ([*LONG, *LONG], 4)):
        with drawing_style():
            figure, _ = panel_grid(list("abc"))
            legend(figure, {f"{name}{place}": Look("#000000", "o") for place, name in enumerate(names)})
        assert figure.legends[0]._ncols == columns


def test_lines_side_by_side_have_their_markers_at_different_points() -> None:
    starts = [staggered(index, 6, 12) for index in range(6)]
    assert starts == [(0, 12), (2, 12), (4, 12), (6, 12), (8, 12), (10, 12)]
