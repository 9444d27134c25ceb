"""Models on which a law of compression was broken once, as small as they could be."""

from __future__ import annotations

from typing import Any

from tests.generated.compressed_models import Net, Part

_DENSE = Net("vector", (Part("Dense relu"),))

#: Calls of laws: the name of the law, and what it is checked on.
FOUND: list[tuple[str, tuple[Any, ...]]] = [
    ("a_file_is_the_model_or_is_refused", (_DENSE, ["prune"], ".h5")),
    ("a_file_is_the_model_or_is_refused", (_DENSE, ["cluster"], ".h5")),
    ("a_best_epoch_is_as_sparse_as_was_asked_or_it_is_said", (_DENSE, 0.8)),
    (
        "training_continues_after_any_verbs",
        (_DENSE.but(outputs=2, structure="dict"), ["teach"]),
    ),
    (
        "a_float_file_computes_what_the_model_computes",
        (_DENSE.but(structure="dict", form="subclassed"), ["prune"]),
    ),
    ("what_calibrates_an_export_calibrates_a_model", (_DENSE, "unbatched")),
    (
        "a_quantized_model_is_stripped_to_what_it_was",
        (Net("sequence", (Part("KeepsConstant"),)),),
    ),
    (
        "a_quantized_model_is_stripped_to_what_it_was",
        (Net("sequence", (Part("stateful GRU"),)),),
    ),
    (
        "a_float_file_computes_what_the_model_computes",
        (Net("sequence", (Part("stateful SimpleRNN"),), structure="dict"), []),
    ),
    (
        "the_file_of_a_quantized_model_is_steps_away_at_most",
        (
            Net(
                "sequence",
                (Part("CausalAttention"),),
                structure="dict",
                heads=("none",),
            ),
        ),
    ),
    (
        "the_file_of_a_quantized_model_is_steps_away_at_most",
        (
            Net(
                "image",
                (Part("Conv2D"), Part("Conv2DTranspose"), Part("Conv2D")),
                structure="dict",
            ),
        ),
    ),
    (
        "training_continues_after_any_verbs",
        (
            Net(
                "image",
                (Part("Conv2D"), Part("Conv2D", 1), Part("MaxPooling2D", 1, back=2)),
                form="nested",
                heads=("none",),
            ),
            ["cluster"],
        ),
    ),
    (
        "the_file_of_a_quantized_model_is_steps_away_at_most",
        (
            Net(
                "sequence",
                (Part("stateful GRU", 1),),
                structure="dict",
                vectors="constant",
            ),
        ),
    ),
    (
        "the_file_of_a_quantized_model_is_steps_away_at_most",
        (Net("sequence", (Part("KeepsConstant"),), structure="dict"),),
    ),
    (
        "the_file_of_a_quantized_model_is_steps_away_at_most",
        (
            Net(
                "image",
                (
                    Part("Flatten"),
                    Part("Dense silu", 1),
                    Part("Dense tanh"),
                    Part("LayerNormalization"),
                ),
                structure="dict",
            ),
        ),
    ),
]
