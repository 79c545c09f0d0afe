"""The smallest Django site, run by Django's own development server."""

import os
import sys

from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.urls import path
from web import work

settings.configure(DEBUG=True, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY=os.urandom(8).hex())
urlpatterns = [path("", lambda _request: HttpResponse(work(), content_type="application/json"))]

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
