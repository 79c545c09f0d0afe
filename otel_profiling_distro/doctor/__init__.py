"""Answers the question that everybody has sooner or later: would profiles arrive from here, and if not, why not?"""

from .examine import examine, examine_process
from .finding import Finding, Level, Report

__all__ = ["Finding", "Level", "Report", "examine", "examine_process"]
