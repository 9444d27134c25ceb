"""The rules of Keras's own layers."""

from __future__ import annotations

from dataclasses import replace

from keras import layers

from kopt._keras.conv_lstm_cell import ConvLSTMCell
from kopt._keras.origins import APPLICATIONS, KERAS_HUB, OPERATIONS, RELU_OPERATION
from kopt._kernels.axes import channels_from_end
from kopt.quantization import (
    _attention,
    _convolutional_cells,
    _dot_attention,
    _embeddings,
    _integer_forms,
    _masks,
    _recurrent_cells,
    _rescaling_forms,
)
from kopt.quantization.rule import Rule, register_by_name, register_quantize_rule


def _kernels(layer: type, *names: str) -> dict[str, tuple[int, ...]]:
    """The axes that number the channels of some kernels of a layer class."""
    return {name: channels_from_end(layer, name) for name in names}


def _kernel(layer: type) -> Rule:
    return Rule("compute", weights=_kernels(layer, "kernel"))


def _flat(layer: type) -> Rule:
    return Rule(
        "compute",
        weights=_kernels(layer, "kernel"),
        compute=_integer_forms.flat_convolution,
    )


def _transposed(layer: type) -> Rule:
    return Rule(
        "compute",
        weights=_kernels(layer, "kernel"),
        compute=_integer_forms.transposed_convolution,
    )


def _separable(layer: type) -> Rule:
    return Rule(
        "compute",
        weights=_kernels(layer, "depthwise_kernel", "pointwise_kernel"),
        compute=_integer_forms.separable_convolution,
        inner=lambda layer, inputs: ("depthwise",),
    )


def _attention_of_heads(layer: type) -> Rule:
    return Rule(
        "compute",
        weights=_attention.weights(layer),
        compute=_attention.attention,
        inner=_attention.inner,
        obstacle=_attention.obstacle,
        fuses=False,
    )


_DOT_ATTENTION = Rule(
    "whole",
    compute=_dot_attention.attention,
    inner=_dot_attention.inner,
    obstacle=_dot_attention.obstacle,
)

_STATISTICS = "its statistics lose too much in 8 bits"
_NO_KERNEL = "the runtime has no integer form of it"

