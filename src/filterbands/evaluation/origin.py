"""Whose code a class or function is: of this package, torch, Python, an installed package or the user."""

import inspect
import re
import sys
import tokenize
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import nn

from ..checks import is_users_file

LIBRARIES = (torch.__name__, __name__.partition(".")[0])
"""Packages whose code belongs to a version, not to an experiment of the user."""

_TORCH = str(torch.__file__).removesuffix("__init__.py")


def root(code: Any) -> str:
    """Return the package that a class or function says it is of."""
    return str(getattr(code, "__module__", None)).partition(".")[0]


def is_library(code: Any) -> bool:
    """Return whether a class or function is of torch or of this package."""
    # functools.wraps gives a function of the user the module of the one that it wraps.
    return root(code) in LIBRARIES and not _is_users_function(code)


def is_standard(code: Any) -> bool:
    """Return whether a class or function is of Python, of torch or of this package."""
    if is_library(code):
        return True
    # A module of the user may have the name of one of Python's.
    return (
        root(code) in sys.stdlib_module_names
        and not _is_users_function(code)
        and not is_users_module(sys.modules.get(code.__module__))
    )


def is_users_class(kind: type) -> bool:
    """Return whether a class is neither of a library nor of an installed package."""
    module = sys.modules.get(kind.__module__)
    # A class of a prompt or a notebook has no file.
    is_fileless = getattr(module, "__file__", None) is None
    return not is_standard(kind) and (is_fileless or is_users_module(module))


def is_users_module(module: ModuleType | None) -> bool:
    """Return whether a module or package is read from Python files of the user's own."""
    file = getattr(module, "__file__", None)
    # A package without __init__.py has places alone.
    places = [file] if file else list(getattr(module, "__path__", ()))
    compiled = file and not file.endswith(".py")
    return bool(places) and not compiled and all(map(_is_users_file, places))


def source_of(function: FunctionType) -> tuple[str, bool]:
    """Return the text of a function, and whether it says all of its code; no text where there is none."""
    code = function.__code__
    try:
        # Of a function, inspect takes the one that it wraps.
        text = inspect.getsource(code if _is_users_function(function) else function)
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):
        return "", False
    if code.co_name != "<lambda>":
        return text, True
    # Its lines may hold another one, and those after the first may be missing.
    last = max((line for _, _, line in code.co_lines() if line), default=0)
    is_whole = last < code.co_firstlineno + text.count("\n")
    return text, is_whole and len(re.findall(r"\blambda\b", text)) == 1


def is_installed(function: FunctionType) -> bool:
    """Return whether a function is of an installed package."""
    return "site-packages" in function.__code__.co_filename


def replaced(kind: type) -> dict[str, Any]:
    """Return by name what the user has put into a class of torch or of this package."""
    if not is_library(kind):
        return {}
    found = {name: member for name, member in vars(kind).items() if _is_users_function(function_of(member))}
    forward = vars(kind).get("forward")
    # That of another class, or a function without Python code, is no function of the user's.
    if forward is not None and kind.__module__.startswith(("torch.nn.", f"{LIBRARIES[1]}.")):
        owner = str(getattr(forward, "__qualname__", None)).partition(".")[0]
        if owner not in (kind.__qualname__.partition(".")[0], nn.Module.forward.__qualname__):
            found["forward"] = forward
    return found


def function_of(member: Any) -> Any:
    """Return the function of a property or method of a class; anything else as it is."""
    return getattr(member, "fget", None) or getattr(member, "__func__", None) or member


def _is_users_function(code: Any) -> bool:
    if not isinstance(code, FunctionType):
        return False
    file = code.__code__.co_filename
    at_prompt = file.startswith("<") and code.__globals__.get("__name__") == "__main__"
    return at_prompt or _is_users_file(file)


def _is_users_file(file: str) -> bool:
    return is_users_file(file) and not file.startswith(_TORCH)
