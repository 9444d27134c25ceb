"""One model of each family of `keras.applications`, small and untrained."""

from __future__ import annotations

from typing import Any

#: The name of a model in both Kerases, and the side of the smallest useful image.
FAMILIES = {
    "ConvNeXtTiny": 64,
    "DenseNet121": 64,
    "EfficientNetB0": 64,
    "EfficientNetV2B0": 64,
    "InceptionResNetV2": 96,
    "InceptionV3": 96,
    "MobileNet": 64,
    "MobileNetV2": 64,
    "MobileNetV3Small": 64,
    "NASNetMobile": 224,
    "ResNet50": 64,
    "ResNet50V2": 64,
    "VGG16": 64,
    "Xception": 96,
}
CLASSES = 10


def build(library: Any, family: str, **arguments: Any) -> Any:
    """The model of a family, from `keras` or from `tf_keras`."""
    side = FAMILIES[family]
    entry = getattr(library.applications, family)
    shape = (side, side, 3)
    return entry(weights=None, input_shape=shape, classes=CLASSES, **arguments)
