"""Checks the shape annotations of the statistics while the tests run."""

from jaxtyping import install_import_hook

install_import_hook(
    [f"irisflow.statistics.{name}" for name in ("aggregate", "exact", "permutation", "reference")],
    "beartype.beartype",
)
