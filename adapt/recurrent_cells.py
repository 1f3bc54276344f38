"""Recurrent cells in numpy, as torch computes them, for rows.

Sources: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation",
EMNLP 2014 (GRU), in the form of torch, which multiplies by the reset gate after the hidden state's product; those of
`meta/slots.py` (slots).

Axes: r rows, F inputs, H hidden, K slots, V content.
"""

from __future__ import annotations

import numpy as np

from .networks import Array, Shapes, Weights, compute_linear, compute_mlp, linear_shapes, mlp_shapes, sigmoid


def gru_shapes(name: str, inputs: int, hidden: int) -> Shapes:
    """Shapes of one layer's weights, gates in the order reset, update, new."""
    return {
        f"{name}.weight_ih_l0": (3 * hidden, inputs),
        f"{name}.weight_hh_l0": (3 * hidden, hidden),
        f"{name}.bias_ih_l0": (3 * hidden,),
        f"{name}.bias_hh_l0": (3 * hidden,),
    }


def step_gru(weights: Weights, name: str, value: Array, hidden: Array) -> Array:
    """h_(t+1), (r, H), of x_t (r, F) and h_t (r, H)."""
    from_input = value @ weights[f"{name}.weight_ih_l0"].T + weights[f"{name}.bias_ih_l0"]
    from_hidden = hidden @ weights[f"{name}.weight_hh_l0"].T + weights[f"{name}.bias_hh_l0"]
    return pass_gates(from_input, from_hidden, hidden)


def pass_gates(from_input: Array, from_hidden: Array, hidden: Array) -> Array:
    """(1 - z) n + z h, (r, H), with n = tanh(W x + r (U h + c)), of W x + b and U h + c (r, 3 H) and h (r, H)."""
    reset_in, update_in, new_in = np.split(from_input, 3, axis=-1)
    reset_hidden, update_hidden, new_hidden = np.split(from_hidden, 3, axis=-1)
    reset, update = sigmoid(reset_in + reset_hidden), sigmoid(update_in + update_hidden)
    new = np.tanh(new_in + reset * new_hidden)
    after: Array = (np.float32(1.0) - update) * new + update * hidden
    return after


def slot_shapes(name: str, inputs: int, hidden: int, slots: int, content: int) -> Shapes:
    """Shapes of the weights of a memory in slots."""
    return {
        **linear_shapes(f"{name}.address", hidden + inputs, slots),
        **mlp_shapes(f"{name}.write", (inputs, hidden, content)),
    }


def step_slots(weights: Weights, name: str, value: Array, hidden: Array, state: Array) -> tuple[Array, Array]:
    """What is read, (r, V), and the state after, (r, K + K V), of x_t (r, F), h_(t+1) (r, H) and the state before."""
    slots = len(weights[f"{name}.address.bias"])
    content = compute_mlp(weights, f"{name}.write", value)
    memory = state[:, slots:].reshape(len(state), slots, -1) + state[:, :slots, None] * content[:, None, :]
    score = compute_linear(weights, f"{name}.address", np.concatenate([hidden, value], axis=-1))
    now = np.exp(score - score.max(axis=-1, keepdims=True))
    now /= now.sum(axis=-1, keepdims=True)
    read: Array = (now[..., None] * memory).sum(axis=1)
    return read, np.concatenate([now, memory.reshape(len(state), -1)], axis=-1)
