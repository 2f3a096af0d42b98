"""Tokens, by the operator: on the database itself, so that the first one can be made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from visitcal.errors import VisitcalError
from visitcal.exit_codes import EXIT_OK
from visitcal.options import OptionError

if TYPE_CHECKING:
    import argparse
    from datetime import datetime

    from service.settings import Settings
    from service.storage import Storage
    from service.storage.records import TokenRecord
    from visitcal.output import Output

__all__ = ["run"]


def run(options: argparse.Namespace, output: Output) -> int:
    """Run one of the actions.

    Raises
    ------
    VisitcalError
        The database is not there.
    OptionError
        There is no such token, or there are too many.
    """
    from service.settings import Settings
    from service.storage import Storage
    from service.storage.errors import NotFoundError, StorageUnavailableError, TooManyError

    settings = Settings() if options.data_dir is None else Settings(data_dir=options.data_dir)
    actions = {"create": _create, "list": _list, "revoke": _revoke}
    try:
        storage = Storage(settings)
        try:
            storage.check()
            actions[options.action](options, storage, settings, output)
        finally:
            storage.close()
    except StorageUnavailableError as error:
        raise VisitcalError(f"{error}: is the database there, and did visitcal migrate run?") from error
    except (NotFoundError, TooManyError) as error:
        raise OptionError(str(error)) from error
    return EXIT_OK


def _create(options: argparse.Namespace, storage: Storage, settings: Settings, output: Output) -> None:
    """The token alone goes to standard output, so that it can be piped to where it is kept."""
    from service.identity.principal import effective
    from service.identity.tokens import Tokens
    from service.storage.records import Scope

    days = None if options.no_expiry else settings.token_days if options.days is None else options.days
    owner = options.owner or settings.local_owner
    record, text = Tokens(storage, settings).create(
        Scope(owner), name=options.name, permissions=effective(options.scope or ["read"]), days=days
    )
    if output.is_json:
        output.document({**_document(record), "token": text})
        return
    output.say(text)
    ends = "does not expire" if record.expires_at is None else f"expires {_day(record.expires_at)}"
    output.complain(
        f"{record.id} of {record.owner}: {', '.join(record.scopes)}; {ends}. It is shown this once: keep it where "
        "nobody else reads, as in $VISITCAL_TOKEN or a file for --token-file."
    )


def _list(options: argparse.Namespace, storage: Storage, _settings: Settings, output: Output) -> None:
    from service.storage.records import Scope

    records = storage.tokens.list(Scope(options.owner) if options.owner else Scope.everything())
    if output.is_json:
        output.document([_document(record) for record in records])
        return
    for record in records:
        ends = f"until {_day(record.expires_at)}" if record.expires_at else "without end"
        state = f"revoked {_day(record.revoked_at)}" if record.revoked_at else ends
        used = f"used {_day(record.last_used_at)}" if record.last_used_at else "never used"
        output.say(f"{record.id}  {record.owner}  {record.scopes[-1]}  {state}  {used}  {record.name}")


def _revoke(options: argparse.Namespace, storage: Storage, _settings: Settings, output: Output) -> None:
    from service.storage.records import Scope

    ended = storage.tokens.revoke(Scope.everything(), options.id)
    if output.is_json:
        output.document({"revoked": list(ended)})
    for token_id in ended:
        output.say(f"revoked {token_id}")


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


def _document(record: TokenRecord) -> dict[str, Any]:
    """What the HTTP interface answers, too."""
    from api.schemas.tokens import TokenDocument

    return TokenDocument.of(record).model_dump(mode="json")
