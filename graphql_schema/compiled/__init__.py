"""Executes GraphQL at about the cost of plain serialisation, for any Strawberry schema.

A document is prepared once. Selections of plain data are compiled into functions from resolved
values to structs, which msgspec encodes; the stock executor runs everything else. This package
knows nothing of HTTP, and nothing of one schema.

    engine = CompiledSchema(schema, list_sizes={"Query.books": SlicingArgument(...)})
    call = engine.prepare(text).operation(name).bind(variables)
    result = await call.execute(context)
"""

from .document import Call, Document, ExecutionResult, Operation
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
from .resolvers import AS_MEMBERS
from .schema import CompiledSchema

__all__ = [
    "AS_MEMBERS",
    "Call",
    "CompiledSchema",
    "ConstantSize",
    "DeclaredSize",
    "Document",
    "ExecutionResult",
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
