"""The pages of the shop, and the log-in of allauth headless for apps."""

from __future__ import annotations

from django.urls import include, path
from shop_site.urls import urlpatterns as shop

urlpatterns = [*shop, path("_allauth/", include("allauth.headless.urls")), path("accounts/", include("allauth.urls"))]
