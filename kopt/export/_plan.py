"""Everything that a TFLite export needs to know, checked before any work is done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kopt import _checks
from kopt._centroids import centroids_written
from kopt._signature import Signature, signature_of
from kopt.export import _float_islands, _samples, _state, _trace, _words
from kopt.export._conversion import INTEGER_MODES, Settings
from kopt.export._delegate_forms import delegate_forms
from kopt.export._float_islands import Island
from kopt.export._runtime_forms import runtime_forms
from kopt.quantization import is_quantized, snapped, unrounded

_MODES = (None, "float16", "dynamic", "int8", "int16x8")
_IO_DTYPES = {"int8": ("float32", "int8", "uint8"), "int16x8": ("float32", "int16")}
# Samples that show the order of magnitude of what goes into an activation.
_FOR_SIZES = 8


@dataclass(frozen=True)
class Plan:
    """A checked request for a TFLite file.

    Attributes:
        model: The model.
        signature: Its named inputs, of fixed shapes.
        settings: What the converter is asked for.
        calibration: Samples for the converter, by input; None where it needs none.
        comparison: Samples to compare on, by input; None where there are none.
        source: Where the samples to compare on come from, in words.
        verify: Whether the file is run and compared.
        islands: Layers that stay float in a file of integers.
        wide_islands: Layers with activations of 16 bits in a file of 8.
        state: Variables that a call of the model changes.
        outputs: Names of the model's outputs, in its own order.
    """

    model: keras.Model
    signature: Signature
    settings: Settings
    calibration: Mapping[str, np.ndarray] | None
    comparison: Mapping[str, np.ndarray] | None
    source: str
    verify: bool
    islands: tuple[Island, ...] = ()
    wide_islands: tuple[Island, ...] = ()
    state: tuple[tf.Variable, ...] = ()
    outputs: tuple[str, ...] = ()

    @property
    def mode(self) -> str | None:
        """The quantization, in the words of the comparison's limits."""
        trained = self.settings.trained_ranges
        return "trained int8" if trained else self.settings.quantization

    @property
    def float_layers(self) -> tuple[str, ...]:
        """Paths of the layers of all islands."""
        layers = [layer for island in self.islands for layer in island.layers]
        return tuple(dict.fromkeys(layer.path or layer.name for layer in layers))

    @contextlib.contextmanager
    def model_for_trace(self) -> Iterator[None]:
        """The model in the state that the converter has to see."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(_trace.float32_compute(self.model))
            stack.enter_context(centroids_written(self.model))
            stack.enter_context(runtime_forms(self.model))
            if self.settings.quantization in INTEGER_MODES:
                stack.enter_context(_trace.unrolled(self.model))
                stack.enter_context(_trace.reversed_by_slices())
            if self.settings.trained_ranges:
                stack.enter_context(snapped(self.model))
            elif self.settings.quantization == "int8":
                stack.enter_context(delegate_forms(self.model, self._run_a_few))
            marked = (*self.islands, *self.wide_islands)
            stack.enter_context(_float_islands.marked(marked))
            yield

    def _run_a_few(self) -> None:
        """Call the model as itself on a few of the samples that ranges come from."""
        size = self.settings.batch_size
        if self.calibration is None:
            return
        few = _samples.spread(self.calibration, max(_FOR_SIZES, size))
        if len(next(iter(few.values()))) >= size:
            with _trace.float32_compute(self.model):
                self.signature.predict(_state.whole_batches(few, size), size)

    def expected(self, samples: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the model itself returns for samples, in the calls that a file takes."""
        # Samples of one call may depend on each other, as in a contrastive model.
        own = self.settings.batch_size
        size = own if self.state or own > 1 else 32
        with _trace.float32_compute(self.model):
            return self.signature.predict(samples, size)

    def unrounded(
        self, samples: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray] | None:
        """What a quantization-aware model would return in float; None for others."""
        if not self.settings.trained_ranges:
            return None
        with unrounded(self.model):
            return self.expected(samples)


def make_plan(
    model: Any,
    *,
    quantization: str | None,
    representative_data: Any,
    io_dtype: Any,
    sparse: bool,
    batch_size: int,
    verify: Any,
    float_layers: Any = (),
    int16_layers: Any = (),
) -> Plan:
    """Check the arguments of an export; the names are those of `kopt.export.tflite`."""
    checked_model(model)
    _state.check_batch(model, _checks.integer("batch_size", batch_size, low=1))
    settings = _settings(model, quantization, io_dtype, sparse, batch_size)
    islands = _islands(model, settings, float_layers)
    settings = replace(settings, float_layers=[one.item for one in islands])
    wide = _wide_islands(model, settings, int16_layers)
    settings = replace(settings, int16_layers=[one.item for one in wide])
    signature = signature_of(model)
    _words.check_inputs(signature)
    given = own = None
    if representative_data is not None:
        argument = "representative_data"
        given = _samples.named_samples(argument, representative_data, signature.inputs)
        signature = signature.with_shapes_of(given)
    if not isinstance(verify, bool):
        own = _samples.named_samples("verify", verify, signature.inputs)
        signature = signature.with_shapes_of(own)
    _check_data(settings, given)
    comparison, source = own, "samples that were given to compare on"
    if own is None and given is not None:
        comparison = _samples.spread(given, _samples.FOR_COMPARISON)
        source = "representative samples"
    return Plan(
        model,
        _fixed(signature, settings),
        settings,
        given if settings.quantization in INTEGER_MODES else None,
        comparison,
        source,
        verify is not False,
        islands,
        wide,
    )


