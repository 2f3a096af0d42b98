"""Who asks, and with which services."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Path, Request

from api.access import Owner, Reach
from api.job_reader import JobReader
from api.problems import Problem, things
from service.storage.products import PRODUCTS, canonical_product
from service.storage.records import JobHead, JobRecord, Phase, Scope

if TYPE_CHECKING:
    from fastapi.dependencies.models import Dependant

    from api.image_work import ImageWork
    from service.identity.authenticator import Authenticator
    from service.jobs.batches import Batches
    from service.jobs.night_report import Nights
    from service.jobs.submission import Submissions
    from service.jobs.uploads import Uploads
    from service.jobs.watch import JobWatcher
    from service.settings import Settings
    from service.storage import Storage

__all__ = [
    "Job",
    "JobId",
    "Owner",
    "Product",
    "ProductName",
    "Reach",
    "Services",
    "Using",
    "find_head",
    "find_job",
    "missing_product",
    "product_problem",
    "refuse_unknown_parameters",
]


@dataclass(frozen=True, slots=True)
class Services:
    """What handlers work with.

    Parameters
    ----------
    settings : Settings
        As the operator chose.
    identity : Authenticator
        Says who asks.
    storage : Storage
        Databases and files.
    submissions : Submissions
        The way into the queue.
    batches : Batches
        The same for many jobs at once.
    watcher : JobWatcher
        Tells when a job has changed.
    reader : JobReader
        Jobs as many clients ask for them at a time.
    images : ImageWork
        Pictures, tiles and cut-outs.
    uploads : Uploads
        Files that come in parts.
    nights : Nights
        Exposures of a night against those before.
    """

    settings: Settings
    identity: Authenticator
    storage: Storage
    submissions: Submissions
    batches: Batches
    watcher: JobWatcher
    reader: JobReader
    images: ImageWork
    uploads: Uploads
    nights: Nights


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


#: Where a standard says that parameters which are not known must be ignored: Simple Cone Search, section 2.
_IGNORING = frozenset({"/scs"})


async def refuse_unknown_parameters(request: Request) -> None:
    """Refuse query parameters that the address does not know: a slip of the pen must not choose everything.

    Raises
    ------
    Problem
        ``request.invalid``.
    """
    route = request.scope["route"]
    if route.path in _IGNORING:
        return
    known = _query_parameters(route.dependant)
    unknown = [name for name in dict.fromkeys(request.query_params.keys()) if name not in known]
    if unknown:
        errors = [{"parameter": name, "detail": "is not known here", "code": "unknown_parameter"} for name in unknown]
        hint = f"Known are {', '.join(sorted(known))}." if known else "This address takes no parameters."
        raise Problem("request.invalid", things(len(errors), "request"), errors=errors, hint=hint)


def _query_parameters(dependant: Dependant) -> set[str]:
    names = {field.alias for field in dependant.query_params}
    return names.union(*(_query_parameters(inner) for inner in dependant.dependencies))


Using = Annotated[Services, Depends(_services)]


JobId = Annotated[str, Path(max_length=100, description="Job id.", examples=["job_01m3t8k2c4w9x5y7z0a1b2c3d4"])]


async def find_head(services: Services, owner: Scope, job_id: str) -> JobHead:
    """Version and phase of a job of the asker.

    Raises
    ------
    Problem
        ``job.not_found``, also for somebody else's.
    """
    head = await services.reader.head(owner, job_id)
    if head is None:
        raise Problem("job.not_found", f"There is no job {job_id}.")
    return head


def find_job(services: Services, owner: Scope, job_id: str) -> JobRecord:
    """A job of the asker.

    Raises
    ------
    Problem
        ``job.not_found``, also for somebody else's.
    """
    job = services.storage.jobs.get(owner, job_id)
    if job is None:
        raise Problem("job.not_found", f"There is no job {job_id}.")
    return job


def _job(services: Using, owner: Reach, job_id: JobId) -> JobRecord:
    return find_job(services, owner, job_id)


Job = Annotated[JobRecord, Depends(_job)]


class ProductName(str):
    """Id of a product, which remembers what it was called by who asked.

    Parameters
    ----------
    asked : str
        The id or the short name.

    Raises
    ------
    KeyError
        No product of that name.
    """

    __slots__ = ("asked",)
    asked: str

    def __new__(cls, asked: str) -> ProductName:
        """The product of a name."""
        name = super().__new__(cls, canonical_product(asked))
        name.asked = asked
        return name


async def _product(
    product: Annotated[
        str,
        Path(max_length=100, description="Product id or short name.", examples=["stars", "preliminary_visit_image"]),
    ],
) -> ProductName:
    try:
        return ProductName(product)
    except KeyError:
        raise Problem("product.unknown", f"No product is called {product}.") from None


Product = Annotated[ProductName, Depends(_product)]


def product_problem(code: str, product: str, sentence: str, **extra: Any) -> Problem:
    """A problem of a product: ``{}`` in the sentence is the name that was asked for, and the id is a member."""
    asked = product.asked if isinstance(product, ProductName) else product
    return Problem(code, sentence.format(asked), product=str(product) if product in PRODUCTS else None, **extra)


def missing_product(job: JobRecord, product: str) -> Problem:
    """Why a job has no such product: not yet, no longer, or never."""
    if job.phase is Phase.ARCHIVED:
        return Problem("job.gone", f"The products of job {job.id} have been removed.", job_id=job.id)
    code, sentence = "job.not_ready", f"Job {job.id} is {job.phase} and has no {{}} yet."
    if job.is_terminal:
        code, sentence = "product.not_made", f"Job {job.id} ended without {{}}."
    return product_problem(code, product, sentence, job_id=job.id, phase=job.phase)
