import pytest
import torch
from torch import Tensor

from supple.meta.slots import CHUNK, SlotMemory

F, H, K, V = 3, 4, 5, 2


@pytest.fixture
def memory() -> SlotMemory:
    return SlotMemory(F, H, K, V, torch.Generator().manual_seed(0))


def draw(rows: int, decisions: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(rows, decisions, F, generator=generator), torch.randn(rows, decisions, H, generator=generator)


def walk(memory: SlotMemory, value: Tensor, hidden: Tensor) -> Tensor:
    """What is read step by step, (R, T, V)."""
    state, reads = torch.zeros(len(value), memory.size), []
    for step in range(value.shape[1]):
        state = memory.step(value[:, step], hidden[:, step], state)
        reads.append(memory.read(state))
    return torch.stack(reads, dim=1)


@pytest.mark.parametrize("decisions", [1, CHUNK - 1, CHUNK, 2 * CHUNK + 1])
def test_steps_read_what_the_whole_sequence_reads(memory: SlotMemory, decisions: int) -> None:
    value, hidden = draw(6, decisions)
    torch.testing.assert_close(walk(memory, value, hidden), memory(value, hidden))


def test_three_decisions_by_hand(memory: SlotMemory) -> None:
    with torch.no_grad():
        # all but one-hot addresses: h = e_i is slot i
        memory.address.weight.copy_(60.0 * torch.eye(K, H + F))
        memory.address.bias.zero_()
    value, hidden = 0.1 * draw(1, 3)[0], torch.eye(H)[[1, 2, 1]][None]
    content = memory.write(value)[0]
    # nothing lies before x_0; x_1 followed place 1 and is not read in place 2, but when the trial is back in place 1
    expected = torch.stack((torch.zeros(V), torch.zeros(V), content[1]))
    torch.testing.assert_close(memory(value, hidden)[0], expected, atol=1e-5, rtol=0)


def test_what_followed_a_place_is_summed(memory: SlotMemory) -> None:
    value, hidden = draw(1, 1)
    value, hidden = value.expand(1, 6, F), hidden.expand(1, 6, H)
    key = torch.softmax(memory.address(torch.cat((hidden[0, 0], value[0, 0]))), dim=-1)
    times = torch.arange(6.0)[:, None]  # in the same place since: one more each time
    torch.testing.assert_close(memory(value, hidden)[0], times * key.square().sum() * memory.write(value[0]))


def test_the_present_input_is_read_and_later_ones_are_not(memory: SlotMemory) -> None:
    value, hidden = draw(1, 5)
    for changed in (value.clone(), hidden.clone()):
        changed[0, 2] += 1.0
        read = memory(changed, hidden) if changed.shape == value.shape else memory(value, changed)
        assert (read != memory(value, hidden)).any(-1)[0].tolist() == [False, False, True, True, True]


def test_gradients_reach_addresses_and_contents(memory: SlotMemory) -> None:
    value, hidden = draw(2, 4)
    hidden.requires_grad_()
    memory(value, hidden).square().sum().backward()
    for tensor in (hidden, *memory.parameters()):
        assert tensor.grad is not None
        assert float(tensor.grad.abs().sum()) > 0.0


def test_different_places_begin_with_different_addresses() -> None:
    memory = SlotMemory(10, 64, 32, V, torch.Generator().manual_seed(0))
    seen = torch.eye(10)[None]  # ten states, one-hot, before the GRU says anything
    with torch.no_grad():
        key = torch.softmax(memory.address(torch.cat((torch.zeros(1, 10, 64), seen), dim=-1)), dim=-1)[0]
    overlap = key @ key.T
    same = overlap.diagonal().mean()
    # as drawn by torch it is 0.995: what is read in one place is all but what is read in another
    assert float((overlap.sum() - overlap.trace()) / 90 / same) < 0.95
