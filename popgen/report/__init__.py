"""Reports that people can look at: a plain content, and its forms as one HTML file and as Markdown.

A job turns its files into a `Report` of sections and blocks; `html_page` and `markdown_page` know nothing of where it comes from. A further kind of
result, such as an audit, is therefore one more function that returns a Report.
"""

from popgen.report.content import (
    Block,
    Chart,
    Code,
    Confusion,
    Facts,
    Figure,
    Mark,
    Paragraph,
    Report,
    Section,
    Series,
    Table,
)
from popgen.report.html import html_page
from popgen.report.markdown import markdown_page

__all__ = [
    "Block",
    "Chart",
    "Code",
    "Confusion",
    "Facts",
    "Figure",
    "Mark",
    "Paragraph",
    "Report",
    "Section",
    "Series",
    "Table",
    "html_page",
    "markdown_page",
]
