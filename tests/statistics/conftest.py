"""Checks the shape annotations of the statistics while the tests run."""

from jaxtyping import install_import_hook

install_import_hook(
    [
        "irisflow.statistics.aggregate",
        "irisflow.statistics.exact",
        "irisflow.statistics.permutation",
        "irisflow.statistics.reference",
    ],
    "beartype.beartype",
)
