import torch

from supple.meta.state import load_optimisers, named_part, optimiser_tensors


def make_optimisers() -> tuple[dict[str, torch.optim.Adam], list[torch.nn.Parameter]]:
    parameters = [torch.nn.Parameter(torch.full((3,), float(i))) for i in range(3)]
    return {
        "one": torch.optim.Adam(parameters[:2], lr=0.1, fused=True),
        "two": torch.optim.Adam(parameters[2:], lr=0.2),
    }, parameters


def step(optimisers: dict[str, torch.optim.Adam], parameters: list[torch.nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(3, generator=generator)
    for optimiser in optimisers.values():
        optimiser.step()


def test_optimisers_go_on_from_named_tensors() -> None:
    optimisers, parameters = make_optimisers()
    step(optimisers, parameters, 0)
    saved = {name: value.clone() for name, value in optimiser_tensors(optimisers).items()}
    values = [parameter.detach().clone() for parameter in parameters]
    assert len(saved) == 9
    assert torch.equal(saved["adam.two.0.step"], torch.tensor(1.0))
    step(optimisers, parameters, 1)

    again, fresh = make_optimisers()
    for parameter, value in zip(fresh, values, strict=True):
        parameter.data.copy_(value)
    load_optimisers(again, saved)
    step(again, fresh, 1)
    for one, other in zip(parameters, fresh, strict=True):
        assert torch.equal(one, other)
    # the loaded moments are copies: the saved ones stay as they were
    assert torch.equal(saved["adam.two.0.step"], torch.tensor(1.0))


def test_an_optimiser_that_never_stepped_has_no_state() -> None:
    optimisers, _ = make_optimisers()
    assert optimiser_tensors(optimisers) == {}
    load_optimisers(optimisers, {})


def test_a_part_is_named_without_its_prefix() -> None:
    one, two = torch.ones(1), torch.zeros(1)
    assert named_part({"a.b.c": one, "ab.c": two}, "a.") == {"b.c": one}
