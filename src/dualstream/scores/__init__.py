"""Level 5: scores of views and streams, how they are joined, measured and kept in files."""

from dualstream.scores.alignment import align, reject_overlap
from dualstream.scores.files import read_scores, write_scores
from dualstream.scores.fusion import (
    FITTED_METHODS,
    Fusion,
    FusionMethod,
    check_fit_on,
    fit_fusion,
    fuse,
    make_fusion,
    search_weights,
    weighted_fusion,
)
from dualstream.scores.metrics import (
    Accuracy,
    ConfusedPair,
    confusion_matrix,
    mean_class_accuracy,
    measure,
    most_confused_pairs,
    per_class_accuracy,
    predicted_classes,
    top_k_accuracy,
    true_class_rank,
)
from dualstream.scores.views import (
    ViewAverage,
    average_views,
    log_probabilities,
    log_softmax,
    probabilities,
    softmax,
)

__all__ = [
    "FITTED_METHODS",
    "Accuracy",
    "ConfusedPair",
    "Fusion",
    "FusionMethod",
    "ViewAverage",
    "align",
    "average_views",
    "check_fit_on",
    "confusion_matrix",
    "fit_fusion",
    "fuse",
    "log_probabilities",
    "log_softmax",
    "make_fusion",
    "mean_class_accuracy",
    "measure",
    "most_confused_pairs",
    "per_class_accuracy",
    "predicted_classes",
    "probabilities",
    "read_scores",
    "reject_overlap",
    "search_weights",
    "softmax",
    "top_k_accuracy",
    "true_class_rank",
    "weighted_fusion",
    "write_scores",
]
