import pytest


@pytest.fixture
def in_float64():
    """JAX, and with it optax, computes in float64 for the time of a test."""
    jax = pytest.importorskip("jax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def torch_rates():
    """The rates of one of torch's schedulers at the first steps.

    Takes a function from `torch.optim.lr_scheduler` to one that makes the scheduler of
    an optimizer, how many steps, and the optimizer's rate.
    """
    torch = pytest.importorskip("torch")

    def rates(make, count, rate=1.0):
        weight = torch.zeros(1, requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=rate, momentum=0.9)
        scheduler = make(torch.optim.lr_scheduler)(optimizer)
        found = []
        for _ in range(count):
            found.append(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step()
        return found

    return rates
