import numpy as np
import pytest

from kopt._part_sums import PartSums
from kopt._parts import Limits, judged


@pytest.fixture
def random():
    return np.random.default_rng(0)


def parts(exact, received, step=None, error=0.25, outside=None, **limits):
    sums = PartSums()
    sums.add(exact, received, outside)
    return judged(sums, Limits(step, error, **limits))


def faults(*arguments, **options):
    return [part for part in parts(*arguments, **options) if part.fault]


def on_grid(values):
    """Values on the one grid of 255 steps that holds them all and 0, and its step."""
    step = (max(values.max(), 0.0) - min(values.min(), 0.0)) / 255
    return np.round(values / step) * step, step


@pytest.fixture
def boxes_and_scores(random):
    boxes = random.uniform(0, 640, (200, 4))
    return np.concatenate([boxes, random.uniform(0.15, 0.96, (200, 3))], axis=1)


def test_channels_that_are_small_beside_others_are_lost(boxes_and_scores):
    (lost,) = faults(boxes_and_scores, *on_grid(boxes_and_scores))
    assert (lost.kind, lost.axis, lost.places) == ("lost", 1, (4, 5, 6))
    assert lost.bits < 1 and 500 < lost.ratio < 1200
    assert "channels 4-6" in str(lost)


@pytest.mark.parametrize(("deviation", "kind"), [(0.4, "lost"), (1.0, "coarse")])
def test_an_offset_of_one_channel_takes_the_steps_of_the_others(
    random, deviation, kind
):
    logits = deviation * random.normal(size=(200, 3)) + np.array([300.0, 0.0, 0.0])
    found = faults(logits, *on_grid(logits))
    assert [(one.kind, one.places) for one in found] == [(kind, (1, 2))]
    assert found[0].bits < 3 and found[0].ratio > 50
    # Without a grid, the noise says how fine it was.
    (same,) = faults(logits, on_grid(logits)[0])
    assert (same.kind, same.places) == (kind, (1, 2))


def test_what_hardly_leaves_an_offset_of_its_own_is_no_fault(random):
    # No grid that holds 0 has more steps for it.
    values = random.uniform(0, 1, (200, 4))
    values[:, 2] = 0.7 + 0.002 * random.normal(size=200)
    found = parts(values, *on_grid(values))
    assert [(one.places, one.fault) for one in found] == [((2,), False)]


def test_a_small_offset_among_many_that_hardly_vary_is_no_fault(random):
    # Channel 0 alone would have steps on a grid of its own; the rest would not.
    logits = np.linspace(0, 1, 10) + 2e-3 * random.normal(size=(100, 10))
    assert not faults(logits, *on_grid(logits))


def test_a_feature_that_is_nearly_always_0_is_no_fault(random):
    values = np.maximum(random.normal(size=(200, 16)), 0.0)
    values[:, 3] = np.maximum(0.02 * (random.normal(size=200) - 2.0), 0.0)
    found = parts(values, *on_grid(values))
    assert [(one.places, one.fault) for one in found] == [((3,), False)]


def test_one_feature_of_a_thousand_may_be_lost(random):
    features = random.uniform(0, 1, (200, 1000))
    features[:, 7] *= 1e-3
    assert not faults(features, *on_grid(features))


def test_an_output_on_the_grid_of_something_larger_is_coarse(random):
    scores, step = random.uniform(0, 1, (200, 3)), 640 / 255
    received = np.round(scores / step + random.uniform(0, 0.5, scores.shape)) * step
    (found,) = faults(scores, received, step)
    assert (found.kind, found.axis) == ("coarse", None)
    assert not faults(scores, received, step, representative=False)
    assert not faults(scores, received, step, spans=lambda axis, place: 640.0)


def test_channels_of_one_scale_are_not_at_fault(boxes_and_scores):
    even = boxes_and_scores / boxes_and_scores.max(axis=0)
    assert parts(even, *on_grid(even)) == ()


def test_the_small_end_of_many_features_is_worth_a_look_and_no_fault(random):
    # Log-normal scales, as those of pooled features: no gap between large and small.
    features = random.normal(size=(200, 1280)) * np.exp(random.normal(size=1280))
    found = parts(features, *on_grid(features))
    assert {part.kind for part in found} == {"lost", "coarse"}
    assert not any(part.fault for part in found)


