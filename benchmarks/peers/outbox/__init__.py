"""django-celery-outbox: Celery's calls as rows that a relay publishes and then deletes."""
