"""``python -m benchmarks``: Postlude, its peers and the raw limits side by side, in one run.

Every peer runs in processes of its own, so that none sees another's event loop, broker or patches.
What is judged are ratios and limits (:mod:`benchmarks.goals`); absolute numbers belong to a machine.
"""
