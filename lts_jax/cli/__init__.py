"""The commands, thin: each parses its own flags and calls one function.

A command is a module with `add_arguments(parser)` and `run(args)`; its docstring is its help. What
takes seconds to import is imported by `run`.
"""
