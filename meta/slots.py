"""A memory in slots beside the GRU of a recurrent policy: what followed, earlier in a trial, in places like this one.

Sources: Mishra et al., "A Simple Neural Attentive Meta-Learner", ICLR 2018 (attention to the past of a trial, where a
recurrent state forgets); Schlag, Irie, Schmidhuber, "Linear Transformers Are Secretly Fast Weight Programmers", ICML
2021 (attention without a softmax over the past is a matrix that outer products are added to).

A place is what is seen, and what the GRU makes of the trial so far: k_t = softmax(W [h_(t+1), x_t]), over K slots.
The input x_t tells what followed the place before it: what was chosen there, what it paid and where it led. It is
written under the address of that place, and what is read is what was written under the address of this one, with
k_(-1) = 0 and M_(-1) = 0:

    M_t = M_(t-1) + k_(t-1) v(x_t)^T        y_t = M_t^T k_t = sum over s <= t of (k_t . k_(s-1)) v(x_s)

The left form takes one step at a cost that does not grow, the right one many at once; whole trials are taken by the
right form within chunks and by the left one from chunk to chunk. Sums, not means: how often something was seen is what
exploration goes by.

Axes: R rows, T decisions of a trial, F inputs, H hidden, K slots, V content.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..skills.network import MLP, make_linear

FIRST_ADDRESS = 5.0
"""Factor on the first weights of the addresses. Drawn as other layers are, all places begin with nearly the same
address, and it takes long to tell them apart: 100 iterations on tabular MDPs that reached 143 with it stopped at 126
without (one seed, by the hidden state alone)."""

CHUNK = 32
"""Decisions that are taken at once. In trials of 500, forward and backward took a quarter of the time of one chunk."""


class SlotMemory(nn.Module):
    """Addresses and contents, learned with what reads them."""

    def __init__(self, inputs: int, hidden: int, slots: int, content: int, generator: torch.Generator) -> None:
        """Draws all weights from `generator`, on the CPU."""
        super().__init__()
        self.slots, self.content = slots, content
        self.address = make_linear(hidden + inputs, slots, generator)
        with torch.no_grad():
            self.address.weight.mul_(FIRST_ADDRESS)
        self.write = MLP((inputs, hidden, content), generator=generator)

    @property
    def size(self) -> int:
        """Numbers that a row remembers: the last address, (K,), and M, (K, V)."""
        return self.slots * (1 + self.content)

    def step(self, value: Tensor, hidden: Tensor, state: Tensor) -> Tensor:
        """[k_t, M_t], (r, size), of x_t (r, F), h_(t+1) (r, H) and [k_(t-1), M_(t-1)]."""
        before, memory = self._split(state)
        memory = memory + before[..., None] * self.write(value)[:, None, :]
        return torch.cat((self._address(value, hidden), memory.flatten(1)), dim=-1)

    def read(self, state: Tensor) -> Tensor:
        """y_t, (r, V), of [k_t, M_t]."""
        now, memory = self._split(state)
        return (now[..., None] * memory).sum(1)

    def _split(self, state: Tensor) -> tuple[Tensor, Tensor]:
        return state[:, : self.slots], state[:, self.slots :].reshape(-1, self.slots, self.content)

    def _address(self, value: Tensor, hidden: Tensor) -> Tensor:
        return torch.softmax(self.address(torch.cat((hidden, value), dim=-1)), dim=-1)

    def forward(self, value: Tensor, hidden: Tensor) -> Tensor:
        """What is read over whole trials, (R, T, V), of inputs (R, T, F) and states after them (R, T, H)."""
        now, content = self._address(value, hidden), self.write(value)
        before = torch.cat((torch.zeros_like(now[:, :1]), now[:, :-1]), dim=1)
        memory, reads = now.new_zeros(len(now), self.slots, self.content), []
        for key, earlier, written in zip(*(part.split(CHUNK, dim=1) for part in (now, before, content)), strict=True):
            reads.append(torch.tril(key @ earlier.mT) @ written + key @ memory)
            memory = memory + earlier.mT @ written
        return torch.cat(reads, dim=1)
