"""Import this to register the project's tasks, models, criterions and optimizers with fairseq."""

from mms_recipes import fairseq_compat

fairseq_compat.apply()

import mms_recipes.criterions.ctc  # noqa: E402
import mms_recipes.criterions.lid  # noqa: E402
import mms_recipes.models.dense  # noqa: E402
import mms_recipes.models.lid  # noqa: E402
import mms_recipes.models.lsah  # noqa: E402
import mms_recipes.optimizers  # noqa: E402
import mms_recipes.tasks.finetuning  # noqa: E402
import mms_recipes.tasks.lid  # noqa: E402
import mms_recipes.tasks.lsah  # noqa: E402
import mms_recipes.tasks.pretraining  # noqa: E402, F401
from mms_recipes import checkpoints, origins  # noqa: E402

checkpoints.serve_fairseq()
origins.keep()
