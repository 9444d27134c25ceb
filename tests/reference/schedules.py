"""The value of every schedule in float64, one step at a time, from its definition."""

import inspect
import math


def value(schedule, step):
    """What `schedule`, an object of kopt or a number, has to be at `step`."""
    if isinstance(schedule, int | float):
        return float(schedule)
    name = type(schedule).__name__
    assert name in DEFINITIONS, f"{name} needs a definition in tests/reference"
    arguments = {
        argument: getattr(schedule, argument)
        for argument in inspect.signature(type(schedule)).parameters
    }
    return DEFINITIONS[name](step, **arguments)


def cosine(step, initial, steps, final):
    if step >= steps:
        return final
    return final + (initial - final) * (1 + math.cos(math.pi * step / steps)) / 2


def warmup(step, schedule, steps, kind, start):
    if step >= steps:
        return value(schedule, step - steps)
    top = value(schedule, 0)
    progress = (step + 1) / steps
    if kind == "linear":
        return start + (top - start) * progress
    if kind == "cosine":
        return start + (top - start) * (1 - math.cos(math.pi * progress)) / 2
    assert kind == "exponential"
    return math.exp((1 - progress) * math.log(start) + progress * math.log(top))


DEFINITIONS = {"Cosine": cosine, "Warmup": warmup}
