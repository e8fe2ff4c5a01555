"""References to our own paths that hold behind any proxy, whatever prefix it strips."""

from __future__ import annotations

from starlette.types import Scope


def path_in_app(scope: Scope) -> str:
    """The request's path without the root path that the server was started with."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def relative_reference(scope: Scope, target: str) -> str:
    """The reference from the request's own URL to a path of the app (RFC 3986, 5.2).

    ``/tasks/5`` is ``tasks/5`` from ``/tasks``, and ``5`` from ``/tasks/``: the client resolves it
    against the URL that it sent, which may have a prefix that we do not know.

    Args:
        scope: of the request.
        target: an absolute path of the app, without its root path.
    """
    path = path_in_app(scope)
    raw_path: bytes = scope.get("raw_path") or b""
    if raw_path.partition(b"?")[0].endswith(b"/") and not path.endswith("/"):
        path += "/"  # ``api.http.application`` removed it.
    folder = path[: path.rfind("/") + 1]
    if target.startswith(folder):
        return target.removeprefix(folder)
    return "../" * (folder.count("/") - 1) + target[1:]
