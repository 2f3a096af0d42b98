"""One definition of an operation for both clients: its flow is run at once, or awaited, by what it is called on."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from visitcal.drivers import AwaitingDriver, BlockingDriver, Driver
    from visitcal.steps import Flow, Listing
    from visitcal.transport import Transport

__all__ = ["Awaiting", "Blocking", "Connected", "listing", "loaded", "operation"]

P = ParamSpec("P")
T = TypeVar("T")


class Connected:
    """What talks to a service.

    Parameters
    ----------
    driver : Driver
        Does what flows ask for.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    @property
    def _transport(self) -> Transport:
        return self._driver.transport


class Blocking(Connected):
    """What does its operations when they are called."""

    _driver: BlockingDriver


class Awaiting(Connected):
    """What has its operations awaited."""

    _driver: AwaitingDriver


class operation(Generic[P, T]):  # noqa: N801 - a decorator
    """A method that is written as a flow: it returns the flow's result, or a coroutine of it.

    Parameters
    ----------
    flow : callable
        Method that makes the flow.
    """

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[T]]) -> None:
        @functools.wraps(flow)
        def method(instance: Any, *arguments: P.args, **options: P.kwargs) -> Any:
            return instance._driver.run(flow(instance, *arguments, **options))  # noqa: SLF001

        self._method: Any = method

    @overload
    def __get__(self, instance: None, owner: type) -> Callable[..., Any]: ...
    @overload
    def __get__(self, instance: Blocking, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: Awaiting, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(self, instance: Any, owner: type) -> Any:
        """The method of an object."""
        return self._method.__get__(instance, owner)


class listing(Generic[P, T]):  # noqa: N801 - a decorator
    """A method that is written as a listing: it returns an iterator, or an asynchronous one.

    Parameters
    ----------
    flow : callable
        Method that makes the listing.
    """

    def __init__(self, flow: Callable[Concatenate[Any, P], Listing[T]]) -> None:
        @functools.wraps(flow)
        def method(instance: Any, *arguments: P.args, **options: P.kwargs) -> Any:
            return instance._driver.iterate(flow(instance, *arguments, **options))  # noqa: SLF001

        self._method: Any = method

    @overload
    def __get__(self, instance: None, owner: type) -> Callable[..., Any]: ...
    @overload
    def __get__(self, instance: Blocking, owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, instance: Awaiting, owner: type) -> Callable[P, AsyncIterator[T]]: ...

    def __get__(self, instance: Any, owner: type) -> Any:
        """The method of an object."""
        return self._method.__get__(instance, owner)


class loaded(Generic[T]):  # noqa: N801 - a decorator
    """Something that is fetched when it is asked for first, and kept: an attribute, or a coroutine method.

    Parameters
    ----------
    flow : callable
        Method that makes the flow.
    """

    def __init__(self, flow: Callable[[Any], Flow[T]]) -> None:
        key = f"kept {flow.__name__}"

        def load(instance: Any) -> Flow[T]:
            if key not in instance.__dict__:
                instance.__dict__[key] = yield from flow(instance)
            value: T = instance.__dict__[key]
            return value

        @functools.wraps(flow)
        def method(instance: Any) -> Any:
            return instance._driver.run(load(instance))  # noqa: SLF001

        self._method: Any = method
        self.__doc__ = flow.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> loaded[T]: ...
    @overload
    def __get__(self, instance: Blocking, owner: type) -> T: ...
    @overload
    def __get__(self, instance: Awaiting, owner: type) -> Callable[[], Coroutine[Any, Any, T]]: ...

    def __get__(self, instance: Any, owner: type) -> Any:
        """What was fetched, or the method that fetches it."""
        if instance is None:
            return self
        return self._method.__get__(instance, owner) if isinstance(instance, Awaiting) else self._method(instance)
