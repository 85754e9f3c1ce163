"""Level 6: tables, figures and the self-contained page that shows what streams and fusion do."""

from dualstream.report.page import render_report, write_report
from dualstream.report.samples import SampleFigure, choose_examples, top_by_stream
from dualstream.report.tables import (
    AgreementRow,
    ClassRow,
    Comparable,
    Comparison,
    HeadlineRow,
    agreement_rows,
    class_rows,
    compare,
    fusion_gain,
    headline,
)

__all__ = [
    "AgreementRow",
    "ClassRow",
    "Comparable",
    "Comparison",
    "HeadlineRow",
    "SampleFigure",
    "agreement_rows",
    "choose_examples",
    "class_rows",
    "compare",
    "fusion_gain",
    "headline",
    "render_report",
    "top_by_stream",
    "write_report",
]
