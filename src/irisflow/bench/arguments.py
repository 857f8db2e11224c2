"""The arguments of `irisflow bench`. Imports nothing heavy."""

import argparse
from pathlib import Path

PURPOSE = "measure how fast each phase of training is, beside its plain counterpart and this machine's peaks"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Declare what `irisflow bench` takes."""
    command.add_argument(
        "--scale", default="quick", help="sizes (params/scale/): quick, or full for IRIS's own"
    )
    command.add_argument("--variant", default="iris", help="params/variant/: for example backbone_retnet")
    command.add_argument(
        "--quick", action="store_true", help="few repetitions: at scale quick less than 5 minutes"
    )
    command.add_argument(
        "--phases", nargs="+", default=[], metavar="PHASE", help="only these; a wrong name lists them"
    )
    command.add_argument(
        "--override", action="append", default=[], metavar="KEY=VALUE", help="change one key; may be repeated"
    )
    command.add_argument("--device", default="auto", help="auto, cpu, cuda:0, ...")
    command.add_argument("--threads", type=int, default=None, help="of torch on the CPU; default: all cores")
    command.add_argument("--output", type=Path, metavar="FILE", help="write the result as JSON")
    command.add_argument(
        "--figure", type=Path, metavar="FILE", help="write the roofline picture: .png, .svg or .pdf"
    )
    command.add_argument(
        "--check",
        action="store_true",
        help="fail if a fast way is not as much faster as it must be; without --phases, measures those that have a bound",
    )
    command.add_argument(
        "--compare", nargs=2, type=Path, metavar=("A", "B"), help="compare two results instead of measuring"
    )
