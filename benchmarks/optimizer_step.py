"""Time of an optimizer's step: kopt beside Keras, torch and optax, in one run.

    python benchmarks/optimizer_step.py [--quick] [--rounds N] [--only CASE]
        [--methods NAME,NAME] [--sample SECONDS]

Cases: `large` (10 matrices of 1024 x 1024), `small` (200 small variables), `embedding`
(a table of 200,000 x 64 and 512 rows, with repeats), `mlp` and `mobilenet` (whole
training steps and the time of the first). Updates run in graph mode, as in `fit` on a
processor. The peers are optional: `pip install "keras-kopt[bench]"`.

Everybody's arrays together do not fit into the cache, so whose turn it is finds its own
gone, as after a backward pass. `--sample 0.3` lets each run that long in a row, as in a
loop of updates and nothing else.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from inspect import signature
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from _timing import CONSOLE, interleaved, machine, table

import kopt
from kopt.optimizers import Wrapper

#: Arguments that are not the default's; what is said for a name is said to everybody.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "SGD momentum": {"momentum": 0.9},
    "AdamW": {"weight_decay": 0.01},
}
#: Arguments for kopt alone.
OWN: dict[str, dict[str, Any]] = {
    "Muon": {"exclude_head": False},
    "Muon float32": {"exclude_head": False, "ns_dtype": None},
    "Muon bfloat16": {"exclude_head": False, "ns_dtype": "bfloat16"},
}
KERAS_NAMES = {"LAMB": "Lamb", "NAdamW": "Nadam"}
#: What Keras has too, as twins: the mean is over these.
TWINS = ["SGD momentum", "RMSprop", "Adagrad", "Adam", "AdamW", "Lion", "LAMB"]
TWINS += ["Adafactor"]
WHOLE_STEPS = ["SGD", *TWINS]
LARGE = [(1024, 1024)] * 10
SMALL = [(32,), (3, 3, 8, 8), (64, 16), (10,)] * 50

Update = Callable[[], object]


def arrays(shapes: list[tuple[int, ...]]) -> tuple[list, list]:
    generator = np.random.default_rng(0)
    weights = [0.1 * generator.normal(size=s).astype("float32") for s in shapes]
    return weights, [generator.normal(size=s).astype("float32") for s in shapes]


def made(
    library: object, method: str, **options: Any
) -> keras.optimizers.Optimizer | None:
    """The optimizer of a method, if the library has it."""
    name = method.split()[0]
    arguments = {**ARGUMENTS.get(method, {}), **options}
    if library is kopt:
        arguments = {**arguments, **OWN.get(method, {})}
    else:
        name = KERAS_NAMES.get(name, name)
    entry = getattr(library, name, None)
    if entry is None:
        return None
    if issubclass(entry, Wrapper) and "inner_optimizer" in signature(entry).parameters:
        return entry(kopt.Adam(1e-3), **arguments)
    return entry(learning_rate=1e-3, **arguments)


def methods_of(chosen: str | None) -> list[str]:
    if chosen:
        return [name.strip() for name in chosen.split(",")]
    names = [row.name for row in kopt.optimizers.table()]
    more = ["SGD momentum", "Muon float32", "Muon bfloat16"]
    return sorted([*names, *more], key=str.casefold)


def keras_update(
    library: object, method: str, weights: list, gradients: list
) -> Update | None:
    optimizer = made(library, method)
    if optimizer is None:
        return None
    variables = [keras.Variable(weight) for weight in weights]
    optimizer.build(variables)
    tensors = [tf.constant(gradient) for gradient in gradients]

    @tf.function
    def update() -> None:
        optimizer.apply(tensors, variables)

    return update


def torch_update(method: str, weights: list, gradients: list) -> Update | None:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(os.cpu_count() or 1)
    name = method.split()[0]
    if not hasattr(torch.optim, name) or name == "Muon":
        return None  # torch's Muon takes its products in bfloat16
    tensors = [torch.tensor(weight) for weight in weights]
    for tensor, gradient in zip(tensors, gradients, strict=True):
        tensor.grad = torch.tensor(gradient)
    kind = getattr(torch.optim, name)
    taken = signature(kind).parameters
    way = {"fused": True} if "fused" in taken else {"foreach": True}
    return kind(tensors, lr=1e-3, **ARGUMENTS.get(method, {}), **way).step


def optax_update(method: str, weights: list, gradients: list) -> Update | None:
    try:
        import jax
        import optax
    except ImportError:
        return None
    name = method.split()[0].lower()
    entry = getattr(optax, name, None)
    if entry is None or "learning_rate" not in signature(entry).parameters:
        return None
    arguments = ARGUMENTS.get(method, {})
    if name == "lion":
        arguments = {"weight_decay": 0.0}
    optimizer = entry(1e-3, **arguments)
    parameters = [jax.numpy.asarray(weight) for weight in weights]
    fixed = [jax.numpy.asarray(gradient) for gradient in gradients]
    held = [parameters, optimizer.init(parameters)]

    def step(parameters: list, state: object, gradients: list) -> tuple:
        updates, state = optimizer.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), state

    compiled = jax.jit(step, donate_argnums=(0, 1))

    def update() -> None:
        held[0], held[1] = compiled(held[0], held[1], fixed)
        jax.block_until_ready(held)

    return update


def dense(
    title: str,
    shapes: list[tuple[int, ...]],
    rounds: int,
    methods: list[str],
    sample: float,
) -> None:
    """Every method on one set of variables, against all peers."""
    rows = table(title, "method", "kopt", "Keras", "torch", "optax", "times Keras")
    weights, gradients = arrays(shapes)
    ratios = {}
    makers = {
        "kopt": partial(keras_update, kopt),
        "Keras": partial(keras_update, keras.optimizers),
        "torch": torch_update,
        "optax": optax_update,
    }
    for method in methods:
        # Where its arrays happen to lie makes an update up to 1.4 times slower, and who
        # is made first is hit most: everybody is made three times, in turns.
        names = list(makers) * 3
        updates = {
            (name, place): makers[name](method, weights, gradients)
            for place, name in enumerate(names)
        }
        # TensorFlow finds out in its first hundreds of runs which operations are cheap.
        warm_up = 300 if rounds > 3 and len(shapes) > 10 else 3
        present = {key: update for key, update in updates.items() if update}
        found = of_libraries(interleaved(present, rounds, warm_up, sample))
        cells = [milliseconds(found.get(name)) for name in makers]
        if "Keras" in found:
            ratios[method] = found["Keras"] / found["kopt"]
            cells.append(f"{ratios[method]:.2f}")
        rows.add_row(method, *cells)
    twins = [ratios[method] for method in TWINS if method in ratios]
    if twins:
        mean = float(np.exp(np.mean(np.log(twins))))
        title = f"geometric mean of {len(twins)} twins"
        rows.add_row(title, "", "", "", "", f"{mean:.2f}")
    CONSOLE.print(rows)


def of_libraries(times: dict[tuple[str, int], float]) -> dict[str, float]:
    """The median of those that a library has made."""
    return {
        name: median(time for (owner, _), time in times.items() if owner == name)
        for name in {owner for owner, _ in times}
    }


def embedding(rounds: int, methods: list[str], height: int = 200_000) -> None:
    """Every twin on 512 rows of a table; about a third of them are repeats.

    Updates of different rows run ten in a call, as with `steps_per_execution=10`: the
    call of a TensorFlow function alone takes longer than an update of some rows.
    """
    generator = np.random.default_rng(0)
    start = generator.normal(size=(height, 64)).astype("float32")
    rows = generator.integers(0, 600, size=(10, 512)) * (height // 600)
    values = generator.normal(size=(10, 512, 64)).astype("float32")

    def update(library: object, method: str, **options: Any) -> Update:
        variable = keras.Variable(start)
        optimizer = made(library, method, **options)
        optimizer.build([variable])
        parts = [
            tuple(map(tf.constant, part)) for part in zip(values, rows, strict=True)
        ]

        @tf.function
        def steps() -> None:
            shape = tf.constant([height, 64], tf.int64)
            for part in parts:
                optimizer.apply([tf.IndexedSlices(*part, shape)], [variable])

        return steps

    listed = table(
        f"embedding, {height:,} x 64, 512 rows", "method", "update", "ms", "times Keras"
    )
    for method in methods:
        updates = {
            "Keras": update(keras.optimizers, method),
            'kopt, sparse="exact"': update(kopt, method),
        }
        if takes_rows_alone(method):
            updates['kopt, sparse="lazy"'] = update(kopt, method, sparse="lazy")
        if method == "Adam":
            updates["torch SparseAdam"] = torch_sparse_update(start, rows, values)
        present = {name: steps for name, steps in updates.items() if steps}
        timed = interleaved(present, rounds)
        for name, seconds in timed.items():
            ratio = timed["Keras"] / seconds
            ms = milliseconds(seconds / len(rows))
            listed.add_row(method, name, ms, f"{ratio:.1f}")
    CONSOLE.print(listed)


def takes_rows_alone(method: str) -> bool:
    return any(
        row.name == method.split()[0] and row.lazy_rows
        for row in kopt.optimizers.table()
    )


def torch_sparse_update(start: np.ndarray, rows: np.ndarray, values: np.ndarray):
    try:
        import torch
    except ImportError:
        return None
    tensor = torch.tensor(start)
    gradients = [
        torch.sparse_coo_tensor(
            torch.tensor(at)[None], torch.tensor(numbers), start.shape
        )
        for at, numbers in zip(rows, values, strict=True)
    ]
    optimizer = torch.optim.SparseAdam([tensor])

    def steps() -> None:
        for gradient in gradients:
            tensor.grad = gradient
            optimizer.step()

    return steps


def mlp() -> tuple[keras.Model, np.ndarray, np.ndarray]:
    layers = [keras.layers.Dense(512, activation="relu") for _ in range(3)]
    model = keras.Sequential([keras.Input((784,)), *layers, keras.layers.Dense(10)])
    return model, *batch((784,), 128)


def mobilenet() -> tuple[keras.Model, np.ndarray, np.ndarray]:
    model = keras.applications.MobileNetV2(
        (96, 96, 3), weights=None, classes=10, classifier_activation=None
    )
    return model, *batch((96, 96, 3), 8)


def batch(shape: tuple[int, ...], size: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(size, *shape)).astype("float32")
    return x, generator.integers(0, 10, size=size)


def whole_steps(
    title: str, build: Callable, rounds: int, repeats: int, methods: list[str]
) -> None:
    """Whole training steps; models are made anew to time the first step."""
    libraries = {"kopt": kopt, "Keras": keras.optimizers}
    columns = "step ms", "times Keras", "first step s"
    rows = table(title, "method", "library", *columns)
    for method in methods:
        firsts: dict[str, list[float]] = {name: [] for name in libraries}
        steps: dict[tuple[str, int], Update] = {}
        for repeat in range(repeats):
            # Whoever goes first pays for what both need: take turns.
            order = list(libraries) if repeat % 2 else list(reversed(libraries))
            for name in order:
                steps[name, repeat], seconds = prepared(libraries[name], method, build)
                firsts[name].append(seconds)
        # All of them: as above, where arrays happen to lie counts.
        found = of_libraries(interleaved(steps, rounds))
        for name in libraries:
            step, first = milliseconds(found[name]), median(firsts[name])
            ratio = found["Keras"] / found[name]
            rows.add_row(method, name, step, f"{ratio:.2f}", f"{first:.2f}")
    CONSOLE.print(rows)


def prepared(library: object, method: str, build: Callable) -> tuple[Update, float]:
    model, x, y = build()
    optimizer = made(library, method)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile=False)
    model.make_train_function()
    data = iter(tf.data.Dataset.from_tensors((x, y)).repeat().prefetch(2))

    def step() -> None:
        float(model.train_function(data)["loss"])

    start = time.perf_counter()
    step()
    return step, time.perf_counter() - start


def milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few and small, for CI")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--only", help="one of the cases")
    parser.add_argument("--methods", help="names of optimizers, with commas")
    parser.add_argument("--sample", type=float, default=0.01, help="seconds of a turn")
    arguments = parser.parse_args()
    quick = arguments.quick
    methods = methods_of(arguments.methods)
    common = [name for name in WHOLE_STEPS if name in methods]
    rounds = 3 if quick else arguments.rounds
    few = max(3, rounds // 3)
    cases: dict[str, Callable[[], None]] = {
        "large": lambda: dense(
            "large case, ms an update",
            [(128, 128)] if quick else LARGE,
            rounds,
            methods,
            arguments.sample,
        ),
        "small": lambda: dense(
            "small case, ms an update",
            SMALL[:4] if quick else SMALL,
            rounds,
            methods[:4] if quick else methods,
            arguments.sample,
        ),
        "embedding": lambda: embedding(
            rounds,
            [name for name in TWINS if name in methods],
            2_000 if quick else 200_000,
        ),
        "mlp": lambda: whole_steps(
            "MLP, batch 128", mlp, few, 1 if quick else 3, common
        ),
        "mobilenet": lambda: whole_steps(
            "MobileNetV2, 96 x 96, batch 8", mobilenet, few, 3, common
        ),
    }
    if quick:
        del cases["mobilenet"]  # a minute of tracing alone
    if arguments.only:
        cases = {arguments.only: cases[arguments.only]}
    CONSOLE.print(machine("tensorflow", "keras", "torch", "jax", "optax"))
    for run in cases.values():
        run()


if __name__ == "__main__":
    main()
