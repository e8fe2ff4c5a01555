"""Executes GraphQL at about the cost of plain serialisation, for any Strawberry schema.

A document is prepared once. Selections of plain data are compiled into functions from resolved
values to structs, which msgspec encodes; the stock executor runs everything else. This package
knows nothing of HTTP, and nothing of one schema.

    engine = CompiledSchema(schema, list_sizes={"Query.books": SlicingArgument(...)})
    call = engine.prepare(text).operation(name).bind(variables)
    answer = await call.execute(context)
"""

from .document import Answer, Call, Document, Operation
from .leaves import Leaf
from .limits import Limits
from .list_sizes import (
    ConstantSize,
    DeclaredSize,
    InputList,
    LeafList,
    SlicingArgument,
    list_fields,
)
from .rejections import RequestRejected, Stage
from .schema import CompiledSchema

__all__ = [
    "Answer",
    "Call",
    "CompiledSchema",
    "ConstantSize",
    "DeclaredSize",
    "Document",
    "InputList",
    "Leaf",
    "LeafList",
    "Limits",
    "Operation",
    "RequestRejected",
    "SlicingArgument",
    "Stage",
    "list_fields",
]
