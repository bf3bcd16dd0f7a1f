"""Django on its own server, with its default URL handling: django_site.py port."""

import logging
import sys
from pathlib import Path

from django.conf import settings
from django.http import HttpResponse
from django.urls import path, re_path

logging.disable()
settings.configure(
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="differential",
)


def served(route):
    return lambda request, **parts: HttpResponse(f"served:{route};")


def shop(request, id):
    return HttpResponse("served:vault;" if id == "secret" else "served:shop;")


from django.views.static import serve  # noqa: E402 (needs the settings)

urlpatterns = [
    path("", served("home")),
    path("about", served("about")),
    re_path(r"^public(?:/|$)", served("public")),
    re_path(r"^admin(?:/|$)", served("admin")),
    re_path(r"^dashboard(?:/|$)", served("dashboard")),
    path("api/private", served("private")),
    path("shop/<id>/edit", served("edit")),
    path("shop/<id>", shop),
    path("café", served("cafe")),
    re_path(r"^files/(?P<path>.*)$", serve, {"document_root": Path(__file__).parent / "files"}),
]

if __name__ == "__main__":
    import django
    from django.core.handlers.wsgi import WSGIHandler
    from django.core.servers.basehttp import WSGIRequestHandler, run

    django.setup()
    # Head and body are written apart: without this each answer waits for an acknowledgement.
    WSGIRequestHandler.disable_nagle_algorithm = True
    run("127.0.0.1", int(sys.argv[1]), WSGIHandler(), threading=True)
