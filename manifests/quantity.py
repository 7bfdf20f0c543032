"""Arithmetic on Kubernetes quantities (apimachinery, ``pkg/api/resource/quantity.go``)."""

import math
import re
from fractions import Fraction

from manifests.spec import Quantity

_SCALE = {
    "": Fraction(1),
    "m": Fraction(1, 1000),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
}


def amount(quantity: Quantity) -> Fraction:
    """Return a quantity in its base unit: bytes, cores."""
    number = re.match(r"[0-9.]+", quantity)
    # The type promises a leading number and one of the suffixes above.
    digits = number.group() if number else "0"
    return Fraction(digits) * _SCALE[quantity[len(digits) :]]


def total_mebibytes(*quantities: Quantity) -> str:
    """Return the sum of quantities of bytes, rounded up to whole MiB, as a quantity."""
    return f"{math.ceil(sum(map(amount, quantities)) / 2**20)}Mi"


def whole_cores(cpu: Quantity) -> int:
    """Return how many threads a quantity of CPU keeps busy: its cores rounded up, at least 1."""
    return max(1, math.ceil(amount(cpu)))
