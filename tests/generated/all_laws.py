"""All laws: importing this module enters them in `law.LAWS`."""

from tests.generated.law import LAWS as LAWS
from tests.generated.laws import belonging as belonging
from tests.generated.laws import changed_models as changed_models
from tests.generated.laws import evaluation as evaluation
from tests.generated.laws import finder as finder
from tests.generated.laws import loss_scaling as loss_scaling
from tests.generated.laws import missing as missing
from tests.generated.laws import modes as modes
from tests.generated.laws import neutral as neutral
from tests.generated.laws import saving as saving
from tests.generated.laws import turns as turns
from tests.generated.laws import units as units
from tests.generated.laws import weights_set as weights_set
