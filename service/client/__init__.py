"""Ask a Quartermaster service from Python: ``Client`` blocks, ``AsyncClient`` is awaited; both are typed and try again.

from service.client import Client

with Client("http://127.0.0.1:8080") as client:
    run = client.solve("placement", problem, limits={"time_limit_s": 10})
    if run.has_plan:
        plan = client.plan(run.id)
"""

from service.client.awaited import AsyncClient
from service.client.blocking import Client
from service.client.errors import (
    BadAnswer,
    ClientError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    ServiceFault,
    TooMany,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from service.client.operations import ProgramFile
from service.client.studies import AsyncStudy, Study
from service.client.views import (
    CertificateView,
    ConflictView,
    EventView,
    FindingView,
    FullProblemView,
    GoalView,
    KindView,
    LimitsView,
    ListedKindView,
    MetricsView,
    ProblemView,
    ReasonView,
    RuleView,
    RunView,
    StepView,
    StudyLineView,
    StudyRowView,
    StudyTableView,
    StudyView,
    ValidityView,
)

__all__ = [
    "AsyncClient",
    "AsyncStudy",
    "BadAnswer",
    "CertificateView",
    "Client",
    "ClientError",
    "Conflict",
    "ConflictView",
    "EventView",
    "FindingView",
    "Forbidden",
    "FullProblemView",
    "GoalView",
    "Invalid",
    "KindView",
    "LimitsView",
    "ListedKindView",
    "MetricsView",
    "NotFound",
    "ProblemView",
    "ProgramFile",
    "ReasonView",
    "RuleView",
    "RunView",
    "ServiceFault",
    "StepView",
    "Study",
    "StudyLineView",
    "StudyRowView",
    "StudyTableView",
    "StudyView",
    "TooMany",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "ValidityView",
]
