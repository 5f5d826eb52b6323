"""The site: settings, embedded services, Celery app, commands of the whole platform. It knows all apps; none knows it."""
