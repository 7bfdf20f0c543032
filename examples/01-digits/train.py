"""Train a small convolutional network on handwritten digits: a user's own program, which knows nothing of Slipway.

Slipway's side of the contract: it starts this file with ``--output DIR`` and the arguments of the spec as
``--name=value``. Ours: leave one model in that folder and end with exit code 0.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

HOLDOUT = Path(__file__).with_name("holdout.npz")
BATCH_SIZE = 64


def training_data() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return every digit that is not held out.

    Rows are told apart by their pixels, so a duplicate of a held-out image cannot slip into the training either.

    Returns:
        Images, float32 [rows, 8, 8], brightness within [0, 1]; and labels, int64 [rows], the digits 0 to 9.
    """
    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)
    with np.load(HOLDOUT) as held_out:
        unseen = {image.tobytes() for image in held_out["image"]}
    keep = np.array([image.tobytes() not in unseen for image in images])
    return images[keep], digits.target[keep].astype(np.int64)


def normalised_relu() -> list[keras.Layer]:
    """Batch normalization and ReLU; a short training needs moving averages that follow faster than Keras's default."""
    return [keras.layers.BatchNormalization(momentum=0.9), keras.layers.ReLU()]


def network(hidden: int, *, learning_rate_steps: int) -> keras.Model:
    """Return an untrained model: ``image`` float32 [rows, 8, 8] to probabilities float32 [rows, 10].

    Args:
        hidden: Units of the dense layer.
        learning_rate_steps: Steps over which the learning rate falls to zero along a cosine.
    """
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8), name="image"),
            layers.Reshape((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            *normalised_relu(),
            layers.Conv2D(16, 3, padding="same", use_bias=False),
            *normalised_relu(),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(hidden, use_bias=False),
            *normalised_relu(),
            layers.Dropout(0.3),
            layers.Dense(10, activation="softmax", name="scores"),
        ]
    )
    schedule = keras.optimizers.schedules.CosineDecay(3e-3, learning_rate_steps)
    model.compile(keras.optimizers.Adam(schedule), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a classifier of handwritten digits.")
    parser.add_argument("--output", type=Path, required=True, help="folder to write model.keras to")
    parser.add_argument("--seed", type=int, default=1, help="seed of weights, order of rows and dropout")
    parser.add_argument("--epochs", type=int, default=15, help="passes over the training data")
    parser.add_argument("--hidden", type=int, default=64, help="units of the dense layer")
    parser.add_argument(
        "--shuffle-labels",
        choices=("true", "false"),
        default="false",
        help="train on labels in random order: a model that has learned nothing",
    )
    return parser.parse_args()


def main() -> None:
    given = arguments()
    keras.utils.set_random_seed(given.seed)
    images, labels = training_data()
    if given.shuffle_labels == "true":
        labels = np.random.default_rng(given.seed).permutation(labels)
    model = network(given.hidden, learning_rate_steps=given.epochs * -(-len(images) // BATCH_SIZE))
    history = model.fit(images, labels, batch_size=BATCH_SIZE, epochs=given.epochs, verbose=0)
    print(f"{len(images)} rows, {given.epochs} epochs: training accuracy {history.history['accuracy'][-1]:.4f}")
    given.output.mkdir(parents=True, exist_ok=True)
    model.save(given.output / "model.keras")


if __name__ == "__main__":
    main()
