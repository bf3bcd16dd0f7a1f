"""djangorestframework-simplejwt with rotation and blacklist: django_backend.py port database.

Beside its own views there are an API that wants a token (/api/orders), a login whose access token is for
another API (/api/token/elsewhere/), and what happened since the start (/stats).
"""

import logging
import os
import sys
import threading
import time
from datetime import timedelta

from django.conf import settings

logging.disable()
settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[2], "OPTIONS": {"timeout": 20}}
    },
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "rest_framework",
        "rest_framework_simplejwt.token_blacklist",
    ],
    # The tables as the models want them, at once, rather than by one migration after the other.
    MIGRATION_MODULES={"auth": None, "contenttypes": None, "token_blacklist": None},
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    REST_FRAMEWORK={"DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"]},
    ROOT_URLCONF=__name__,
    SECRET_KEY="a-public-test-key-do-not-use-0123456789",
    SIMPLE_JWT={
        "ACCESS_TOKEN_LIFETIME": timedelta(minutes=10),
        "REFRESH_TOKEN_LIFETIME": timedelta(days=30),
        "ROTATE_REFRESH_TOKENS": True,
        "BLACKLIST_AFTER_ROTATION": True,
        "AUDIENCE": "orders",
    },
    USE_TZ=True,
)

import django  # noqa: E402 (needs the settings)

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.servers.basehttp import WSGIRequestHandler, run  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework.decorators import api_view, authentication_classes, permission_classes  # noqa: E402
from rest_framework.permissions import IsAuthenticated  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework_simplejwt.authentication import JWTAuthentication  # noqa: E402
from rest_framework_simplejwt.backends import TokenBackend  # noqa: E402
from rest_framework_simplejwt.settings import api_settings  # noqa: E402
from rest_framework_simplejwt.tokens import RefreshToken  # noqa: E402
from rest_framework_simplejwt.views import (  # noqa: E402
    TokenBlacklistView,
    TokenObtainPairView,
    TokenRefreshView,
)

stats = {"attempts": 0, "redemptions": 0, "refused": 0, "reuses": 0}
spent = set()
lock = threading.Lock()


class CountedRefreshView(TokenRefreshView):
    """The library's own view, and what came of each request."""

    def post(self, request, *args, **kwargs):
        token = request.data.get("refresh")
        with lock:
            stats["attempts"] += 1
        try:
            answer = super().post(request, *args, **kwargs)
        except Exception:
            with lock:
                stats["refused"] += 1
                stats["reuses"] += token in spent
            raise
        with lock:
            stats["redemptions"] += 1
            spent.add(token)
        return answer


@api_view(["POST"])
def login_elsewhere(request):
    """A pair whose access token, of a minute ago, is good for another API only."""
    refresh = RefreshToken.for_user(User.objects.get(username=request.data["username"]))
    other = TokenBackend("HS256", api_settings.SIGNING_KEY, audience="invoices")
    access = other.encode({**refresh.access_token.payload, "iat": int(time.time()) - 60})
    return Response({"access": access, "refresh": str(refresh)})


@api_view(["GET"])
@authentication_classes([JWTAuthentication])
@permission_classes([IsAuthenticated])
def orders(request):
    return Response({"user": request.user.get_username()})


@api_view(["GET"])
def told(request):
    return Response(stats)


urlpatterns = [
    path("api/token/", TokenObtainPairView.as_view()),
    path("api/token/refresh/", CountedRefreshView.as_view()),
    path("api/token/blacklist/", TokenBlacklistView.as_view()),
    path("api/token/elsewhere/", login_elsewhere),
    path("api/orders", orders),
    path("stats", told),
]

if __name__ == "__main__":
    if not os.path.exists(sys.argv[2]):
        call_command("migrate", run_syncdb=True, verbosity=0)
        User.objects.create_user("ada", password="demo")
    # Head and body are written apart: without this each answer waits for an acknowledgement.
    WSGIRequestHandler.disable_nagle_algorithm = True
    run("127.0.0.1", int(sys.argv[1]), WSGIHandler(), threading=True)
