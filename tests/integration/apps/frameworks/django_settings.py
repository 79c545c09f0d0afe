"""Settings of the Django service."""

SECRET_KEY = "made up"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "django_app"
MIDDLEWARE = []
