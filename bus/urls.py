"""URLs of the bus. A project includes them at a prefix of its choice."""

from __future__ import annotations

from django.urls import include, path, re_path

from .api import fragments, operations
from .console import docs
from .console import views as console
from .contracts import views as contracts
from .mcp import door, metadata
from .pages import decisions

app_name = "bus"

urlpatterns = [
    path("", console.console, name="console"),
    path("login/", console.Login.as_view(), name="login"),
    path("logout/", console.Logout.as_view(), name="logout"),
    path("health", operations.health, name="health"),
    path("ready", operations.ready, name="ready"),
    path("version", operations.version, name="version"),
    path("docs/", docs.page, name="docs"),
    path("docs/llms.txt", contracts.llms_txt),
    re_path(r"^docs/(?P<name>[a-z-]{1,40})\.md$", docs.page, name="docs-page"),
    re_path(r"^docs/images/(?P<name>[a-z-]{1,40}\.(?:png|svg))$", docs.picture, name="docs-picture"),
    path("llms.txt", contracts.llms_txt, name="llms"),
    path("api/asyncapi.json", contracts.asyncapi_json, name="asyncapi-json"),
    path("api/asyncapi/", contracts.asyncapi_page, name="asyncapi"),
    path("decisions/", decisions.pending_decisions, name="pending-decisions"),
    path("decisions/<str:decision>/", decisions.decide, name="decide-on-page"),
    path("metrics", operations.metrics_page, name="metrics"),
    path("metrics/cluster", operations.cluster_metrics_page, name="cluster-metrics"),
    path("mcp", door.door, name="mcp"),
    path("mcp/", door.door),
    # Clients look for the document of `/mcp` here, or where the answer with status 401 says.
    path(".well-known/oauth-protected-resource", metadata.page, name="mcp-metadata"),
    path(".well-known/oauth-protected-resource/mcp", metadata.page),
    path("live/reload", fragments.reload, name="live-reload"),
    path("live/<str:look>/events", fragments.fragments, name="live"),
    path("api/", include("bus.api.urls")),
]
