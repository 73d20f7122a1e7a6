"""A small network in NumPy: one batch costs tens of microseconds, and many can be trained side by side in threads."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Layer = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Network:
    """Fully connected layers with ReLU between them and softmax at the end.

    Attributes:
        matrices: (inputs, outputs) of each layer.
        offsets: (outputs,) of each layer.
    """

    matrices: tuple[Layer, ...]
    offsets: tuple[Layer, ...]

    def probabilities(self, vectors: Layer) -> Layer:
        """(n, K) class probabilities."""
        x = vectors
        for matrix, offset in zip(self.matrices[:-1], self.offsets[:-1], strict=True):
            x = np.maximum(x @ matrix + offset, 0)
        return _softmax(x @ self.matrices[-1] + self.offsets[-1])


def train_network(
    vectors: Layer,
    codes: NDArray[np.integer],
    weights: NDArray[np.float32],
    *,
    hidden: tuple[int, ...],
    epochs: int,
    min_steps: int,
    batch: int,
    learning_rate: float,
    penalty: float,
    seed: int,
) -> Network:
    """Minimise weighted cross-entropy + penalty / 2 * sum of squared weights by Adam (Kingma and Ba 2015).

    Args:
        vectors: (m, d) float32.
        codes: (m,) classes in [0, K), every one of them there.
        weights: (m,) weight of each user in the loss, mean 1.
        hidden: widths of the hidden layers.
        epochs: rounds over the users.
        min_steps: least number of batches; more rounds are made where ``epochs`` gives fewer.
        batch: users in a batch.
        learning_rate: of the first step; it goes down linearly to 0.
        penalty: not negative.
        seed: of initial weights and order.
    """
    rng = np.random.default_rng(seed)
    widths = (vectors.shape[1], *hidden, int(codes.max()) + 1)
    # One flat array of parameters, so that Adam is four calls and not four a layer; the layers are views of it.
    shapes = list(pairwise(widths))
    parameters = np.zeros(sum(a * b + b for a, b in shapes), dtype=np.float32)
    gradient, first, second = (np.zeros_like(parameters) for _ in range(3))
    matrices, offsets = _views(parameters, shapes)
    matrix_gradients, offset_gradients = _views(gradient, shapes)
    for matrix in matrices:
        matrix[:] = rng.normal(scale=np.sqrt(2 / len(matrix)), size=matrix.shape)  # He et al. 2015, for ReLU
    truth = np.eye(widths[-1], dtype=np.float32)[codes]
    batches = max(1, -(-len(vectors) // batch))
    rounds = max(epochs, -(-min_steps // batches))
    step, steps = 0, rounds * batches
    for _ in range(rounds):
        for rows in np.array_split(rng.permutation(len(vectors)), batches):
            inputs = [vectors[rows]]
            for matrix, offset in zip(matrices[:-1], offsets[:-1], strict=True):
                inputs.append(np.maximum(inputs[-1] @ matrix + offset, 0))
            error = _softmax(inputs[-1] @ matrices[-1] + offsets[-1]) - truth[rows]
            error *= (weights[rows] / np.float32(len(rows)))[:, None]
            for layer in range(len(shapes) - 1, -1, -1):
                np.matmul(inputs[layer].T, error, out=matrix_gradients[layer])
                matrix_gradients[layer] += np.float32(penalty) * matrices[layer]
                np.sum(error, axis=0, out=offset_gradients[layer])
                if layer:
                    error = (error @ matrices[layer].T) * (inputs[layer] > 0)
            step += 1
            first += np.float32(0.1) * (gradient - first)
            second += np.float32(0.001) * (gradient * gradient - second)
            # Adam's corrections for a start at zero, folded into the step length.
            rate = learning_rate * (1 - (step - 1) / steps) * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            parameters -= np.float32(rate) * first / (np.sqrt(second) + np.float32(1e-8))
    return Network(tuple(matrices), tuple(offsets))


def _views(flat: Layer, shapes: list[tuple[int, int]]) -> tuple[list[Layer], list[Layer]]:
    matrices, offsets, start = [], [], 0
    for a, b in shapes:
        matrices.append(flat[start : start + a * b].reshape(a, b))
        offsets.append(flat[start + a * b : start + a * b + b])
        start += a * b + b
    return matrices, offsets


def _softmax(values: Layer) -> Layer:
    values = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(values / values.sum(axis=1, keepdims=True))
