"""Write ``holdout.npz``: the digits that ``train.py`` never sees.

The data is the UCI "Optical Recognition of Handwritten Digits" test set that ships inside scikit-learn
(https://archive.ics.uci.edu/dataset/80): 1,797 images of 8 x 8 pixels with values 0 to 16. Which rows are held out is
decided by a seeded permutation, so the same arrays come out on every machine; a test compares them with the file.

Run ``python make_holdout.py [FILE]``.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

ROWS = 450
SEED = 20240101


def holdout() -> dict[str, NDArray[np.generic]]:
    """Return the held-out rows.

    Returns:
        ``image``, float32 [450, 8, 8], brightness within [0, 1]; and ``labels``, int64 [450], the digits 0 to 9.
    """
    digits = load_digits()
    rows = np.random.default_rng(SEED).permutation(len(digits.target))[:ROWS]
    return {
        "image": (digits.images[rows] / 16.0).astype(np.float32),
        "labels": digits.target[rows].astype(np.int64),
    }


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("holdout.npz")
    arrays = holdout()
    np.savez_compressed(target, image=arrays["image"], labels=arrays["labels"])
    print(f"wrote {target}")


if __name__ == "__main__":
    main()
