"""What is measured, by target (`docs/performance.md`).

Some of it runs an action here, as a worker does, and what runs an action knows the models: so Django is set up first.
"""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "noetl_site.settings")
django.setup()
