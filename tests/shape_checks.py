"""Check the shapes in the annotations of L1 to L5 at every call that a test makes.

A module of these layers is imported unchanged, and then its public functions and methods are
wrapped, so that every importer gets the wrapped ones. jaxtyping's own ``--jaxtyping-packages``
differs in three ways that would matter here: it also decorates nested functions, again for every
trace, which takes longer than the checks; it repeats what mypy checks; and it rejects an argument
before the library can raise the error whose message the tests match.
"""

import functools
import importlib.abc
import importlib.machinery
import inspect
import sys
import types
import typing
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from beartype.door import die_if_unbearable
from beartype.roar import BeartypeDoorHintViolation as ShapeError
from jaxtyping import AbstractArray, PyTree, jaxtyped

LAYERS = (
    *("arrays", "divergence"),
    *("schedules", "processes"),
    *("predictions", "oracles"),
    *("losses",),
    *("denoisers", "guidance"),
    *("dynamics", "flow", "solvers", "sampling", "likelihood", "latents"),
)


def install():
    """Check all modules that are imported after this call."""
    sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        package, *rest = fullname.split(".")
        if package != "jaxdiff" or not rest or rest[0] not in LAYERS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module):
        super().exec_module(module)
        for name, value in list(vars(module).items()):
            if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isclass(value):
                _check_methods(value)
            elif inspect.isfunction(inspect.unwrap(value)):  # compiled ones are unwrapped to it
                setattr(module, name, checked(value))


def _check_methods(cls):
    for name, value in list(vars(cls).items()):
        if name.startswith("_"):  # fields of a process may hold any leaf of its tree
            continue
        if isinstance(value, classmethod):
            setattr(cls, name, classmethod(checked(value.__func__)))
        elif inspect.isfunction(value):
            setattr(cls, name, checked(value))


def checked(fn):
    """Wrap a function so that its arguments and its result have the shapes of its annotations."""
    hints = _shapes(inspect.unwrap(fn))
    if not hints:
        return fn
    returned = hints.get("return")
    names = list(inspect.signature(fn).parameters)

    @jaxtyped(typechecker=None)  # the scope in which an axis has one length
    @functools.wraps(fn)
    def check_and_call(*args, **kwargs):
        __tracebackhide__ = True
        try:
            for name, value in (*zip(names, args, strict=False), *kwargs.items()):
                if name in hints:
                    _check(value, hints[name])
        except ShapeError as error:
            raise _refusal(fn, args, kwargs) or error from None
        result = fn(*args, **kwargs)
        if returned is not None:
            _check(result, returned)
        return result

    passed = {}  # layouts of arguments -> those of results: a layout is checked once

    @functools.wraps(fn)
    def call(*args, **kwargs):
        __tracebackhide__ = True
        layout = _layout((args, kwargs))
        if layout in passed:
            result = fn(*args, **kwargs)
            if _layout(result) == passed[layout]:
                return result
        result = check_and_call(*args, **kwargs)
        passed[layout] = _layout(result)
        return result

    return call


def _layout(tree):
    """All that the checks depend on: structure, shapes, types, and lengths given as numbers."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple(
        (type(leaf) is np.ndarray, leaf.shape, leaf.dtype)
        if hasattr(leaf, "shape")
        else leaf
        if isinstance(leaf, int | str)
        else type(leaf)
        for leaf in leaves
    )


def _refusal(fn, args, kwargs):
    """The library's own error for these arguments, if it raises one."""
    from jaxdiff.typing import InputError

    try:
        fn(*args, **kwargs)
    except InputError as error:
        return error
    except Exception:
        return None


def _check(value, hint):
    __tracebackhide__ = True
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    for option in options:
        if _is_named_tuple(option) and isinstance(value, option):
            for field, shape in _shapes(option).items():
                _check(getattr(value, field), shape)
            return
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "iuf":
        value = jnp.asarray(value)  # JAX converts these: only their shape is checked
    die_if_unbearable(value, hint)


@functools.cache
def _shapes(annotated):
    """The annotations that include a shape."""
    hints = typing.get_type_hints(annotated, include_extras=True)
    return {name: hint for name, hint in hints.items() if _has_shape(hint)}


def _has_shape(hint):
    if _is_named_tuple(hint):
        return bool(_shapes(hint))
    if inspect.isclass(hint) and not typing.get_args(hint):
        return issubclass(hint, AbstractArray) or (issubclass(hint, PyTree) and hint is not PyTree)
    is_function = typing.get_origin(hint) is Callable
    return not is_function and any(_has_shape(part) for part in typing.get_args(hint))


def _is_named_tuple(hint):
    return inspect.isclass(hint) and hasattr(hint, "_fields")


def _is_union(hint):
    return typing.get_origin(hint) in (typing.Union, types.UnionType)
