"""One small model of each of 18 families of KerasHub, with a task that it can learn.

Logits of random weights lie so close together that any rounding changes the largest
one. Each model therefore first learns something that its family is for: the class of a
text, the token before, the bright quarter of a picture, the caption of a picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

WORDS, LENGTH, SIDE, CLASSES, SAMPLES = 16, 12, 32, 4, 128
_HEADS = {"num_layers": 2, "num_heads": 2, "hidden_dim": 32, "intermediate_dim": 64}
_GROUPED = {
    "num_layers": 2,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "hidden_dim": 32,
    "intermediate_dim": 64,
}


@dataclass(frozen=True)
class Family:
    """A model and what it learns.

    Attributes:
        model: A model that returns one tensor, of which the last axis is scored.
        x: Its inputs.
        y: The index of the largest output that is right, for each place.
        batch_size: How many samples belong together.
        learning_rate: Of Adam, at which it learns.
    """

    model: Any
    x: Any
    y: np.ndarray
    batch_size: int = 1
    learning_rate: float = 3e-3


def fixed_sizes(model: Any, shapes: dict[str, tuple]) -> tuple[Any, Any]:
    """Inputs of fixed sizes, and what a model with open ones makes of them."""
    inputs = {
        name: keras.Input(
            shape,
            dtype="float32" if name in ("images", "encoder_features") else "int32",
            name=name,
        )
        for name, shape in shapes.items()
    }
    return inputs, model(inputs)


def texts(generator: np.random.Generator, *more: str) -> dict[str, np.ndarray]:
    """Random words; of every fourth text the last three places are padding."""
    words = generator.integers(1, WORDS, (SAMPLES, LENGTH)).astype("int32")
    mask = np.ones_like(words)
    mask[::4, -3:] = 0
    zeros = {name: np.zeros_like(words) for name in more}
    return {"token_ids": words * mask, "padding_mask": mask, **zeros}


def text_classifier(name: str, *more: str, **arguments: Any) -> Callable:
    """The class of a text is that of its first word."""

    def made(hub: Any, generator: np.random.Generator) -> Family:
        backbone = getattr(hub, f"{name}Backbone")(
            vocabulary_size=WORDS, max_sequence_length=LENGTH, **_HEADS, **arguments
        )
        task = getattr(hub, f"{name}TextClassifier")(backbone, CLASSES)
        x = texts(generator, *more)
        model = keras.Model(*fixed_sizes(task, dict.fromkeys(x, (LENGTH,))))
        return Family(model, x, x["token_ids"][:, 0] * CLASSES // WORDS)

    return made


def language_model(name: str, **arguments: Any) -> Callable:
    """The right word at each place is the one before."""

    def made(hub: Any, generator: np.random.Generator) -> Family:
        backbone = getattr(hub, f"{name}Backbone")(vocabulary_size=WORDS, **arguments)
        task = getattr(hub, f"{name}CausalLM")(backbone)
        x = texts(generator)
        model = keras.Model(*fixed_sizes(task, dict.fromkeys(x, (LENGTH,))))
        return Family(model, x, previous(x["token_ids"]))

    return made


def previous(words: np.ndarray) -> np.ndarray:
    """The word before each, and before the first the first."""
    return np.concatenate([words[:, :1], words[:, :-1]], axis=1)


def whisper(hub: Any, generator: np.random.Generator) -> Family:
    """Sound and words to the word before, by the tied table."""
    frames, mels = 16, 8
    backbone = hub.WhisperBackbone(
        vocabulary_size=WORDS,
        num_mels=mels,
        max_encoder_sequence_length=frames,
        max_decoder_sequence_length=LENGTH,
        **_HEADS,
    )
    shapes = {
        "encoder_features": (frames, mels),
        "decoder_token_ids": (LENGTH,),
        "decoder_padding_mask": (LENGTH,),
    }
    inputs, outputs = fixed_sizes(backbone, shapes)
    logits = backbone.token_embedding(outputs["decoder_sequence_output"], reverse=True)
    words = texts(generator)
    sound = generator.normal(size=(SAMPLES, frames, mels)).astype("float32")
    x = {
        "encoder_features": sound,
        "decoder_token_ids": words["token_ids"],
        "decoder_padding_mask": words["padding_mask"],
    }
    return Family(keras.Model(inputs, logits), x, previous(words["token_ids"]))


def pictures(generator: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    """Random pictures, bright in one quarter."""
    found = generator.uniform(0, 0.6, (len(labels), SIDE, SIDE, 3))
    half = SIDE // 2
    for picture, label in zip(found, labels, strict=True):
        top, left = half * (label // 2), half * (label % 2)
        picture[top : top + half, left : left + half] += 0.4
    return found.astype("float32")


def image_classifier(
    name: str, head: dict[str, Any] | None = None, **arguments: Any
) -> Callable:
    """The class of a picture is its bright quarter."""

    def made(hub: Any, generator: np.random.Generator) -> Family:
        kind = getattr(hub, f"{name}Backbone")
        shape_name = "input_shape" if name == "EfficientNet" else "image_shape"
        backbone = kind(**{shape_name: (SIDE, SIDE, 3)}, **arguments)
        model = getattr(hub, f"{name}ImageClassifier")(
            backbone, CLASSES, **(head or {})
        )
        y = generator.integers(0, CLASSES, SAMPLES)
        return Family(model, pictures(generator, y), y)

    return made


def clip(hub: Any, generator: np.random.Generator) -> Family:
    """Which of four captions belongs to each of four pictures."""
    common = dict(_HEADS)
    vision = hub.CLIPVisionEncoder(patch_size=8, image_shape=(SIDE, SIDE, 3), **common)
    text = hub.CLIPTextEncoder(
        vocabulary_size=WORDS,
        embedding_dim=common["hidden_dim"],
        max_sequence_length=LENGTH,
        **common,
    )
    backbone = hub.CLIPBackbone(vision, text, projection_dim=16)
    shapes = {"images": (SIDE, SIDE, 3), "token_ids": (LENGTH,)}
    inputs, outputs = fixed_sizes(backbone, shapes)
    labels = np.concatenate(
        [generator.permutation(CLASSES) for _ in range(SAMPLES // CLASSES)]
    )
    words = generator.integers(CLASSES, WORDS - 1, (SAMPLES, LENGTH)).astype("int32")
    words[:, 0] = np.arange(SAMPLES) % CLASSES
    words[:, -1] = WORDS - 1
    x = {"images": pictures(generator, labels), "token_ids": words}
    model = keras.Model(inputs, outputs["vision_logits"])
    return Family(model, x, labels, CLASSES, learning_rate=3e-4)


def segformer(hub: Any, generator: np.random.Generator) -> Family:
    """Which quarter of a picture is the bright one, for each pixel: inside, outside."""
    encoder = hub.MiTBackbone(
        layerwise_depths=[1, 1],
        num_layers=2,
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
        image_shape=(SIDE, SIDE, 3),
        hidden_dims=[16, 32],
    )
    backbone = hub.SegFormerBackbone(image_encoder=encoder, projection_filters=16)
    model = hub.SegFormerImageSegmenter(backbone, num_classes=2)
    labels = generator.integers(0, CLASSES, SAMPLES)
    bright = np.zeros((SAMPLES, SIDE, SIDE), "int32")
    half = SIDE // 2
    for picture, label in zip(bright, labels, strict=True):
        top, left = half * (label // 2), half * (label % 2)
        picture[top : top + half, left : left + half] = 1
    return Family(model, pictures(generator, labels), bright)


#: What makes each family, from `keras_hub.models` and a generator of random numbers.
FAMILIES: dict[str, Callable[[Any, np.random.Generator], Family]] = {
    "BERT": text_classifier("Bert", "segment_ids"),
    "DistilBERT": text_classifier("DistilBert"),
    "DeBERTa": text_classifier("DebertaV3", bucket_size=8),
    "GPT-2": language_model("GPT2", max_sequence_length=LENGTH, **_HEADS),
    "Gemma": language_model("Gemma", head_dim=8, **_GROUPED),
    "Llama": language_model("Llama", **_GROUPED),
    "Mistral": language_model("Mistral", **_GROUPED),
    "Qwen": language_model("Qwen", **_GROUPED),
    "Phi": language_model("Phi3", **_GROUPED),
    "Whisper": whisper,
    "ViT": image_classifier(
        "ViT", patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64
    ),
    "CLIP": clip,
    "SegFormer": segformer,
    "ResNet": image_classifier(
        "ResNet",
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
    ),
    "EfficientNet": image_classifier(
        "EfficientNet",
        stackwise_kernel_sizes=[3, 3],
        stackwise_num_repeats=[1, 1],
        stackwise_input_filters=[16, 16],
        stackwise_output_filters=[16, 24],
        stackwise_expansion_ratios=[1, 4],
        stackwise_squeeze_and_excite_ratios=[0.25, 0.25],
        stackwise_strides=[1, 2],
        stackwise_block_types=["unfused", "unfused"],
        width_coefficient=1.0,
        depth_coefficient=1.0,
        num_features=64,
    ),
    "MobileNet": image_classifier(
        "MobileNet",
        {"num_features": 64},
        stackwise_expansion=[[16, 24]],
        stackwise_num_blocks=[2],
        stackwise_num_filters=[[16, 16]],
        stackwise_kernel_size=[[3, 3]],
        stackwise_num_strides=[[2, 1]],
        stackwise_se_ratio=[[None, 0.25]],
        stackwise_activation=[["relu", "hard_swish"]],
        stackwise_padding=[[1, 1]],
        output_num_filters=64,
        input_activation="hard_swish",
        output_activation="hard_swish",
        input_num_filters=16,
        depthwise_filters=8,
        depthwise_stride=1,
        depthwise_residual=False,
        squeeze_and_excite=0.5,
        last_layer_filter=64,
    ),
    "VGG": image_classifier(
        "VGG",
        {"pooling_hidden_dim": 64},
        stackwise_num_repeats=[1, 1],
        stackwise_num_filters=[16, 32],
    ),
    "DenseNet": image_classifier(
        "DenseNet", stackwise_num_repeats=[2, 2], growth_rate=8
    ),
}
