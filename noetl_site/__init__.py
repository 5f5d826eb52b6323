"""The site: settings, embedded services, Celery app, commands of the whole platform. No app knows it."""
