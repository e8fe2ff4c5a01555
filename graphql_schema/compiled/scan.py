"""Finds the kind of a document's operation without parsing, in time linear in its length."""

import re
from typing import Final

from graphql import OperationType

# As in the lexer, no group is repeated possessively; after each one something matches at once.
_TOKEN: Final = re.compile(
    r"""[\s,\ufeff]*+(?:(?P<name>[_A-Za-z][_A-Za-z0-9]*+)
    |(?P<open>[{(\[])
    |(?P<close>[])}])
    |\"\"\"(?:[^"\\]++|"(?!"")|\\\"\"\"|\\)*(?:\"\"\"|(?P<unterminated_block>\Z))
    |"(?:[^"\\\r\n]++|\\.)*(?:"|(?P<unterminated_string>))
    |\#[^\r\n]*+
    |(?P<other>[-.0-9][-+.0-9_A-Za-z]*+|[^\s,\ufeff])
    |\Z)""",
    re.VERBOSE,
)
"""Matches at every position. Strings, comments and the end of the text match without a group."""
_UNTERMINATED: Final = ("unterminated_block", "unterminated_string")
_KINDS: Final = {kind.value: kind for kind in OperationType}


def find_kind(text: str, name: str | None, max_tokens: int) -> OperationType | None:
    """The kind of the operation that a request would run.

    Args:
        text: the document.
        name: of the operation; None means the only one.
        max_tokens: the scan stops after this many tokens.

    Returns:
        The kind that parsing would find, or None if there is no such operation or more than one.
        For a document that does not parse, or has more tokens, the result has no meaning.
    """
    operations: list[tuple[str | None, OperationType]] = []
    depth = 0
    head: list[str] = []  # The tokens before the selection set of the current definition.
    for count, token in enumerate(_TOKEN.finditer(text)):
        group = token.lastgroup
        if count > max_tokens or group in _UNTERMINATED:
            return None
        if group == "open":
            if not depth and token["open"] == "{":
                keyword = head[0] if head else "query"
                if keyword in _KINDS:
                    named = head[1] if len(head) > 1 and head[1].isidentifier() else None
                    operations.append((named, _KINDS[keyword]))
                elif keyword != "fragment":
                    return None
                head.clear()
            elif not depth:
                head.append("(")
            depth += 1
        elif group == "close":
            depth -= 1
        elif group and not depth:
            head.append(token[group])
    kinds = [kind for named, kind in operations if name in (None, named)]
    return kinds[0] if len(kinds) == 1 and not depth and not head else None
