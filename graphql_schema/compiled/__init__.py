"""GraphQL at the price of plain serialisation, for any Strawberry schema.

A document is prepared once; selections on plain data become functions from resolved values
to bytes, and everything else runs on the stock executor. Knows nothing of HTTP or tasks.

    engine = CompiledSchema(schema)
    call = engine.prepare(text).operation(name).bind(variables)
    answer = await call.execute(context)
"""

from .document import Answer, Call, Document, Operation
from .leaves import Leaf
from .limits import Limits
from .list_sizes import Paging
from .rejections import Refused, Stage
from .schema import CompiledSchema

__all__ = [
    "Answer",
    "Call",
    "CompiledSchema",
    "Document",
    "Leaf",
    "Limits",
    "Operation",
    "Paging",
    "Refused",
    "Stage",
]