_DEFAULTS = {
    layers.Dense: _kernel(layers.Dense),
    layers.Conv1D: _flat(layers.Conv1D),
    layers.Conv2D: _kernel(layers.Conv2D),
    layers.DepthwiseConv1D: _flat(layers.DepthwiseConv1D),
    layers.DepthwiseConv2D: _kernel(layers.DepthwiseConv2D),
    layers.Conv1DTranspose: _transposed(layers.Conv1DTranspose),
    layers.Conv2DTranspose: _transposed(layers.Conv2DTranspose),
    layers.SeparableConv1D: _separable(layers.SeparableConv1D),
    layers.SeparableConv2D: _separable(layers.SeparableConv2D),
    layers.EinsumDense: Rule(
        "compute",
        weights={"kernel": _integer_forms.einsum_channels},
        compute=_integer_forms.einsum_dense,
    ),
    layers.Embedding: Rule(
        "whole",
        compute=_embeddings.embedding,
        inner=lambda layer, inputs: ("table",),
        inputs=(),
    ),
    layers.ReversibleEmbedding: Rule(
        "whole",
        weights={
            "embeddings": _embeddings.tied_channels,
            "reverse_embeddings": _embeddings.reverse_channels,
        },
        compute=_embeddings.reversible_embedding,
        inner=_embeddings.reversible_ranges,
        inputs=(),
    ),
    layers.MultiHeadAttention: _attention_of_heads(layers.MultiHeadAttention),
    layers.GroupQueryAttention: _attention_of_heads(layers.GroupQueryAttention),
    layers.Attention: _DOT_ATTENTION,
    layers.AdditiveAttention: replace(
        _DOT_ATTENTION,
        weights={"scale": lambda layer: () if layer.use_scale else None},
    ),
    **dict.fromkeys(
        [
            layers.RNN,
            layers.SimpleRNN,
            layers.LSTM,
            layers.GRU,
            layers.ConvLSTM1D,
            layers.ConvLSTM2D,
            layers.ConvLSTM3D,
        ],
        Rule(
            "whole",
            compute=_recurrent_cells.loop,
            inputs=(0,),
            obstacle=_recurrent_cells.layer_obstacle,
        ),
    ),
    layers.Bidirectional: Rule(
        "whole",
        compute=_recurrent_cells.both,
        inner=_recurrent_cells.both_ranges,
        inputs=(),
        obstacle=_recurrent_cells.both_obstacle,
    ),
    layers.SimpleRNNCell: Rule(
        "whole",
        weights=_kernels(layers.SimpleRNNCell, "kernel", "recurrent_kernel"),
        compute=_recurrent_cells.simple,
        inner=_recurrent_cells.simple_ranges,
        inputs=(),
        obstacle=_recurrent_cells.obstacle,
    ),
    layers.LSTMCell: Rule(
        "whole",
        weights=_kernels(layers.LSTMCell, "kernel", "recurrent_kernel"),
        compute=_recurrent_cells.lstm,
        inner=_recurrent_cells.lstm_ranges,
        inputs=(),
        obstacle=_recurrent_cells.obstacle,
    ),
    layers.GRUCell: Rule(
        "whole",
        weights=_kernels(layers.GRUCell, "kernel", "recurrent_kernel"),
        compute=_recurrent_cells.gru,
        inner=_recurrent_cells.gru_ranges,
        inputs=(),
        obstacle=_recurrent_cells.obstacle,
    ),
    ConvLSTMCell: Rule(
        "whole",
        weights=_kernels(ConvLSTMCell, "kernel", "recurrent_kernel"),
        compute=_convolutional_cells.step,
        inner=_convolutional_cells.inner,
        inputs=(),
        obstacle=_convolutional_cells.obstacle,
    ),
    layers.BatchNormalization: Rule(
        "batch_norm", compute=_integer_forms.batch_normalization
    ),
    layers.Rescaling: Rule(
        "arithmetic",
        compute=_rescaling_forms.rescaling,
        inner=_rescaling_forms.between,
    ),
    layers.Normalization: Rule(
        "arithmetic",
        compute=_rescaling_forms.rescaling,
        inner=_rescaling_forms.between,
        obstacle=_rescaling_forms.no_grid_for_channels,
    ),
    layers.Add: Rule(
        "arithmetic",
        compute=_integer_forms.pairwise("sum"),
        inner=_integer_forms.partial_results("sum"),
    ),
    layers.Multiply: Rule(
        "arithmetic",
        compute=_integer_forms.pairwise("product"),
        inner=_integer_forms.partial_results("product"),
    ),
    layers.Average: Rule(
        "arithmetic",
        compute=_integer_forms.average,
        inner=_integer_forms.sums_of_average,
    ),
    layers.Subtract: Rule("arithmetic"),
    layers.Dot: Rule("arithmetic", fuses=False),
    layers.GlobalAveragePooling1D: Rule("arithmetic", fuses=False),
    layers.GlobalAveragePooling2D: Rule("arithmetic", fuses=False),
    layers.PReLU: Rule(
        "activation",
        compute=_integer_forms.prelu,
        inner=lambda layer, inputs: ("slope", "added"),
    ),
    **dict.fromkeys(
        [layers.Activation, layers.LeakyReLU, layers.ReLU], Rule("activation")
    ),
    layers.Softmax: Rule(
        "activation",
        compute=_masks.softmax,
        inputs=(0,),
        masked=_masks.softmax_mask,
        obstacle=_masks.several_axes,
    ),
    **dict.fromkeys([layers.Concatenate, layers.Maximum, layers.Minimum], Rule("join")),
    **dict.fromkeys(
        [
            layers.AveragePooling1D,
            layers.AveragePooling2D,
            layers.CenterCrop,
            layers.Cropping1D,
            layers.Cropping2D,
            layers.Flatten,
            layers.GlobalMaxPooling1D,
            layers.GlobalMaxPooling2D,
            layers.MaxPooling1D,
            layers.MaxPooling2D,
            layers.Permute,
            layers.RepeatVector,
            layers.Reshape,
            layers.Resizing,
            layers.UpSampling1D,
            layers.UpSampling2D,
            layers.ZeroPadding1D,
            layers.ZeroPadding2D,
        ],
        Rule("same"),
    ),
    **dict.fromkeys(
        [
            layers.GroupNormalization,
            layers.LayerNormalization,
            layers.RMSNormalization,
            layers.UnitNormalization,
        ],
        Rule("float", note=_STATISTICS),
    ),
    **dict.fromkeys(
        [
            layers.AveragePooling3D,
            layers.Conv3D,
            layers.Conv3DTranspose,
            layers.ELU,
            layers.MaxPooling3D,
        ],
        Rule("float", note=_NO_KERNEL),
    ),
}

