"""The rules of Keras's own layers."""

from __future__ import annotations

from keras import layers

from kopt.quantization import _integer_forms
from kopt.quantization.rule import Rule, register_quantize_rule

_DEFAULTS = {
    layers.Dense: Rule("compute", weights={"kernel": (-1,)}),
    layers.Conv2D: Rule("compute", weights={"kernel": (-1,)}),
    # The kernel (height, width, channel, multiplier) is one filter for each pair
    # of the last two.
    layers.DepthwiseConv2D: Rule("compute", weights={"kernel": (-2, -1)}),
    layers.BatchNormalization: Rule(
        "batch_norm", compute=_integer_forms.batch_normalization
    ),
    layers.Add: Rule(
        "arithmetic",
        compute=_integer_forms.add,
        inner=_integer_forms.partial_sums,
    ),
    layers.GlobalAveragePooling2D: Rule("arithmetic"),
    layers.Rescaling: Rule("arithmetic", compute=_integer_forms.rescaling),
    layers.Concatenate: Rule("join"),
    layers.Activation: Rule("activation"),
    layers.LeakyReLU: Rule("activation"),
    layers.ReLU: Rule("activation"),
    layers.Softmax: Rule("activation"),
    layers.AveragePooling2D: Rule("same"),
    layers.Flatten: Rule("same"),
    layers.GlobalMaxPooling2D: Rule("same"),
    layers.MaxPooling2D: Rule("same"),
    layers.Permute: Rule("same"),
    layers.Reshape: Rule("same"),
    layers.ZeroPadding2D: Rule("same"),
}

for _layer_class, _rule in _DEFAULTS.items():
    register_quantize_rule(_layer_class, _rule)