def checked_model(model: Any) -> keras.Model:
    """A model that can be exported: Keras 3, built, with finite weights."""
    _checks.keras_model("model", model)
    _checks.finite_weights("model", model)
    return model


def _fixed(signature: Signature, settings: Settings) -> Signature:
    """The signature for the file's batch, after a check that nothing is left open."""
    if signature.open_inputs:
        name = signature.open_inputs[0]
        raise ValueError(
            f"The input {name!r} has the shape {tuple(signature.inputs[name].shape)}; "
            "a TFLite file needs fixed sizes. Give samples of the size that you want: "
            "`representative_data=samples` or `verify=samples`."
        )
    fixed = signature.with_batch(settings.batch_size)
    if settings.trained_ranges:
        # Ranges that were never set refuse a call, but not a trace with constants.
        with keras.StatelessScope():
            fixed.raw_call([tf.zeros(spec.shape, spec.dtype) for spec in fixed.specs])
    return fixed


def _settings(
    model: keras.Model,
    quantization: str | None,
    io_dtype: Any,
    sparse: bool,
    batch_size: int,
) -> Settings:
    mode = _checks.one_of("quantization", quantization, _MODES)
    trained = is_quantized(model)
    if trained and mode not in (None, "int8"):
        raise ValueError(
            f"The model is quantization-aware: it exports to int8. Received: "
            f"quantization={mode!r}. Leave `quantization` out, or get the float model "
            "back with `kopt.quantization.strip_quantization(model)`."
        )
    mode = "int8" if trained else mode
    half = _trace.half_variables(model)
    if half:
        raise ValueError(
            f"{len(half)} weights are stored in 16 bits, such as {half[0]!r}, which "
            "TFLite does not compute with. Build the model with dtype='float32' (or a "
            "mixed policy) and copy the weights with `set_weights`."
        )
    wanted = (
        "float32" if io_dtype is None else keras.backend.standardize_dtype(io_dtype)
    )
    _checks.one_of(
        "io_dtype",
        wanted,
        _IO_DTYPES.get(mode or "", ("float32",)),
        hint=f"This is what quantization={mode!r} can have.",
    )
    return Settings(mode, wanted, bool(sparse), batch_size, trained)


def _islands(model: keras.Model, settings: Settings, chosen: Any) -> tuple[Island, ...]:
    """The layers to keep in float, after a check that this export can do that."""
    islands = _float_islands.islands(model, chosen)
    if not islands:
        return ()
    received = f"Received: float_layers={chosen!r} with "
    if settings.trained_ranges:
        raise ValueError(
            f"`float_layers` is for a float model. {received}a quantization-aware one. "
            "`kopt.quantization.strip_quantization(model)` gives the float model back, "
            "which exports with `representative_data`."
        )
    if settings.quantization != "int8":
        raise ValueError(
            "`float_layers` is for quantization='int8', with `representative_data`. "
            f"{received}quantization={settings.quantization!r}."
        )
    if settings.sparse or settings.io_dtype == "uint8":
        raise ValueError(
            "A file with `float_layers` has inputs and outputs of float32 or int8, and "
            f"no sparse tensors. {received}io_dtype={settings.io_dtype!r}, "
            f"sparse={settings.sparse}."
        )
    return islands


def _wide_islands(
    model: keras.Model, settings: Settings, chosen: Any
) -> tuple[Island, ...]:
    """The layers to compute with 16 bits, after a check that this export can."""
    islands = _float_islands.islands(model, chosen, "int16_layers")
    if islands and (
        settings.quantization != "int8"
        or settings.trained_ranges
        or settings.sparse
        or settings.float_layers
        or settings.io_dtype == "uint8"
    ):
        raise ValueError(
            "`int16_layers` is for a float model with quantization='int8' and "
            "`representative_data`, without `float_layers` and `sparse`, and with "
            f"inputs and outputs of float32 or int8. Received: int16_layers={chosen!r} "
            f"with quantization={settings.quantization!r}, "
            f"io_dtype={settings.io_dtype!r}, sparse={settings.sparse}. For 16 bits "
            "everywhere use quantization='int16x8'."
        )
    return islands


def _check_data(settings: Settings, given: Mapping[str, np.ndarray] | None) -> None:
    needed = settings.quantization in INTEGER_MODES and not settings.trained_ranges
    if needed and given is None:
        raise ValueError(
            f"quantization={settings.quantization!r} needs to see values to choose the "
            "ranges of the integers. Pass `representative_data`: 100 to 500 samples "
            "like those that the model will meet. Without data: train the ranges with "
            "`kopt.quantization.quantize_model(model)`, or use quantization='dynamic'."
        )
