"""The commands. Each one parses its flags and calls one function.

A command is a module with `add_arguments(parser)` and `run(args)`; its docstring is its help text.
Slow imports are deferred to `run`.
"""
