"""Coerces the variables that a client sent into the values that resolvers get."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from graphql import (
    GraphQLBoolean,
    GraphQLError,
    GraphQLID,
    GraphQLInputType,
    GraphQLInt,
    GraphQLSchema,
    GraphQLString,
    OperationDefinitionNode,
    Undefined,
    get_named_type,
    get_nullable_type,
    is_input_object_type,
    is_non_null_type,
)
from graphql.execution.get_variable_signature import (
    GraphQLVariableSignature,
    get_variable_signature,
)
from graphql.execution.values import VariableValues, VariableValueSource, get_variable_values
from graphql.utilities.coerce_input_value import coerce_default_value, coerce_input_value

from .limits import over_limit
from .rejections import RequestRejected, Stage

MAX_ERRORS: Final = 5
MAX_VALUES: Final = 5_000
"""Values in all variables of an operation together. Reading a value takes about 1 µs."""


class VariableReader:
    """Coerces the variables of one operation: valid ones quickly, others by graphql-core."""

    def __init__(
        self, schema: GraphQLSchema, operation: OperationDefinitionNode, hide_suggestions: bool
    ) -> None:
        self._schema = schema
        self._nodes = operation.variable_definitions or ()
        self._names = [node.variable.name.value for node in self._nodes]
        self._hide_suggestions = hide_suggestions
        signatures = [get_variable_signature(schema, node) for node in self._nodes]
        self._expected: list[Expected] | None = None
        if all(map(_is_quick, signatures)):
            self._expected = [_expected(s) for s in signatures if not isinstance(s, GraphQLError)]

    def read(self, inputs: Mapping[str, Any]) -> VariableValues:
        """The coerced values with their sources. Unknown names are ignored.

        Raises:
            RequestRejected: a value is missing or of the wrong type, or there are too many values.
        """
        _require_few(inputs[name] for name in self._names if name in inputs)
        if self._expected is None:
            return self._read_by_graphql_core(inputs)
        sources: dict[str, VariableValueSource] = {}
        coerced: dict[str, Any] = {}
        for name, type_, exact, is_required, default, absent in self._expected:
            if name not in inputs:
                if is_required:
                    return self._read_by_graphql_core(inputs)
                sources[name] = absent
                if default is not Undefined:
                    coerced[name] = default
                continue
            source = value = inputs[name]
            if type(value) is not exact or (exact is int and value not in _INT32):
                value = coerce_input_value(value, type_)
                if value is Undefined:
                    # It reports what is missing or invalid.
                    return self._read_by_graphql_core(inputs)
            sources[name] = VariableValueSource(absent.signature, source)
            coerced[name] = value
        return VariableValues(sources, coerced)

    def _read_by_graphql_core(self, inputs: Mapping[str, Any]) -> VariableValues:
        try:
            values = get_variable_values(
                self._schema,
                self._nodes,
                dict(inputs),
                max_errors=MAX_ERRORS,
                hide_suggestions=self._hide_suggestions,
            )
        except ValueError as error:
            # Python converts no integer of more than 4300 digits to text, as a message would need.
            values = [GraphQLError("Variable values are too large.", original_error=error)]
        if isinstance(values, list):
            raise RequestRejected(Stage.VARIABLES, values)
        return values


def _require_few(values: Iterable[Any]) -> None:
    count = 0
    unread: list[Iterable[Any]] = [values]
    while unread:
        for value in unread.pop():
            count += 1
            if isinstance(value, list):
                unread.append(value)
            elif isinstance(value, dict):
                unread.append(value.values())
            if count > MAX_VALUES:
                raise over_limit("values in variables", MAX_VALUES)


class Expected(NamedTuple):
    """One variable of the operation.

    Attributes:
        exact: the Python type whose values are valid as they are; None if there is none.
    """

    name: str
    graphql_type: GraphQLInputType
    exact: type[Any] | None
    is_required: bool
    default: Any
    absent: VariableValueSource


def _expected(signature: GraphQLVariableSignature) -> Expected:
    default = coerce_default_value(signature)
    is_required = default is Undefined and is_non_null_type(signature.type)
    return Expected(
        signature.name,
        signature.type,
        _EXACT.get(get_nullable_type(signature.type)),
        is_required,
        default,
        VariableValueSource(signature),
    )


_INT32: Final = range(-(2**31), 2**31)
_EXACT: Final[Mapping[Any, type]] = {
    GraphQLString: str,
    GraphQLID: str,
    GraphQLBoolean: bool,
    GraphQLInt: int,
}


def _is_quick(signature: GraphQLVariableSignature | GraphQLError) -> bool:
    if isinstance(signature, GraphQLError):
        return False
    try:
        default = coerce_default_value(signature)
    except TypeError:
        return False
    # A mutable default must be created anew for every request.
    return _is_flat(signature.type) and isinstance(default, _IMMUTABLE)


_IMMUTABLE = (type(Undefined), type(None), str, int, float, bool)


def _is_flat(type_: GraphQLInputType, above: frozenset[str] = frozenset()) -> bool:
    """Whether values have a bounded depth; graphql-core reads recursive input types."""
    named = get_named_type(type_)
    if not is_input_object_type(named):
        return True
    if named.name in above:
        return False
    below = above | {named.name}
    return all(_is_flat(field.type, below) for field in named.fields.values())
