from pathlib import Path

from kopt.export import ExportReport
from kopt.export._comparison import Difference


def difference(**changes):
    values = {
        "max": 0.5,
        "mean": 0.1,
        "step": 0.25,
        "agreement": 0.99,
        "limit": "little",
        "passed": True,
    }
    return Difference(**(values | changes))


def report(**changes):
    values = {
        "path": Path("model.tflite"),
        "format": "tflite",
        "quantization": "int8",
        "size_bytes": 2048,
        "inputs": {"x": "int8"},
        "outputs": {"y": "int8"},
        "float_tensors": (),
        "samples": 100,
        "source": "representative samples",
        "differences": {"y": difference()},
        "latency_ms": 1.5,
        "latency_protocol": "median of 30 runs, batch 1, 1 thread",
    }
    return ExportReport(**(values | changes))


def test_the_worst_output_speaks_for_all():
    two = {
        "a": difference(max=1.0, agreement=0.9, step=None),
        "b": difference(mean=0.2),
    }
    found = report(differences=two)
    assert (found.max_difference, found.mean_difference) == (1.0, 0.2)
    assert (found.argmax_agreement, found.max_lsb) == (0.9, 2.0)


def test_one_output_out_of_its_limit_is_enough():
    assert report().verified
    two = {"a": difference(), "b": difference(passed=False)}
    assert not report(differences=two).verified


def test_what_was_not_run_is_not_verified():
    unseen = report(differences={}, latency_ms=None)
    assert not unseen.verified and unseen.max_difference is None
    assert "no: it was not run" in str(unseen)


def test_the_text_shows_every_number():
    text = str(report())
    for part in (
        "2.0 KB",
        "x: int8",
        "float tensors inside",
        "none",
        "max 0.5, mean 0.1; max 2.00 LSB",
        "argmax agrees on 99.00%",
        "yes, on 100 representative samples",
        "1.500 ms (median of 30 runs, batch 1, 1 thread)",
    ):
        assert part in text


def test_many_float_tensors_are_counted_and_some_are_named():
    text = str(report(float_tensors=("a", "b", "c", "d", "e")))
    assert "5 (a, b, c and 2 more)" in text
