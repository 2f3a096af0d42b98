"""Settings of the whole service: one frozen object, from the environment or a file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from service import threads
from service.network import is_loopback

__all__ = ["OwnerLimits", "RemoteRefcat", "Settings", "SourceBucket"]

_MIB = 1 << 20
_GIB = 1 << 30

Seconds = Annotated[float, Field(gt=0)]
RefcatName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class RemoteRefcat(BaseModel):
    """A reference catalogue on another host, which jobs may name like one of the store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["scs", "tap"] = Field(description="Protocol: simple cone search, or ADQL by TAP.")
    url: str = Field(description="Address of the cone search, or base of the TAP service; https.")
    columns: dict[str, str] = Field(
        description="Our columns (ra, dec, id, pmra, <band>_mag ...) to theirs; others are not asked for."
    )
    table: str | None = Field(None, description="TAP only: the table, as ADQL writes it.")
    epoch: float | None = Field(None, gt=1800, lt=2200, description="Epoch where no column has it [Julian year].")
    magnitude_offsets: dict[str, float] = Field({}, description="By band, AB minus the magnitudes of the catalogue.")
    release: str = Field("", max_length=200, description="Version, for provenance; another one is fetched anew.")
    tile_order: int = Field(6, ge=0, le=14, description="HEALPix order of the tiles asked for; 6 is 0.84 deg2.")
    max_rows: int = Field(1_000_000, ge=1, description="An answer of so many rows counts as cut short.")
    connect_timeout: Seconds = Field(5.0, description="Limit of a connection [s].")
    read_timeout: Seconds = Field(30.0, description="Limit of each silence [s].")
    deadline: Seconds = Field(120.0, description="Limit of one answer [s].")
    total: Seconds = Field(300.0, description="After so long with requests a job asks for no more [s].")
    max_bytes: int = Field(256 * _MIB, ge=1, description="Largest answer [bytes].")
    failures: int = Field(3, ge=1, description="Failures in a row after which the service is left alone.")
    rest: Seconds = Field(60.0, description="Time for which it is left alone [s].")
    allow_http: bool = Field(False, description="Whether it may be asked without TLS.")
    allow_private: bool = Field(False, description="Whether its host may have an address that is not public.")


class SourceBucket(BaseModel):
    """A bucket whose objects owners may name as exposures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: str = Field("", description="Only keys that begin so.")
    owners: tuple[str, ...] = Field((), description="Who may name its objects; empty for all.")
    endpoint: str | None = Field(
        None, pattern=r"^https?://[^/?#@]+/?$", description="URL of an S3-compatible service. Default: AWS."
    )
    region: str = Field("us-east-1", description="Region.")
    path_style: bool = Field(True, description="Whether the bucket is in the path, not in the host name.")
    access_key_id: SecretStr | None = Field(None, description="Key pair. Default: the AWS environment.")
    secret_access_key: SecretStr | None = Field(None, description="Its secret.")

    @model_validator(mode="after")
    def _check_pair(self) -> SourceBucket:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key go together")
        return self


class OwnerLimits(BaseModel):
    """What one owner may do, where it is not what all may do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_running: int | None = Field(None, ge=0, description="Jobs that may run at a time; 0 stops the owner's queue.")
    max_queued: int | None = Field(None, ge=0, description="Jobs that may wait at a time.")
    quota_bytes: int | None = Field(None, ge=0, description="Disk that exposures and products may take [bytes].")
    max_priority: int | None = Field(None, ge=0, le=100, description="Highest priority of a job.")


