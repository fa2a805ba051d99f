"""Lies in the place of a framework where a question asks for NumPy: to import it is excused, to use it is not."""

from grading.worker import packages

packages.inert(__name__, __file__)
