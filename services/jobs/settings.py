"""What a deployer may set of jobs."""

from pydantic import Field, SecretStr

from services.deployment_args import Cpus, DeploymentArgs, Ongoing


class JobsArgs(DeploymentArgs):
    """The jobs, which one replica keeps and has drawn; see docs/jobs.md."""

    num_cpus: Cpus = 0.05
    max_ongoing_requests: Ongoing = 1000
    database: SecretStr | None = Field(
        None,
        description="where jobs are kept: `sqlite:////var/lib/latentworks/jobs.sqlite3`, or "
        "`postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`, see docs/jobs.md; unset: `jobs/jobs.sqlite3` in the "
        "registry's home",
    )
    at_once: int = Field(4, ge=1, le=1000, description="how many are drawn at a time; others wait in the store")
    most_queued: int = Field(1000, ge=0, le=10**6, description="how many may wait; over it comes 429")
    most: int = Field(
        10_000, ge=1, le=10**7, description="how many are kept, ended ones too; those that ended first make room"
    )
    most_bytes: int = Field(
        2**30, ge=0, le=2**50, description="the most bytes of their requests and pictures; the same make room"
    )
    keep_s: float = Field(86_400, gt=0, le=10**9, description="seconds for which a job is kept once it has ended")
    webhook_attempts: int = Field(
        8, ge=1, le=50, description="how often a job's end is told to a webhook that does not answer with 2xx"
    )
    webhook_http: bool = Field(False, description="whether webhooks may be `http:` too")
    webhook_private: bool = Field(
        False, description="whether webhooks may lead to private and loopback addresses; never to link-local ones"
    )