class Settings(BaseSettings):
    """Everything that an operator can choose.

    Values come, first wins, from keyword arguments, environment variables ``VISITCAL_<NAME>``, and the TOML file
    that ``VISITCAL_CONFIG_FILE`` names. With nothing set the service keeps all it has in one data directory.
    """

    model_config = SettingsConfigDict(env_prefix="VISITCAL_", frozen=True, extra="forbid", env_ignore_empty=True)

    # Where things are kept
    data_dir: Path = Field(Path("visitcal-data"), description="Directory of databases, blobs, references and caches.")
    database_url: SecretStr | None = Field(
        None,
        description="SQLAlchemy URL of the jobs database: sqlite:///FILE or postgresql+psycopg://... "
        "Default: visitcal.sqlite in the data directory.",
    )
    queue_database_url: SecretStr | None = Field(
        None,
        description="SQLAlchemy URL of the delivery engine's own database. Default: queue.sqlite in the data "
        "directory; with a PostgreSQL jobs database, that database.",
    )
    kernel_cache_dir: Path | None = Field(
        None,
        description="Directory of compiled kernels, which survives restarts; in it one for each state of the sources. "
        "Default: inside the data directory.",
    )
    kernel_image_dir: Path | None = Field(
        None,
        description="Directory of kernels that were compiled beforehand, as in an image; it may be read-only. "
        "A worker whose cache is empty begins with a copy.",
    )
    kernel_cpu: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9._-]{0,49}$",
        description="Processor that kernels are compiled for, as LLVM names it: x86-64-v3, generic. Default: the "
        "host's own, which is also taken where it has not what an x86-64 level asks for.",
    )

    # Blobs: the files by content, in the data directory unless on S3
    blob_url: str | None = Field(
        None,
        pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_][A-Za-z0-9._-]*)*/?$",
        description="s3://BUCKET/PREFIX keeps blobs in a bucket (extra `s3`). Default: in the data directory.",
    )
    s3_endpoint: str | None = Field(
        None, pattern=r"^https?://[^/?#@]+/?$", description="URL of an S3-compatible service. Default: AWS."
    )
    s3_region: str | None = Field(None, description="Region. Default: AWS_REGION, AWS_DEFAULT_REGION, or us-east-1.")
    s3_access_key_id: SecretStr | None = Field(
        None, description="Key pair of the bucket. Default: the AWS environment: variables, web identity, or a role."
    )
    s3_secret_access_key: SecretStr | None = Field(None, description="Its secret.")
    s3_session_token: SecretStr | None = Field(None, description="Goes with a temporary pair.")
    s3_path_style: bool = Field(True, description="Whether the bucket is in the path, not in the host name.")
    s3_timeout: Seconds = Field(30.0, description="Longest silence of S3 before a request counts as failed [s].")
    blob_cache_bytes: int = Field(
        20 * _GIB, ge=0, description="Local copies of blobs on S3, those used last [bytes]; 0 keeps none."
    )
    presign_downloads: bool = Field(
        False, description="Whether products are fetched from S3 itself: 307 to an address signed for a short time."
    )
    presign_seconds: int = Field(300, ge=10, le=604_800, description="Life of such an address [s].")

    # Pictures, tiles and compressed copies of images: made when asked for, and kept
    image_cache_bytes: int = Field(
        10 * _GIB, ge=0, description="Disk that they take, those used last [bytes]; 0 keeps none."
    )
    image_threads: int = Field(4, ge=1, le=64, description="Pictures and tiles that one API process draws at a time.")
    image_builds: int = Field(
        1, ge=1, le=16, description="Tile pyramids and compressed copies that one API process makes at a time."
    )
    max_compressed_pixels: int = Field(
        100_000_000,
        gt=0,
        description="Largest plane that is compressed, or exposure that is read whole, on request [pixels]; "
        "it takes about 16 bytes of memory a pixel.",
    )

    # HTTP
    host: str = Field("127.0.0.1", description="Address on which the API listens.")
    port: int = Field(8470, ge=0, le=65535, description="Port on which the API listens; 0 takes a free one.")
    root_url: str | None = Field(None, description="Public URL of the API where a proxy stands in front of it.")
    local_owner: str = Field("local", min_length=1, description="Owner of everything that is done without a token.")
    max_upload_bytes: int = Field(2 * _GIB, gt=0, description="Largest file that is accepted [bytes].")
    upload_silence: Seconds = Field(60.0, description="Longest silence of a client in the middle of a body [s].")
    min_upload_rate: int = Field(
        1024, ge=0, description="Bytes that a client sends per second at least, over any `upload_silence` [bytes/s]."
    )
    max_pixels: int = Field(200_000_000, gt=0, description="Largest image that is accepted [pixels].")
    max_wait: Seconds = Field(50.0, description="Longest long poll [s]; clients cap theirs at 60.")
    watch_interval: Seconds = Field(0.25, description="Time between two looks for changed jobs, for all waiters [s].")
    idempotency_hours: float = Field(24.0, gt=0, description="Time for which an Idempotency-Key is remembered [h].")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Lowest level that is logged.")
    log_format: Literal["text", "json"] = Field("text", description="Lines for people, or a JSON object each.")

    # Uploads in parts
    upload_hours: float = Field(24.0, gt=0, description="Life of an unfinished upload after its last byte [h].")
    max_owner_uploads: int = Field(100, ge=1, description="Unfinished uploads of one owner, fetches included.")

    # Sources: files that are fetched from where their owners say
    source_threads: int = Field(
        2, ge=0, le=64, description="Files that one worker fetches at a time; 0: other workers fetch them."
    )
    source_per_owner: int = Field(1, ge=1, description="Files of one owner that are fetched at a time.")
    source_allow_http: bool = Field(False, description="Whether files may be fetched without TLS.")
    source_allow_private: bool = Field(
        False, description="Whether files may be fetched from addresses that are not public."
    )
    source_ports: tuple[int, ...] = Field(
        (80, 443, 8080, 8443), description="Ports that files may be fetched from; empty for any."
    )
    source_redirects: int = Field(
        5, ge=0, le=20, description="Redirections that are followed; each address is judged like the first."
    )
    source_silence: Seconds = Field(30.0, description="Longest silence of a host in the middle of a file [s].")
    source_deadline: Seconds = Field(3600.0, description="Limit of one fetch [s].")
    source_attempts: int = Field(3, ge=1, le=20, description="Attempts before a fetch is given up.")
    source_pause: Seconds = Field(5.0, description="Pause after a failed attempt; each is three times as long [s].")
    source_poll: Seconds = Field(1.0, description="Time between two looks for files to fetch [s].")
    source_buckets: dict[str, SourceBucket] = Field(
        {},
        description="Buckets whose objects may be named as s3://BUCKET/KEY: tables [source_buckets.NAME] of the file, "
        "or JSON in the environment.",
    )

    # Operations
    metrics_token: SecretStr | None = Field(
        None,
        min_length=16,
        description="Bearer that opens /metrics and nothing else, where tokens are required; administrators may too.",
    )
    ready_free_bytes: int = Field(256 * _MIB, ge=0, description="Free disk below which /readyz says 503 [bytes].")
    ready_queue_seconds: Seconds = Field(
        120.0, description="Wait of a job, while no worker is alive, above which /readyz says 503 [s]."
    )

    # Events
    event_queue_size: int = Field(
        256, ge=1, le=100_000, description="Events that may wait for a slow client before its stream ends."
    )
    max_event_streams: int = Field(2000, ge=1, description="Event streams that one API process serves at a time.")
    max_owner_event_streams: int = Field(1000, ge=1, description="Those of them that one owner may have.")
    event_heartbeat: Seconds = Field(15.0, description="Longest silence of an event stream [s].")
    event_stream_time: Seconds = Field(
        3600.0, description="Life of an event stream [s]; the client comes again, and is asked again who it is."
    )

    # Who may ask
    require_tokens: bool = Field(
        False, description="Whether each request needs a token; without, the API listens on loopback only."
    )
    token_days: float = Field(90.0, gt=0, le=36_500, description="Life of a token that does not say its own [days].")
    max_token_days: float = Field(
        365.0, gt=0, le=36_500, description="Longest life that a client may ask for [days]; the operator may give more."
    )
    max_tokens: int = Field(100, ge=1, description="Valid tokens of one owner.")
    max_auth_failures: int = Field(
        20, ge=1, le=10_000, description="Refused tokens of one address in a minute, after which it has to wait."
    )
    oidc_issuer: str | None = Field(
        None, description="OpenID Connect issuer whose bearers are taken beside tokens: its https address, exactly."
    )
    oidc_audience: str | None = Field(None, description="What `aud` of a bearer must have: this service's name there.")
    oidc_jwks_url: str | None = Field(
        None, description="Address of the issuer's keys where discovery does not name one on the issuer's own host."
    )
    oidc_owner_claim: str = Field("sub", min_length=1, description="Claim that names the owner.")
    oidc_owner_prefix: str = Field(
        "oidc:", max_length=50, description="Put before it, so that nobody at the issuer can choose an owner of ours."
    )
    oidc_scopes_claim: str = Field("scope", min_length=1, description="Claim with the scopes: a list, or one text.")
    oidc_scope_prefix: str = Field("visitcal:", description="What our scopes begin with there: visitcal:submit ...")

    # Instruments
    instruments_dir: Path | None = Field(
        None,
        description="Directory of the operator's instrument presets (*.yaml), beside the shipped ones; read at start.",
    )

    # Reference catalogues
    remote_refcats: dict[RefcatName, RemoteRefcat] = Field(
        {},
        description="Catalogues on other hosts by name: tables [remote_refcats.NAME] of the file, or JSON in the "
        "environment. Clients name them; they never give an address.",
    )

    # Webhooks: messages about jobs to hosts that their owners name
    webhook_threads: int = Field(
        2, ge=0, le=64, description="Messages that one worker sends at a time; 0: other workers send them."
    )
    webhook_allow_http: bool = Field(False, description="Whether messages may be sent without TLS.")
    webhook_allow_private: bool = Field(
        False, description="Whether messages may go to addresses that are not public: loopback, private networks."
    )
    webhook_ports: tuple[int, ...] = Field(
        (80, 443, 8080, 8443), description="Ports that messages may be sent to; empty for any."
    )
    webhook_timeout: Seconds = Field(10.0, description="Limit of one delivery from name look-up to answer [s].")
    webhook_attempts: int = Field(12, ge=1, le=50, description="Attempts before a message is given up.")
    webhook_first_pause: Seconds = Field(
        5.0, description="Pause after the first failed attempt [s]; each further one is three times as long."
    )
    webhook_longest_pause: Seconds = Field(6 * 3600.0, description="Longest pause between two attempts [s].")
    webhook_poll: Seconds = Field(1.0, description="Time between two looks for messages that are due [s].")
    webhook_overlap_hours: float = Field(
        24.0, ge=0, description="Time for which a replaced secret signs beside its successor [h]."
    )

    # Limits of a job
    time_limit: Seconds = Field(900.0, description="Time that a job may run unless it asks for less [s].")
    max_time_limit: Seconds = Field(7200.0, description="Longest time limit that a job may ask for [s].")
    memory_limit_bytes: int = Field(
        4 * _GIB, ge=64 * _MIB, description="Memory that a job may take on top of the idle child process [bytes]."
    )
    max_attempts: int = Field(3, ge=1, le=20, description="Attempts before a job whose process dies is given up.")
    max_job_pixels: int = Field(
        400_000_000, gt=0, description="Largest job that is accepted, all its images together [pixels]."
    )
    memory_bytes_per_pixel: float = Field(
        40.0,
        ge=0,
        description="Memory that a job takes by the pixels of one image; one that would pass its memory limit is not "
        "accepted [bytes]. 0 leaves it to the limit itself.",
    )
    # Limits of an owner: of all of them, and of those that are named
    max_running_jobs: int | None = Field(None, ge=0, description="Jobs of one owner that may run at a time.")
    max_queued_jobs: int = Field(
        20_000, ge=1, description="Jobs of one owner that may wait at a time, held and pending ones included."
    )
    quota_bytes: int | None = Field(
        None, ge=0, description="Disk that the exposures and products of one owner may take [bytes]."
    )
    max_priority: int = Field(100, ge=0, le=100, description="Highest priority that an owner may ask for.")
    owner_limits: dict[str, OwnerLimits] = Field(
        {}, description="Other limits by owner: tables [owner_limits.NAME] of the file, or JSON in the environment."
    )

    # Life of results
    destruction_days: float = Field(30.0, ge=0, description="Default life of a job's results [days]; 0 keeps them.")

    # Batches
    max_batch: int = Field(1000, ge=1, le=10_000, description="Jobs that one batch may have.")

    # Retention
    max_destruction_days: float = Field(
        0.0, ge=0, description="Longest life of results that a job may ask for [days]; 0 sets no limit."
    )
    pending_hours: float = Field(
        24.0, gt=0, description="Time after which a job that was made and never started is aborted [h]."
    )
    exposure_days: float = Field(
        0.0, ge=0, description="Days after which an exposure that nobody uses is removed; 0 keeps them."
    )
    message_days: float = Field(30.0, gt=0, description="Days for which webhook messages that are done are kept.")
    sweep: Seconds = Field(300.0, description="Time between two sweeps for what has had its time [s].")
    blob_grace: Seconds = Field(
        3600.0,
        description="Time for which a stored file that nothing refers to is kept [s]; longer than anybody takes from "
        "the last byte of a file to its record.",
    )

    # Worker
    embedded_worker: bool | None = Field(
        None,
        description="Whether the server starts a worker process beside the API. Default: where it listens on loopback.",
    )
    slots: int = Field(1, ge=1, le=256, description="Jobs that one worker runs at a time.")
    threads_per_job: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Threads that work on one job where it can be divided; results do not depend on it. Default: the "
        "processors divided by `slots`, 1 to 4. A second thread shortens a job, a second slot does more of them.",
    )
    lease: Seconds = Field(12.0, description="Time after which a silent worker counts as dead [s].")
    heartbeat: Seconds = Field(2.0, description="Time between two signs of life and progress reports [s].")
    reconcile: Seconds = Field(2.0, description="Time between two looks for lost jobs [s].")
    cancel_poll: Seconds = Field(0.3, description="Time between two looks for cancelled jobs [s].")
    queue_poll: Seconds = Field(0.25, description="Time between two looks into the queue [s].")
    queue_poll_called: Seconds = Field(
        1.0, description="The same where the database (PostgreSQL) calls workers when there is work [s]."
    )
    shutdown_grace: Seconds = Field(
        20.0, description="Time that running jobs get at shutdown before being handed back."
    )
    alive_file: Path | None = Field(
        None,
        description="File that a worker touches every 5 s from when it is ready, and removes as it ends; its directory "
        "must exist. For supervisors: a worker listens nowhere.",
    )
    child_start_timeout: Seconds = Field(900.0, description="Time that a child process may take to warm up [s].")
    max_jobs_per_child: int = Field(100, ge=1, description="Jobs after which a child process is replaced.")
    child_memory_mark_bytes: int = Field(
        1536 * _MIB, gt=0, description="Resident memory of an idle child above which it is replaced [bytes]."
    )
    task: str = Field(
        "service.jobs.pipeline:run_job",
        pattern=r"^[\w.]+:\w+$",
        description="What a child process runs, as module:function. Tests put their own here.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then environment, then the file named by ``VISITCAL_CONFIG_FILE``."""
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        file = os.environ.get("VISITCAL_CONFIG_FILE")
        if not file:
            return sources
        if not Path(file).is_file():
            raise FileNotFoundError(f"VISITCAL_CONFIG_FILE names {file}, which is not a file")
        return (*sources, TomlConfigSettingsSource(settings_cls, toml_file=file))

    @model_validator(mode="after")
    def _check_times(self) -> Settings:
        if self.lease < 2 * self.heartbeat:
            raise ValueError("lease must be at least twice the heartbeat, or a busy worker counts as dead")
        if self.time_limit > self.max_time_limit:
            raise ValueError("time_limit is above max_time_limit")
        return self

    @model_validator(mode="after")
    def _check_issuer(self) -> Settings:
        if (self.oidc_issuer is None) != (self.oidc_audience is None):
            raise ValueError("oidc_issuer and oidc_audience belong together: without the one the other says nothing")
        return self

    @model_validator(mode="after")
    def _check_bucket(self) -> Settings:
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            raise ValueError("s3_access_key_id and s3_secret_access_key go together")
        if self.presign_downloads and self.blob_url is None:
            raise ValueError("presign_downloads needs blob_url: a directory serves nobody")
        return self

    @model_validator(mode="after")
    def _check_names(self) -> Settings:
        if "none" in self.remote_refcats:
            raise ValueError("remote_refcats: the name 'none' stands for no catalogue")
        return self

    @property
    def starts_worker(self) -> bool:
        """Whether the server starts a worker process beside the API."""
        return is_loopback(self.host) if self.embedded_worker is None else self.embedded_worker

    @property
    def threads_of_a_job(self) -> int:
        """Threads that work on one job."""
        return self.threads_per_job or threads.sensible(self.slots)

    @property
    def jobs_url(self) -> str:
        """URL of the jobs database."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.data_dir.absolute() / 'visitcal.sqlite'}"

    @property
    def queue_url(self) -> str:
        """URL of the delivery engine's database."""
        if self.queue_database_url is not None:
            return self.queue_database_url.get_secret_value()
        if not self.jobs_url.startswith("sqlite"):
            return self.jobs_url
        return f"sqlite:///{self.data_dir.absolute() / 'queue.sqlite'}"

    @property
    def blob_dir(self) -> Path:
        """Content-addressed files; with S3 only those on their way."""
        return self.data_dir / "blobs"

    @property
    def blob_cache_dir(self) -> Path:
        """Local copies of blobs on S3."""
        return self.data_dir / "blob-cache"

    @property
    def image_cache_dir(self) -> Path:
        """Pictures, tile pyramids and compressed copies of images."""
        return self.data_dir / "image-cache"

    @property
    def refcat_dir(self) -> Path:
        """Reference catalogues."""
        return self.data_dir / "refcats"

    @property
    def tile_dir(self) -> Path:
        """Tiles of remote reference catalogues."""
        return self.data_dir / "refcat-tiles"

    @property
    def scratch_dir(self) -> Path:
        """Files of running jobs; emptied as they end."""
        return self.data_dir / "scratch"

    @property
    def numba_cache_dir(self) -> Path:
        """Compiled kernels: as set, else where numba's own variable says, else in the data directory."""
        if self.kernel_cache_dir is not None:
            return self.kernel_cache_dir
        given = os.environ.get("NUMBA_CACHE_DIR")
        return Path(given) if given else self.data_dir / "kernel-cache"

    def environment(self) -> dict[str, str]:
        """Environment variables that give another process these very settings."""
        values: dict[str, Any] = self.model_dump(exclude_none=True)
        return {f"VISITCAL_{name.upper()}": _as_text(value) for name, value in values.items()}


def _as_text(value: Any) -> str:
    """A value as an environment variable has it."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return json.dumps(value, default=_as_text) if isinstance(value, dict | list | tuple) else str(value)
