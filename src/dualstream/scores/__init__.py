"""Level 5: scores of views and streams, how they are joined, measured and kept in files."""

from dualstream.scores.files import read_scores as read_scores
from dualstream.scores.files import write_scores as write_scores
from dualstream.scores.fusion import FITTED_METHODS as FITTED_METHODS
from dualstream.scores.fusion import Fusion as Fusion
from dualstream.scores.fusion import FusionMethod as FusionMethod
from dualstream.scores.fusion import fit_fusion as fit_fusion
from dualstream.scores.fusion import fuse as fuse
from dualstream.scores.fusion import make_fusion as make_fusion
from dualstream.scores.fusion import weighted_fusion as weighted_fusion
from dualstream.scores.metrics import Accuracy as Accuracy
from dualstream.scores.metrics import confusion_matrix as confusion_matrix
from dualstream.scores.metrics import mean_class_accuracy as mean_class_accuracy
from dualstream.scores.metrics import measure as measure
from dualstream.scores.metrics import most_confused_pairs as most_confused_pairs
from dualstream.scores.metrics import per_class_accuracy as per_class_accuracy
from dualstream.scores.metrics import predicted_classes as predicted_classes
from dualstream.scores.metrics import top_k_accuracy as top_k_accuracy
from dualstream.scores.metrics import true_class_rank as true_class_rank
from dualstream.scores.views import align as align
from dualstream.scores.views import average_views as average_views
from dualstream.scores.views import log_softmax as log_softmax
from dualstream.scores.views import only_common as only_common
from dualstream.scores.views import probabilities as probabilities
from dualstream.scores.views import softmax as softmax
