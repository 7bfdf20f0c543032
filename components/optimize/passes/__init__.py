"""The passes, one a file: ``apply(graph) -> Outcome`` changes a meta graph in place and says what it did.

Each module's docstring says what it matches, why that is safe, and when it refuses. A pass may be undone by whoever
runs it, so it needs no second thoughts of its own beyond leaving alone what it does not understand.
"""
