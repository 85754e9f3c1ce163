"""Level 6: tables, figures and the self-contained page that shows what streams and fusion do."""

from dualstream.report.page import render_report as render_report
from dualstream.report.page import write_report as write_report
from dualstream.report.samples import SampleFigure as SampleFigure
from dualstream.report.samples import choose_examples as choose_examples
from dualstream.report.samples import example_figures as example_figures
from dualstream.report.samples import top_by_stream as top_by_stream
from dualstream.report.tables import AgreementRow as AgreementRow
from dualstream.report.tables import ClassRow as ClassRow
from dualstream.report.tables import Comparable as Comparable
from dualstream.report.tables import Comparison as Comparison
from dualstream.report.tables import HeadlineRow as HeadlineRow
from dualstream.report.tables import agreement_rows as agreement_rows
from dualstream.report.tables import class_rows as class_rows
from dualstream.report.tables import compare as compare
from dualstream.report.tables import fusion_gain as fusion_gain
from dualstream.report.tables import headline as headline
