"""The generator itself: what it draws, how that prints, and that it finds faults."""

import collections

import pytest

import kopt
from tests.generated import models, optimizers, stories
from tests.generated.all_laws import LAWS
from tests.generated.description import features
from tests.generated.laws.units import INSIDE, LINEAR
from tests.generated.search import names, sample, search


def drawn(law, count):
    found = []

    def collect(situation):
        found.append(situation)

    sample(law.situations, collect, seed=0, examples=count, shrink=False)
    return found


@pytest.mark.parametrize("name", sorted(LAWS))
def test_what_is_printed_can_be_pasted(name):
    for situation in drawn(LAWS[name], 5):
        assert eval(repr(situation), names()) == situation


@pytest.mark.slow
@pytest.mark.thorough
def test_everything_on_the_menus_is_drawn_often_enough():
    counts = collections.Counter()
    for law in LAWS.values():
        for situation in drawn(law, 150):
            counts.update(set(features(situation)))
    rare = {name: counts[name] for name in menus() if counts[name] < 5}
    assert not rare, f"of {150 * len(LAWS)} situations only so many have {rare}"


def menus():
    """What there is to be drawn, as `features` names it; defaults do not count."""
    layers = set(models.SEQUENCE) | set(models.IMAGE)
    return [
        *(f"method={name}" for name in optimizers.METHODS if name != "SGD"),
        *(f"method={name}" for name in optimizers.PRESETS),
        *(f"wrapper={name}" for name in optimizers.WRAPPERS),
        *(f"kind={kind}" for kind in layers if kind != "Dense"),
        *(f"inputs={kind}" for kind in models.MENUS if kind != "vector"),
        *(f"style={style}" for style in models.STYLES if style != "functional"),
        *(f"policy={policy}" for policy in models.POLICIES if policy != "float32"),
        *(f"options {o}" for flag in optimizers.FLAGS.values() for o in flag),
        *(f"layer={name}" for name in {**LINEAR, **INSIDE} if name != "dense"),
        *(event.__name__ for event in stories.ALL),
        *("suffix=.h5", "suffix=.weights.h5", "sharpness rho", "Group", "frozen"),
        *("nested", "times", "options stateful", "options kernel_constraint", "loss"),
    ]


# Broken optimizers, each with the law that has to find it.


def restless(patch):
    """A step moves all variables of the model, those without a gradient too."""
    apply = kopt.optimizers.Optimizer.apply

    def moving(self, grads, trainable_variables=None):
        apply(self, grads, trainable_variables)
        for variable in trainable_variables:
            variable.assign(0.999 * variable)

    patch.setattr(kopt.optimizers.Optimizer, "apply", moving)


def forgetful(patch):
    """What a file says of the state is not read."""
    patch.setattr(
        kopt.optimizers.Optimizer, "load_own_variables", lambda self, store: None
    )


def short_of_steps(patch):
    """Clipping makes steps shorter that are short enough."""
    begin = kopt.optimizers.Optimizer.__init__

    def slower(self, learning_rate, **options):
        clips = {"clipnorm", "clipvalue", "global_clipnorm", "agc"} & set(options)
        begin(self, learning_rate * (0.5 if clips else 1.0), **options)

    patch.setattr(kopt.optimizers.Optimizer, "__init__", slower)


def overgrown(patch):
    """The optimizer makes a variable that nobody knows of."""
    build = kopt.optimizers.Optimizer.build

    def more(self, variables):
        if not self.built:
            self.add_variable(shape=(2, 2), name="spare")
        build(self, variables)

    patch.setattr(kopt.optimizers.Optimizer, "build", more)


def timid(patch):
    """A step takes the mean over units, not over what feeds each of them."""
    apply = kopt.optimizers.Optimizer.apply

    def flattened(self, grads, trainable_variables=None):
        grads = [g - keras_mean(g) for g in grads]
        apply(self, grads, trainable_variables)

    def keras_mean(gradient):
        return sum(gradient.numpy().ravel()) / gradient.numpy().size

    patch.setattr(kopt.optimizers.Optimizer, "apply", flattened)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (restless, "what_has_no_gradient_stays"),
        (forgetful, "a_file_changes_nothing_that_follows"),
        (short_of_steps, "a_neutral_option_changes_nothing"),
        (overgrown, "every_variable_of_an_optimizer_belongs_to_something"),
        (timid, "a_unit_is_clipped_or_centralized_as_a_whole"),
    ],
)
def test_a_law_finds_a_broken_optimizer(broken, law, monkeypatch):
    broken(monkeypatch)
    findings = search(1, [law], patience=0, most=1, report=lambda line: None)
    assert findings.broken
