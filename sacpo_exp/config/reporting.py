"""What a report can be made for."""

from enum import Enum


class FigureForm(Enum):
    """Which figures are drawn, besides the one of the page."""

    screen = "screen"
    paper = "paper"  # in panels, as pdf and png of a column's or a page's width
