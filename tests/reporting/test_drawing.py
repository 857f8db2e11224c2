"""What every figure shares: names that break, and a legend that stays inside."""

from irisflow.reporting.drawing import broken, legend, panel_grid
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
