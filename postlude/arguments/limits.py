"""How far JSON may go, so that everything that meets it can read it back."""

DEPTH_LIMIT = 64
"""Most lists and objects inside each other, counting the object of named arguments itself.

Far below what the parsers of databases, other languages and browsers give up at.
"""

DIGITS_LIMIT = 4300
"""Most digits of a whole number; beyond it neither Python nor our JSON parser reads it back."""

TOO_LONG = 10**DIGITS_LIMIT
"""The smallest whole number over the limit."""