def test_a_rare_class_may_have_less_than_a_step_of_its_probability(random):
    usual = random.uniform(0, 1, (200, 3))
    values = np.concatenate([usual, random.uniform(0, 1e-3, (200, 1))], axis=1)
    rounded = np.round(values * 256) / 256
    assert faults(values, rounded, 1 / 256)
    assert not faults(values, rounded, 1 / 256, spans=lambda axis, place: 1.0)


def test_a_place_is_judged_as_a_channel_is(random):
    large, small = random.uniform(0, 640, (50, 4, 2)), random.uniform(0, 1, (50, 2, 2))
    values = np.concatenate([large, small], axis=1)
    (lost,) = faults(values, *on_grid(values))
    assert (lost.axis, lost.places) == (1, (4, 5))
    assert "places on axis 1: 4-5" in str(lost)


def test_places_whose_error_stands_out_are_named(random):
    values = random.normal(size=(50, 64, 8))
    received = values + 0.02 * random.normal(size=values.shape)
    received[:, :2] += 0.4 * random.normal(size=(50, 2, 8))
    (found,) = faults(values, received, 0.03)
    assert (found.kind, found.axis, found.places) == ("outstanding", 1, (0, 1))


def test_an_error_that_grows_along_a_sequence_is_no_fault(random):
    values = random.normal(size=(50, 20, 8))
    growing = np.linspace(0.002, 0.04, 20)[:, None]
    assert not faults(values, values + growing * random.normal(size=values.shape), 0.03)


def test_values_beyond_the_range_are_cut_off(random):
    values = random.normal(size=(200, 4)) * np.array([1, 1, 1, 3])
    limits = np.clip(values, -2, 2)
    outside = np.abs(values) > 2.02
    (found,) = faults(values, limits, 4 / 255, outside=outside)
    assert (found.kind, found.places) == ("cut off", (3,))


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3), (50, 5, 2)])
def test_one_value_where_the_model_s_varies_is_a_fault(random, shape):
    values = random.normal(size=shape)
    constant = np.broadcast_to(values.mean(axis=0), shape)
    assert faults(values, constant, 0.01)[0].kind == "constant"


def test_what_is_constant_in_the_model_may_be_so_in_the_file(random):
    values = np.concatenate([random.normal(size=(50, 2)), np.full((50, 1), 3.0)], 1)
    assert parts(values, *on_grid(values)) == ()
    still = np.full((50, 3), 0.7)
    assert parts(still, still, 0.01) == ()


def test_an_untrained_network_that_hardly_answers_its_input_is_no_fault(random):
    # All channels vary by less than a step; no other one takes the steps away.
    logits = random.normal(size=(1, 10)) + 1e-3 * random.normal(size=(100, 10))
    noisy = logits + 0.02 * random.normal(size=logits.shape)
    assert not faults(logits, np.round(noisy / 0.02) * 0.02, 0.02)


def test_a_single_sample_is_not_judged_by_what_varies(boxes_and_scores):
    one = boxes_and_scores[:1]
    assert parts(one, *on_grid(one)) == ()


def test_the_place_of_what_is_not_a_number_is_named():
    values = np.ones((9, 3))
    broken = values.copy()
    broken[4, 1] = np.nan
    found = faults(values, broken)
    assert {part.kind for part in found} == {"broken"}
    assert [part.places for part in found if part.axis == 1] == [(1,)]


def test_what_the_model_does_not_know_is_left_out(random):
    values = random.normal(size=(30, 3))
    values[2, 1] = np.nan
    assert parts(values, values) == ()


def test_batches_add_up_to_the_whole(boxes_and_scores):
    rounded, step = on_grid(boxes_and_scores)
    sums = PartSums()
    for start in range(0, 200, 70):
        chosen = slice(start, start + 70)
        sums.add(boxes_and_scores[chosen], rounded[chosen])
    together = parts(boxes_and_scores, rounded, step)
    found = judged(sums, Limits(step, 0.25))
    assert [(p.kind, p.places) for p in found] == [(p.kind, p.places) for p in together]
    assert found[0].ratio == pytest.approx(together[0].ratio)


def test_an_axis_that_has_several_sizes_is_not_judged(random):
    sums = PartSums()
    for size in (4, 6):
        values = random.normal(size=(10, size, 2))
        sums.add(values, values)
    assert list(sums.by_axis) == [2] and sums.samples == 20
