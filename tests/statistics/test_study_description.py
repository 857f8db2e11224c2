"""What the report is told about a study."""

from irisflow.statistics.study import StudyDescription, VariantDescription


def test_variants_that_change_the_same_thing_stand_beside_each_other_behind_the_baseline() -> None:
    axes = {
        "fsq": "quantizer",
        "gru": "backbone",
        "base": "baseline",
        "lfq": "quantizer",
        "mamba": "backbone",
    }
    study = StudyDescription(
        name="study",
        title="",
        scale="smoke",
        scale_note="",
        games=("Pong",),
        variants=tuple(VariantDescription(name, axis=axis) for name, axis in axes.items()),
        baseline="base",
        seeds=(0,),
        num_evaluation_episodes=1,
    )
    assert [variant.name for variant in study.ordered_variants] == ["base", "fsq", "lfq", "gru", "mamba"]
