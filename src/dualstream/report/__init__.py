"""Level 6: tables, figures and the self-contained page that shows what streams and fusion do."""

from dualstream.report.page import render_report as render_report
from dualstream.report.page import write_report as write_report
from dualstream.report.samples import SampleFigure as SampleFigure
from dualstream.report.samples import choose_examples as choose_examples
from dualstream.report.samples import example_figures as example_figures
from dualstream.report.samples import top_by_stream as top_by_stream
