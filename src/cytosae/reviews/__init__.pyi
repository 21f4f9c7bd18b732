from .database import Database, reviews_url
from .decisions import AcceptedName, accepted_names
from .panels import Design, make_panels
from .results import Results, results_of
from .vocabulary import Term, find_term, vocabulary

__all__ = [
    "AcceptedName",
    "Database",
    "Design",
    "Results",
    "Term",
    "accepted_names",
    "find_term",
    "make_panels",
    "results_of",
    "reviews_url",
    "vocabulary",
]
