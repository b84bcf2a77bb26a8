"""A tab in TensorBoard: the report on the runs in its log directory, made anew as they go on.

It is no tracker: it reads through the trackers' contract, as a report does, and writes nothing.
"""
