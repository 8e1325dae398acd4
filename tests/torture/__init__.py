"""Attacks on the whole tool: `python -m tests.torture --seconds 300`; pytest does not collect them.

Everything happens in a temporary folder and on device nodes made in it. Each try is drawn from a seed, and
the inputs of every failure are kept.
"""
