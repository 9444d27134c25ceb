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


def half_wave(first, last, done):
    return last + (first - last) * (1 + math.cos(math.pi * done)) / 2


def line(first, last, done):
    return first + (last - first) * done


def one_minus_root(first, last, done):
    return last + (first - last) * (1 - math.sqrt(done))


def in_steps(length, whole):
    """A length that is a number of steps, or a float, a share of the whole."""
    return length if isinstance(length, int) else round(length * whole)


def constant(step, value):
    return value


def cosine(step, initial, steps, final):
    return final if step >= steps else half_wave(initial, final, step / steps)


def linear(step, initial, steps, final):
    return final if step >= steps else line(initial, final, step / steps)


def polynomial(step, initial, steps, power, final):
    if step >= steps:
        return final
    return (initial - final) * (1 - step / steps) ** power + final


def rex(step, initial, steps, final):
    if step >= steps:
        return final
    left = 1 - step / steps
    return final + (initial - final) * left / (1 / 2 + 1 / 2 * left)


def exponential(step, initial, steps, rate, minimum, staircase):
    stretches = step // steps if staircase else step / steps
    return max(initial * rate**stretches, minimum)


def inverse_time(step, initial, steps, rate, staircase):
    stretches = step // steps if staircase else step / steps
    return initial / (1 + rate * stretches)


def multi_step(step, initial, milestones, factor):
    for milestone in milestones:
        if step >= milestone:
            initial *= factor
    return initial


def cosine_restarts(step, initial, steps, cycles, final, growth, decay, warmup):
    unit = steps / sum(growth**cycle for cycle in range(cycles))
    start, exact = 0, 0.0
    for cycle in range(cycles):
        exact += unit * growth**cycle
        end = round(exact)
        if step < end:
            top = initial * decay**cycle
            rise = in_steps(warmup, end - start)
            since = step - start
            if since < rise:
                return line(final, top, (since + 1) / rise)
            return half_wave(top, final, (since - rise) / (end - start - rise))
        start = end
    return final


def one_cycle(
    step, maximum, steps, rise, initial_divisor, final_divisor, kind, three_phases
):
    way = {"cosine": half_wave, "linear": line}[kind]
    initial = maximum / initial_divisor
    final = initial / final_divisor
    top = round(rise * steps)
    if step >= steps:
        return final
    if step < top:
        return way(initial, maximum, step / top)
    if not three_phases:
        return way(maximum, final, (step - top) / (steps - top))
    if step < 2 * top:
        return way(maximum, initial, (step - top) / top)
    return way(initial, final, (step - 2 * top) / (steps - 2 * top))


def cyclical(step, minimum, maximum, steps, kind, rise, decay):
    up = round(rise * steps)
    cycle, place = divmod(step, steps)
    height = place / up if place < up else (steps - place) / (steps - up)
    if kind == "triangular2":
        height /= 2.0**cycle if cycle < 1000 else math.inf
    if kind == "exp_range":
        height *= decay**step
    return minimum + (maximum - minimum) * height


def wsd(step, maximum, steps, warmup, decay, kind, final):
    ways = {"1-sqrt": one_minus_root, "linear": line, "cosine": half_wave}
    rise, fall = in_steps(warmup, steps), in_steps(decay, steps)
    if step < rise:
        return maximum * (step + 1) / rise
    if step < steps - fall:
        return maximum
    if step < steps:
        return ways[kind](maximum, final, (step - (steps - fall)) / fall)
    return final


def inverse_sqrt(step, maximum, warmup, steps, cooldown):
    # The paper counts from 1: d^-0.5 min(n^-0.5, n W^-1.5), here relative to n = W.
    count = step + 1
    value = maximum * warmup**0.5 * min(count**-0.5, count * warmup**-1.5)
    if not cooldown:
        return value
    return value * min(1.0, max(0.0, (steps - step) / in_steps(cooldown, steps)))


def sequential(step, schedules, boundaries):
    starts = [0, *boundaries]
    active = max(i for i, start in enumerate(starts) if step >= start)
    return value(schedules[active], step - starts[active])


def scale(step, schedule, factor):
    return factor * value(schedule, step)


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


DEFINITIONS = {
    "Constant": constant,
    "Cosine": cosine,
    "CosineRestarts": cosine_restarts,
    "Cyclical": cyclical,
    "Exponential": exponential,
    "InverseSqrt": inverse_sqrt,
    "InverseTime": inverse_time,
    "Linear": linear,
    "MultiStep": multi_step,
    "OneCycle": one_cycle,
    "Polynomial": polynomial,
    "REX": rex,
    "Scale": scale,
    "Sequential": sequential,
    "WSD": wsd,
    "Warmup": warmup,
}