# Layers of keras.applications, which Keras does not export, and of KerasHub.
_OF_APPLICATIONS = {
    "convnext.LayerScale": Rule("batch_norm", compute=_integer_forms.channel_scale),
    "inception_resnet_v2.CustomScaleLayer": Rule(
        "arithmetic",
        compute=_integer_forms.scaled_sum,
        inner=lambda layer, inputs: ("scaled",),
    ),
}

_OF_KERAS_HUB = {
    "cached_multi_head_attention.CachedMultiHeadAttention": replace(
        _attention_of_heads(layers.MultiHeadAttention),
        compute=_attention.cached_attention,
    ),
}

# Operations that stand in a functional model by themselves, as `x + y` does.
_ACTIVATIONS = "Relu Relu6 Sigmoid Softmax Silu LeakyRelu HardSigmoid HardSilu Gelu"
_MOVES = """
    Amax Amin Copy ExpandDims Flip GetItem Max Min Moveaxis Pad Ravel Repeat Reshape
    Split Squeeze Swapaxes Tile Transpose
"""
_OPERATIONS = {
    **dict.fromkeys(
        ["numpy.Add", "numpy.Subtract", "numpy.Multiply"], Rule("arithmetic")
    ),
    **dict.fromkeys(
        ["numpy.Divide", "numpy.TrueDivide"],
        Rule(
            "arithmetic",
            compute=_integer_forms.quotient,
            obstacle=_integer_forms.divides_by_tensor,
        ),
    ),
    **dict.fromkeys(
        ["numpy.Matmul", "numpy.Mean", "numpy.Sum"], Rule("arithmetic", fuses=False)
    ),
    **dict.fromkeys(
        [
            f"numpy.{name}"
            for name in "Append Concatenate Hstack Maximum Minimum Stack Vstack".split()
        ],
        Rule("join"),
    ),
    "numpy.Where": Rule("join", inputs=(1, 2)),
    **dict.fromkeys([f"numpy.{name}" for name in _MOVES.split()], Rule("same")),
    **dict.fromkeys(
        ["nn.AveragePool", "nn.MaxPool", "nn.DepthToSpace", "nn.SpaceToDepth"],
        Rule("same"),
    ),
    **dict.fromkeys(
        [f"nn.{name}" for name in _ACTIVATIONS.split()], Rule("activation")
    ),
    "numpy.Tanh": Rule("activation"),
    "image.Resize": Rule("same"),
}

for _layer_class, _rule in _DEFAULTS.items():
    register_quantize_rule(_layer_class, _rule)
for _name, _rule in _OF_APPLICATIONS.items():
    register_by_name(f"{APPLICATIONS}.{_name}", _rule)
for _name, _rule in _OF_KERAS_HUB.items():
    register_by_name(f"{KERAS_HUB}.{_name}", _rule)
for _name, _rule in _OPERATIONS.items():
    register_by_name(f"{OPERATIONS}.{_name}", _rule)
register_by_name(RELU_OPERATION, Rule("activation"))
