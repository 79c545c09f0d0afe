"""The Django service for servers that import an ASGI application by its name, such as Daphne."""

from django.core.asgi import get_asgi_application

application = get_asgi_application()
