"""Teachers: networks that are not trained by the loss and say something about the queries.

A teacher maps a TokenBatch to one vector a query [q, k], aligned by token; `update(model)` is called after each step.
"""

from .ema import Ema

TEACHERS = {"ema": Ema}
