"""What command lines of benchmarks share."""

import argparse


def at_least_one(text: str) -> int:
    """A count, for `type=` of an argument."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {number}")
    return number
